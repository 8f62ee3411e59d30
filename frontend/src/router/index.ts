/** The page's addresses. */
import type { Router } from 'vue-router'
import { createRouter, createWebHistory } from 'vue-router'

import { localPath } from '@/domain/localPath'
import { useSessionStore } from '@/stores/session'
import ChatView from '@/views/ChatView.vue'
import LoginView from '@/views/LoginView.vue'
import NotFoundView from '@/views/NotFoundView.vue'
import PasswordView from '@/views/PasswordView.vue'

export function createPageRouter(): Router {
  const router = createRouter({
    history: createWebHistory(),
    routes: [
      { path: '/login', name: 'login', component: LoginView },
      { path: '/invite/:token', name: 'invite', component: PasswordView, meta: { open: true } },
      { path: '/reset/:token', name: 'reset', component: PasswordView, meta: { open: true } },
      { path: '/', name: 'home', component: ChatView },
      { path: '/projects/:projectId', name: 'project', component: ChatView },
      {
        path: '/projects/:projectId/conversations/:conversationId',
        name: 'conversation',
        component: ChatView,
      },
      { path: '/:path(.*)*', name: 'not-found', component: NotFoundView },
    ],
  })
  router.beforeEach(async (to) => {
    const session = useSessionStore()
    // Links that set a password are for people without a session.
    if (to.meta['open']) return true
    if (session.status === 'unknown') await session.load()
    if (session.status === 'signed-out' && to.name !== 'login')
      return { name: 'login', query: to.fullPath === '/' ? {} : { next: to.fullPath } }
    if (session.status === 'signed-in' && to.name === 'login') return localPath(to.query['next'])
    return true
  })
  return router
}
