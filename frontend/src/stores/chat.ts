/**
 * The room that is open: its conversations and threads. State changes by events and pages alone
 * (domain/fold.ts); this store carries out what folding asks for, and talks to the services.
 */
import { useSessionStorage } from '@vueuse/core'
import { defineStore } from 'pinia'
import { computed, reactive, ref, shallowRef } from 'vue'

import type {
  ErrorData,
  ProjectLeftData,
  RoomEvent,
  ServerEvent,
  ToolExecution,
  ToolRun,
  Word,
} from '@/api/events'
import { OPEN_TURN } from '@/api/events'
import type { Problem } from '@/domain/errors'
import { problemOf } from '@/domain/errors'
import type { Effect } from '@/domain/fold'
import {
  conversationOf,
  fold,
  foldConversations,
  foldCreated,
  foldJoined,
  foldOlderPage,
  foldPage,
  foldTurn,
} from '@/domain/fold'
import type { Room } from '@/domain/room'
import { createRoom, sortedConversations, threadMessages, unexplainedTurns } from '@/domain/room'
import type { InterventionBody } from '@/services/api'
import { api } from '@/services/api'
import { sha256 } from '@/services/digest'
import { texts } from '@/texts'

import { useConnectionStore } from './connection'
import { useNoticesStore } from './notices'
import { useOutboxStore } from './outbox'
import { useProjectsStore } from './projects'

interface ThreadLoad {
  /** Events of the conversation that arrived while its page was on its way. */
  since: RoomEvent[]
  /** Asked for once more while it was loading. */
  again: boolean
}

const TITLE_CHARS = 60
const TYPING_SHOWN_MS = 5_000

