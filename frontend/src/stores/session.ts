/** Who is signed in. */
import { defineStore } from 'pinia'
import { ref } from 'vue'

import type { Tenant, User } from '@/api/events'
import { ApiError, api, handleUnauthorized } from '@/services/api'

export type SessionStatus = 'unknown' | 'signed-in' | 'signed-out' | 'unreachable'

export const useSessionStore = defineStore('session', () => {
  const status = ref<SessionStatus>('unknown')
  const user = ref<User | null>(null)
  const tenant = ref<Tenant | null>(null)
  /** The session ended by itself; the login page says so. */
  const ended = ref(false)

  handleUnauthorized(expire)

  /** Asks the server whose session this is. */
  async function load(): Promise<void> {
    try {
      const me = await api.me()
      user.value = me.user
      tenant.value = me.tenant ?? null
      status.value = 'signed-in'
    } catch (error) {
      const over = error instanceof ApiError && (error.status === 401 || error.status === 403)
      status.value = over ? 'signed-out' : 'unreachable'
    }
  }

  async function login(email: string, password: string): Promise<void> {
    const signedIn = await api.login(email, password)
    user.value = signedIn.user
    tenant.value = signedIn.tenant ?? null
    ended.value = false
    status.value = 'signed-in'
  }

  async function logout(): Promise<void> {
    await api.logout()
    user.value = null
    tenant.value = null
    ended.value = false
    status.value = 'signed-out'
  }

  function expire(): void {
    if (status.value !== 'signed-in') return
    ended.value = true
    status.value = 'signed-out'
  }

  /** Whether the session still holds. An unreachable server is no reason to end it. */
  async function check(): Promise<boolean> {
    try {
      await api.me()
      return true
    } catch (error) {
      return !(error instanceof ApiError && error.status === 401)
    }
  }

  return { status, user, tenant, ended, load, login, logout, expire, check }
})
