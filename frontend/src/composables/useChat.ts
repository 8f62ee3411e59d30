import { useIntervalFn } from '@vueuse/core'
import type { ComputedRef, WritableComputedRef } from 'vue'
import { computed, onScopeDispose, ref, watch } from 'vue'
import { useRoute, useRouter } from 'vue-router'

import type { Person, Project } from '@/api/events'
import { useChatStore } from '@/stores/chat'
import { useConnectionStore } from '@/stores/connection'
import { useNoticesStore } from '@/stores/notices'
import { useProjectsStore } from '@/stores/projects'
import { useSessionStore } from '@/stores/session'
import { texts } from '@/texts'

export interface Placeholder {
  kind: 'empty' | 'loading' | 'missing' | 'failed'
  text: string
  lead: string
  retry?: () => unknown
}

export interface UseChatReturn {
  chat: ReturnType<typeof useChatStore>
  connection: ReturnType<typeof useConnectionStore>
  project: ComputedRef<Project | undefined>
  /** The user may read, not write. */
  readOnly: ComputedRef<boolean>
  /** What is written and not sent, kept per conversation. */
  draft: WritableComputedRef<string>
  /** The others who have this room open. */
  present: ComputedRef<Person[]>
  /** Names of others who are writing here. */
  typists: ComputedRef<string[]>
  /** What stands in place of the messages; null when they are there. */
  placeholder: ComputedRef<Placeholder | null>
  send: (content: string) => Promise<void>
}

/** Binds the page's address to the room and the conversation that are open. */
export function useChat(): UseChatReturn {
  const chat = useChatStore()
  const connection = useConnectionStore()
  const notices = useNoticesStore()
  const projects = useProjectsStore()
  const session = useSessionStore()
  const route = useRoute()
  const router = useRouter()

  const projectId = computed(() => stringOf(route.params['projectId']))
  const conversationId = computed(() => stringOf(route.params['conversationId']))
  const project = computed(() => projects.byId.get(projectId.value ?? ''))
  const readOnly = computed(() => project.value?.role === 'viewer')

  const draftKey = computed(() => conversationId.value ?? `new:${projectId.value ?? ''}`)
  const draft = computed({
    get: () => chat.drafts[draftKey.value] ?? '',
    set: (text) => {
      const drafts = { ...chat.drafts }
      if (text) drafts[draftKey.value] = text
      else delete drafts[draftKey.value]
      chat.drafts = drafts
    },
  })

  const now = ref(Date.now())
  useIntervalFn(() => (now.value = Date.now()), 1_000)
  const present = computed(
    () => chat.room?.presence.filter(({ id }) => id !== session.user?.id) ?? [],
  )
  const typists = computed(() =>
    [...chat.typists]
      .filter(
        ([, typing]) => typing.conversationId === chat.conversationId && typing.until > now.value,
      )
      .flatMap(([id]) => present.value.find((person) => person.id === id)?.name ?? []),
  )

  const placeholder = computed<Placeholder | null>(() => {
    if (projects.problem)
      return { kind: 'failed', text: projects.problem.text, lead: '', retry: projects.load }
    if (!projects.loaded) return { kind: 'loading', text: texts.thread.loading, lead: '' }
    if (chat.leftReason) return { kind: 'missing', text: chat.leftReason, lead: '' }
    if (projects.items.length === 0)
      return {
        kind: 'missing',
        text: texts.projects.none,
        lead: texts.projects.noneLead,
        retry: projects.load,
      }
    if (!project.value) return { kind: 'missing', text: texts.projects.notFound, lead: '' }
    const id = chat.conversationId
    if (id === null) return readOnly.value ? CHOOSE : emptyThread(project.value.name)
    const problem = chat.threadProblems.get(id)
    if (!chat.thread && problem) {
      if (problem.code === 'not_found')
        return { kind: 'missing', text: texts.conversations.notFound, lead: '' }
      return { kind: 'failed', text: problem.text, lead: '', retry: () => chat.loadThread(id) }
    }
    if (chat.listLoaded && !chat.conversation && !problem && !chat.thread && wasOpen.value === id)
      return { kind: 'missing', text: texts.conversations.notFound, lead: '' }
    if (!chat.thread) {
      // The own first message is on its way: better shown than a word about loading.
      return chat.outgoing.length > 0
        ? { kind: 'loading', text: '', lead: '' }
        : { kind: 'loading', text: texts.thread.loading, lead: '' }
    }
    if (chat.thread.groups.length === 0 && chat.outgoing.length === 0)
      return emptyThread(project.value.name)
    return null
  })

  /** The conversation last seen with its messages: gone afterwards, it has been deleted. */
  const wasOpen = ref<string | null>(null)
  watch(
    () => chat.thread?.conversationId,
    (id) => {
      if (id) wasOpen.value = id
    },
  )

  watch(
    () => [projectId.value, conversationId.value, projects.loaded, project.value?.id] as const,
    ([wanted, conversation]) => {
      if (!projects.loaded) return
      const first = projects.items[0]
      if (!wanted && first) {
        void router.replace({ name: 'project', params: { projectId: first.id } })
      } else if (wanted && project.value) {
        chat.openProject(wanted)
        chat.openConversation(conversation)
      }
    },
    { immediate: true },
  )
  if (session.status === 'signed-in') void projects.load()
  onScopeDispose(() => {
    chat.closeProject()
    connection.close()
    projects.reset()
  })

  async function send(content: string): Promise<void> {
    const key = draftKey.value
    const asked = projectId.value
    draft.value = ''
    try {
      const id = await chat.send(content)
      if (asked && id !== conversationId.value && projectId.value === asked)
        await router.push({
          name: 'conversation',
          params: { projectId: asked, conversationId: id },
        })
    } catch (error) {
      chat.drafts = { ...chat.drafts, [key]: content }
      notices.addError(error)
    }
  }

  return { chat, connection, project, readOnly, draft, present, typists, placeholder, send }
}

/** For those who may only read. */
const CHOOSE: Placeholder = {
  kind: 'empty',
  text: texts.thread.chooseTitle,
  lead: texts.thread.chooseLead,
}

function emptyThread(projectName: string): Placeholder {
  return {
    kind: 'empty',
    text: texts.thread.emptyTitle(projectName),
    lead: texts.thread.emptyLead,
  }
}

function stringOf(param: string | string[] | undefined): string | null {
  return typeof param === 'string' && param !== '' ? param : null
}