export const useChatStore = defineStore('chat', () => {
  const connection = useConnectionStore()
  const outbox = useOutboxStore()
  const notices = useNoticesStore()
  const projects = useProjectsStore()

  const room = shallowRef<Room | null>(null)
  const conversationId = ref<string | null>(null)
  const listLoaded = ref(false)
  const listProblem = ref<Problem | null>(null)
  const threadProblems = reactive(new Map<string, Problem>())
  const loadingOlder = ref(false)
  /** Why the room is closed to this user. */
  const leftReason = ref<string | null>(null)
  const stopping = reactive(new Set<string>())
  const typists = reactive(new Map<string, { conversationId: string; until: number }>())
  const drafts = useSessionStorage<Record<string, string>>('everturn.drafts', {})

  let joinedOnce = false
  let listSince: RoomEvent[] | null = null
  const threadLoads = new Map<string, ThreadLoad>()

  /** A room is open, and open to this user. */
  const present = computed(() => room.value !== null && leftReason.value === null)
  const conversations = computed(() => (room.value ? sortedConversations(room.value) : []))
  const conversation = computed(() => room.value?.conversations.get(conversationId.value ?? ''))
  const thread = computed(() => room.value?.threads.get(conversationId.value ?? ''))
  const outgoing = computed(() =>
    outbox.items.filter((item) => item.conversationId === conversationId.value),
  )
  /** The turn that Stop would stop: the one that runs, else the first that waits. */
  const liveTurn = computed(() => conversation.value?.live ?? null)

  connection.onEvent(receive)

  function openProject(projectId: string): void {
    if (room.value?.projectId === projectId && !leftReason.value) return
    closeProject()
    room.value = reactive(createRoom(projectId))
    connection.join(projectId, {
      afterSeq: () => (joinedOnce ? room.value?.seq : undefined),
    })
    connection.open()
  }

  function closeProject(): void {
    if (room.value) connection.leave(room.value.projectId)
    room.value = null
    conversationId.value = null
    listLoaded.value = false
    listProblem.value = null
    leftReason.value = null
    joinedOnce = false
    listSince = null
    threadLoads.clear()
    threadProblems.clear()
    stopping.clear()
    typists.clear()
  }

  function openConversation(id: string | null): void {
    conversationId.value = id
    if (id && joinedOnce && !thread.value) void loadThread(id)
  }

  /** Takes what the socket brings. */
  function receive(event: ServerEvent): void {
    const current = room.value
    switch (event.type) {
      case 'project_joined':
        if (event.data.project_id === current?.projectId) {
          foldJoined(current, event.data, event.timestamp)
          afterJoin(event.data.recovered)
        }
        return
      case 'project_left':
        if (event.data.project_id === current?.projectId) leave(event.data)
        return
      case 'session_ending':
        notices.add(texts.connection.sessionEnding(event.data.reason))
        return
      case 'error':
        receiveError(event.data)
        return
      case 'welcome':
      case 'ack':
      case 'pong':
        return
      case 'typing':
        typists.set(event.data.user_id, {
          conversationId: event.data.conversation_id,
          until: Date.now() + TYPING_SHOWN_MS,
        })
        return
      default:
        if (current && event.data.project_id === current.projectId) apply(current, event)
    }
  }

  function apply(current: Room, event: RoomEvent): void {
    listSince?.push(event)
    threadLoads.get(conversationOf(event) ?? '')?.since.push(event)
    run(current, fold(current, event))
    if (event.type === 'message_created') {
      typists.delete(event.data.message.author?.id ?? '')
      if (event.data.client_message_id) outbox.remove(event.data.client_message_id)
    }
    if (event.type === 'turn_status' && !OPEN_TURN.has(event.data.status))
      stopping.delete(event.data.turn_id)
    if (event.type === 'conversation_deleted') outbox.removeConversation(event.data.conversation.id)
  }

  function run(current: Room, effects: Effect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'rejoin') connection.rejoin(current.projectId)
      else if (effect.kind === 'refetch') void loadThread(effect.conversationId)
      else void verify(effect)
    }
  }

  async function verify(effect: Extract<Effect, { kind: 'verify' }>): Promise<void> {
    const digest = await sha256(effect.text)
    if (digest !== null && digest !== effect.sha256) await loadThread(effect.conversationId)
  }

  function afterJoin(recovered: boolean): void {
    const current = room.value
    if (!current) return
    joinedOnce = true
    if (!recovered) {
      // What happened in between is not known: the other threads load anew when they are opened.
      for (const id of [...current.threads.keys()])
        if (id !== conversationId.value) current.threads.delete(id)
    }
    if (!recovered || !listLoaded.value) void loadConversations()
    if (conversationId.value && (!recovered || !thread.value)) void loadThread(conversationId.value)
    outbox.resume(current.projectId)
  }

  function leave(data: ProjectLeftData): void {
    leftReason.value = texts.projects.left[data.reason] ?? texts.projects.left.requested
    if (data.reason !== 'requested') projects.remove(data.project_id)
  }

  function receiveError(data: ErrorData): void {
    const current = room.value
    if (current && data.reply_to === `join:${current.projectId}`) {
      if (data.code === 'not_found' || data.code === 'forbidden')
        leftReason.value = texts.projects.notFound
      else {
        notices.add(data.message, 'error', retryAt(data))
        setTimeout(() => connection.rejoin(current.projectId), data.retry_after_ms ?? 3_000)
      }
    } else notices.add(data.message, 'error', retryAt(data))
  }

  function retryAt(data: ErrorData): number | null {
    return data.retry_after_ms === undefined ? null : Date.now() + data.retry_after_ms
  }

  async function loadConversations(): Promise<void> {
    const current = room.value
    if (!current) return
    const since: RoomEvent[] = []
    listSince = since
    try {
      const list = await api.conversations(current.projectId)
      if (room.value !== current || listSince !== since) return
      foldConversations(current, list, since)
      listLoaded.value = true
      listProblem.value = null
    } catch (error) {
      if (room.value === current) listProblem.value = problemOf(error)
    } finally {
      if (listSince === since) listSince = null
    }
  }

  async function loadThread(id: string): Promise<void> {
    const current = room.value
    if (!current) return
    const running = threadLoads.get(id)
    if (running) {
      running.again = true
      return
    }
    const load: ThreadLoad = { since: [], again: false }
    threadLoads.set(id, load)
    try {
      const page = await api.messages(id)
      if (room.value !== current) return
      threadLoads.delete(id)
      run(current, foldPage(current, id, page, load.since, Date.now() + connection.clockOffset))
      threadProblems.delete(id)
      outbox.removeArrived(new Set(page.items.map((message) => message.id)))
      void explainTurns(current, id)
    } catch (error) {
      if (room.value === current) threadProblems.set(id, problemOf(error))
    } finally {
      if (threadLoads.get(id) === load) threadLoads.delete(id)
      if (load.again && room.value === current) void loadThread(id)
    }
  }

  /** Asks why turns ended whose end was not heard and whose messages do not tell. */
  async function explainTurns(current: Room, id: string): Promise<void> {
    const loaded = current.threads.get(id)
    if (!loaded) return
    await Promise.all(
      unexplainedTurns(current, loaded).map(async (turnId) => {
        try {
          foldTurn(current, await api.turn(turnId))
        } catch {
          // Only the reason stays unsaid; the message's own state is shown all the same.
        }
      }),
    )
  }

  async function loadOlder(): Promise<void> {
    const current = room.value
    const shown = thread.value
    if (!current || !shown?.older || loadingOlder.value) return
    loadingOlder.value = true
    try {
      const page = await api.messages(shown.conversationId, shown.older)
      if (room.value !== current) return
      foldOlderPage(current, shown.conversationId, page)
      void explainTurns(current, shown.conversationId)
    } catch (error) {
      notices.addError(error)
    } finally {
      loadingOlder.value = false
    }
  }

  /**
   * Sends a message to the open conversation, making one where none is open.
   *
   * @returns The conversation's id.
   */
  async function send(content: string): Promise<string> {
    const current = room.value
    if (!current) throw new Error(texts.projects.notFound)
    let id = conversationId.value
    if (!id) {
      const created = await api.createConversation(current.projectId, titleOf(content))
      foldCreated(current, created)
      id = created.id
    }
    outbox.add(current.projectId, id, content)
    return id
  }

  async function stop(turnId: string): Promise<void> {
    if (stopping.has(turnId)) return
    stopping.add(turnId)
    try {
      await connection.stopTurn(turnId)
    } catch (error) {
      stopping.delete(turnId)
      notices.addError(error)
    }
  }

  /**
   * Says a person's word to a call that asks; what follows is told by the room.
   *
   * @throws What the server, or the connection, says: it belongs beside what was decided.
   */
  async function decide(executionId: string, word: Word): Promise<void> {
    await connection.decide({ tool_execution_id: executionId, ...word })
  }

  /**
   * Runs a call anew, or ends it. What comes of it is heard as an event, as everybody hears it.
   *
   * @returns Whether it was done.
   */
  async function intervene(executionId: string, asked: InterventionBody): Promise<boolean> {
    try {
      await api.intervene(executionId, asked)
      return true
    } catch (error) {
      notices.addError(error)
      return false
    }
  }

  /** How a call stands at its workers; null where that cannot be told now. */
  async function toolRun(executionId: string): Promise<ToolRun | null> {
    try {
      return (await api.toolExecution(executionId)).run
    } catch {
      return null
    }
  }

  async function rename(id: string, title: string): Promise<void> {
    await api.renameConversation(id, title)
  }

  async function remove(id: string): Promise<void> {
    await api.deleteConversation(id)
  }

  /** All that is stored of a call whose preview was cut. */
  async function fullExecution(executionId: string): Promise<ToolExecution | null> {
    try {
      return await api.toolExecution(executionId)
    } catch (error) {
      notices.addError(error)
      return null
    }
  }

  /** Forgets everything of this user. */
  function reset(): void {
    closeProject()
    connection.close()
    outbox.clear()
    drafts.value = {}
  }

  return {
    room,
    conversationId,
    present,
    conversations,
    conversation,
    thread,
    outgoing,
    liveTurn,
    listLoaded,
    listProblem,
    threadProblems,
    loadingOlder,
    leftReason,
    stopping,
    typists,
    drafts,
    openProject,
    closeProject,
    openConversation,
    loadConversations,
    loadThread,
    loadOlder,
    send,
    stop,
    decide,
    intervene,
    toolRun,
    rename,
    remove,
    fullExecution,
    reset,
    messages: computed(() => (thread.value ? threadMessages(thread.value) : [])),
  }
})

function titleOf(content: string): string {
  // Titles are one line: control characters and line ends become spaces.
  const line = content.replace(/[\p{Cc}\s]+/gu, ' ').trim() || texts.conversations.untitled
  const characters = [...line]
  return characters.length > TITLE_CHARS
    ? `${characters.slice(0, TITLE_CHARS - 1).join('')}…`
    : line
}
