/**
 * The page's store over every recorded stream and every case derived from it (tests/vectors/).
 * The Python reference client runs the same files (tests/vectors/test_vectors.py).
 */
import { createHash } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'

import { createPinia, setActivePinia } from 'pinia'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import type { Conversation, LiveEntry, Message, ServerEvent } from '@/api/events'
import { OPEN_TURN } from '@/api/events'
import { useChatStore } from '@/stores/chat'
import { useConnectionStore } from '@/stores/connection'
import { useSessionStore } from '@/stores/session'
import { FakeSocket } from '@/testing/fakeSocket'

import type { Room } from './room'
import { threadMessages } from './room'

const FOLDER = resolve(process.cwd(), '../tests/vectors')
/** Longer than the page waits between two joins. */
const PAUSE_MS = 2_000
/** Rounds of the event loop without anything under way after which nothing more will come. */
const QUIET_ROUNDS = 3

interface Rest {
  seq: number
  conversations: Conversation[]
  messages: Record<string, Message[]>
}

type Action = { join: number | null } | { fetch: true } | { refetch: string }

type Step =
  | { rest: number }
  | { open: true }
  | { receive: [number, number] }
  | { joined: number; recovered: boolean }
  | { frame: ServerEvent }
  | { hold: 'answers' | 'requests' }
  | { release: true }
  | { expect: Action }
  | { state: string }

interface Vector {
  project_id: string
  frames: ServerEvent[]
  joins: { seq: number; live: LiveEntry[] }[]
  rests: Rest[]
  states: Record<string, unknown>
  cases: { name: string; steps: Step[] }[]
}

/** A page with every conversation open, whose server is the case. */
class Page {
  readonly told: Action[] = []
  private readonly chat = useChatStore()
  private readonly connection = useConnectionStore()
  private rest: Rest = { seq: 0, conversations: [], messages: {} }
  private held: (() => void)[] | null = null
  private hold: 'answers' | 'requests' | null = null
  private sockets = 0
  private joinsSeen = 0
  private digests = 0
  /** Requests for messages that the store makes by itself, outside of a fetch, are refetches. */
  private fetching = false
  private opening = false
  private readonly loading = new Set<string>()

  constructor(private readonly vector: Vector) {
    useSessionStore().user = { id: 'u1', name: 'Ada', email: 'ada@demo.test' }
    const digest = crypto.subtle.digest.bind(crypto.subtle)
    vi.spyOn(crypto.subtle, 'digest').mockImplementation((...data) => {
      this.digests += 1
      return digest(...data).finally(() => (this.digests -= 1))
    })
    vi.stubGlobal('fetch', (path: string) => this.answer(path))
  }

  close(): void {
    this.chat.reset()
  }

  async play(step: Step): Promise<void> {
    if ('expect' in step) {
      expect(this.told.shift()).toEqual(step.expect)
      return
    }
    if ('state' in step) {
      expect(this.told).toEqual([])
      expect(canonical(this.chat.room as Room)).toEqual(this.vector.states[step.state])
      return
    }
    if ('rest' in step) {
      const rest = this.vector.rests[step.rest]
      if (rest) this.rest = rest
      return
    }
    if ('hold' in step) {
      this.hold = step.hold
      this.held = []
      return
    }
    expect(this.told, 'asked for more than it had to').toEqual([])
    if (!this.hold) this.fetching = false
    if ('release' in step) {
      const held = this.held ?? []
      this.hold = this.held = null
      for (const answer of held) answer()
    } else if ('open' in step) this.open()
    else if ('receive' in step)
      for (const frame of this.vector.frames.slice(...step.receive)) FakeSocket.last.receive(frame)
    else if ('joined' in step) this.joined(step.joined, step.recovered)
    else if ('frame' in step) FakeSocket.last.receive(step.frame)
    else throw new Error(`unknown step ${JSON.stringify(step)}`)
    await this.quiet()
  }

  private open(): void {
    if (this.sockets === 0) {
      this.chat.openProject(this.vector.project_id)
      this.chat.openConversation(this.rest.conversations[0]?.id ?? null)
    } else {
      FakeSocket.last.drop()
      this.connection.retryNow()
    }
    this.sockets += 1
    this.joinsSeen = 0
    FakeSocket.last.open()
  }

  private joined(position: number, recovered: boolean): void {
    const data = { project_id: this.vector.project_id, recovered, presence: [] }
    FakeSocket.last.receive({
      type: 'project_joined',
      data: { ...this.vector.joins[position], ...data },
    })
  }

  private answer(path: string): Promise<Response> {
    const conversationId = /^\/api\/conversations\/([^/]+)\/messages/.exec(path)?.[1]
    if (path.includes('/projects/') && path.endsWith('/conversations')) {
      this.told.push({ fetch: true })
      this.fetching = true
    } else if (conversationId && !this.fetching && !this.opening)
      this.told.push({ refetch: conversationId })
    if (conversationId) this.loading.add(conversationId)
    const early = this.body(path)
    const reply = () => {
      if (conversationId) this.loading.delete(conversationId)
    }
    if (!this.held) {
      reply()
      return Promise.resolve(early)
    }
    const whenAsked = this.hold === 'answers'
    return new Promise((settle) =>
      this.held?.push(() => {
        reply()
        settle(whenAsked ? early : this.body(path))
      }),
    )
  }

  private body(path: string): Response {
    const conversationId = /^\/api\/conversations\/([^/]+)\/messages/.exec(path)?.[1]
    const messages = this.rest.messages[conversationId ?? '']
    if (path.endsWith('/conversations'))
      return Response.json({ items: this.rest.conversations, next_cursor: null })
    if (messages) return Response.json({ items: messages, next_cursor: null, seq: this.rest.seq })
    return Response.json({ code: 'not_found', detail: 'There is nothing here.' }, { status: 404 })
  }

  /** Lets the page do all it can do now. */
  private async quiet(): Promise<void> {
    await this.idle()
    vi.advanceTimersByTime(PAUSE_MS)
    await this.idle()
    for (const id of this.chat.room?.conversations.keys() ?? []) {
      if (this.chat.room?.threads.has(id) || this.loading.has(id)) continue
      this.opening = true
      void this.chat.loadThread(id)
      this.opening = false
    }
    await this.idle()
    const joins = FakeSocket.last.of('join_project')
    for (const { data } of joins.slice(this.joinsSeen))
      this.told.push({ join: (data['after_seq'] as number | undefined) ?? null })
    this.joinsSeen = joins.length
  }

  private async idle(): Promise<void> {
    let quiet = 0
    while (quiet < QUIET_ROUNDS) {
      await new Promise((done) => setImmediate(done))
      quiet = this.digests > 0 ? 0 : quiet + 1
    }
  }
}

/** The state as tests/vectors/README.md spells it, comparable across clients. */
function canonical(room: Room): unknown {
  const conversations = [...room.conversations.values()]
  const turns = [...room.turns.values()].filter(
    (turn) => OPEN_TURN.has(turn.status) && room.conversations.has(turn.conversationId),
  )
  return {
    seq: room.seq,
    conversations: Object.fromEntries(conversations.map(({ id, title }) => [id, title])),
    messages: Object.fromEntries(
      conversations.map(({ id }) => {
        const thread = room.threads.get(id)
        return [id, thread && threadMessages(thread).map((message) => shown(room, message))]
      }),
    ),
    open_turns: Object.fromEntries(
      turns.map(({ id, conversationId, status, detail }) => [
        id,
        { conversation_id: conversationId, status, detail },
      ]),
    ),
  }
}

function shown(room: Room, message: Message): unknown {
  const { id, role, turn_id, status, epoch, content } = message
  // As the page shows it: components/chat/TurnBlock.vue.
  const text = status === 'streaming' ? (room.streams.get(id)?.text ?? content) : content
  const sha256 = createHash('sha256').update(text).digest('hex')
  const tools = message.tool_executions.map((execution) => ({
    id: execution.id,
    tool_call_id: execution.tool_call_id,
    tool_name: execution.tool_name,
    status: execution.status,
    attempt: execution.attempt,
    result: execution.result,
    error: execution.error,
    execution_time_ms: execution.execution_time_ms,
    approval: execution.approval ?? null,
  }))
  return { id, role, turn_id, status, epoch, text, sha256, tools }
}

async function play(vector: Vector, steps: Step[]): Promise<string | null> {
  setActivePinia(createPinia())
  sessionStorage.clear()
  FakeSocket.all = []
  const page = new Page(vector)
  let number = 0
  try {
    for (const step of steps) {
      await page.play(step)
      number += 1
    }
    expect(page.told, 'asked for more than it had to').toEqual([])
    return null
  } catch (error) {
    return `step ${number} ${JSON.stringify(steps[number])}: ${String(error)}`
  } finally {
    page.close()
    vi.restoreAllMocks()
    vi.clearAllTimers()
  }
}

beforeEach(() => {
  vi.stubGlobal('WebSocket', FakeSocket)
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'],
  })
})

afterEach(() => vi.useRealTimers())

const names = readdirSync(FOLDER).filter((name) => name.endsWith('.json'))

describe('the page ends in the same state as the reference client', () => {
  test('over recorded streams', () => expect(names.length).toBeGreaterThan(5))

  test.each(names)('%s', { timeout: 120_000 }, async (name) => {
    const vector = JSON.parse(readFileSync(resolve(FOLDER, name), 'utf8')) as Vector
    const wrong: string[] = []
    for (const { name: title, steps } of vector.cases) {
      const failure = await play(vector, steps)
      if (failure) wrong.push(`${title}: ${failure}`)
    }
    const first = wrong.slice(0, 5).join('\n\n')
    expect(wrong.length, `${wrong.length} of ${vector.cases.length} cases; ${first}`).toBe(0)
  })
})
