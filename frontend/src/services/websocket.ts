/**
 * The socket: one connection that comes back by itself.
 *
 * - Joins every wanted project after each connect, with the number of the last event folded.
 * - A request (user message, stop, decision) is settled by the `ack` or `error` whose `reply_to` is
 *   its id. User messages without an answer are sent again after a reconnect, with the same
 *   `client_message_id`; the server counts them once. Other requests fail with the connection.
 * - A connection that says nothing for two heartbeats is taken for dead and replaced at once,
 *   without waiting for a close handshake that cannot arrive.
 *
 * Not `useWebSocket` of @vueuse/core, which waits for that handshake, sets no limit to the opening
 * one, and starts its waiting times over with every handshake that succeeds.
 */
import type {
  AckData,
  ClientData,
  ErrorData,
  ProjectJoinedData,
  ServerEvent,
  UserMessageData,
  WelcomeData,
} from '@/api/events'

import { backoffMs } from './backoff'

export type SocketState = 'connecting' | 'live' | 'reconnecting' | 'offline'

/** An `error` of the server, or a request that the connection took with it (code `connection_lost`). */
export class SocketError extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message)
    this.name = 'SocketError'
  }
}

export interface SocketHandlers {
  /** Every event but `ack`, `pong`, and errors that answer a request. */
  onEvent: (event: ServerEvent) => void
  /** `retryAt`: when the next attempt begins, in milliseconds since 1970. */
  onState: (state: SocketState, retryAt: number | null) => void
  /** The session is over; the socket has stopped for good. */
  onSessionEnd: () => void
  /** Whether the session still holds, asked when a connection is refused before it opens. */
  checkSession: () => Promise<boolean>
}

/** What to join, and from where: read anew at each join. */
export interface JoinTarget {
  /** Number of the last event folded; undefined for a fresh start. */
  afterSeq: () => number | undefined
}

interface PendingRequest {
  frame: string
  projectId: string | null
  /** Sent again after a reconnect. */
  durable: boolean
  resolve: (ack: AckData) => void
  reject: (error: SocketError) => void
}

const SESSION_ENDED = 4401
const TOO_MANY_CONNECTIONS = 4429
const GOING_AWAY = 1001
const HEARTBEAT_MS = 20_000
/** Covers a slow mobile network; a handshake that takes longer is tried anew. */
const OPEN_TIMEOUT_MS = 10_000
/** A connection that held this long was good: the next loss starts from the shortest wait. */
const STABLE_MS = 5_000
/** The server closes further sockets of a user; asking again soon only adds to it. */
const CROWDED_ATTEMPT = 4
/** A server that goes away sends all its clients off at once: they spread over a few seconds. */
const GOING_AWAY_ATTEMPT = 2
/** Joining again and again without progress must not become a storm. */
const REJOIN_PAUSE_MS = 1_000

export class ChatSocket {
  private socket: WebSocket | null = null
  private wanted = false
  private opened = false
  private attempt = 0
  private lastHeard = 0
  private counter = 0
  private readonly targets = new Map<string, JoinTarget>()
  private readonly joined = new Set<string>()
  private readonly joining = new Set<string>()
  private readonly requests = new Map<string, PendingRequest>()
  private readonly rejoinTimers = new Map<string, ReturnType<typeof setTimeout>>()
  private readonly lastJoin = new Map<string, number>()
  private retryTimer: ReturnType<typeof setTimeout> | undefined
  private openTimer: ReturnType<typeof setTimeout> | undefined
  private stableTimer: ReturnType<typeof setTimeout> | undefined
  private heartbeat: ReturnType<typeof setInterval> | undefined

  constructor(
    private readonly url: string,
    private readonly handlers: SocketHandlers,
  ) {}

  /** Connects, and stays connected until `close`. */
  open(): void {
    if (this.wanted) return
    this.wanted = true
    this.attempt = 0
    window.addEventListener('online', this.onOnline)
    window.addEventListener('offline', this.onOffline)
    this.connect()
  }

  close(): void {
    this.wanted = false
    window.removeEventListener('online', this.onOnline)
    window.removeEventListener('offline', this.onOffline)
    clearTimeout(this.retryTimer)
    this.drop()
    this.targets.clear()
    this.failRequests(() => true)
  }

  /** Tries now instead of at the end of the wait. */
  retryNow(): void {
    if (!this.wanted || this.socket) return
    clearTimeout(this.retryTimer)
    this.connect()
  }

  join(projectId: string, target: JoinTarget): void {
    this.targets.set(projectId, target)
    if (this.opened) this.sendJoin(projectId)
  }

  /** Joins again after something was missed; at most once a second. */
  rejoin(projectId: string): void {
    if (!this.opened || this.joining.has(projectId) || this.rejoinTimers.has(projectId)) return
    const pause = REJOIN_PAUSE_MS - (Date.now() - (this.lastJoin.get(projectId) ?? 0))
    const timer = setTimeout(
      () => {
        this.rejoinTimers.delete(projectId)
        if (this.opened && this.targets.has(projectId)) this.sendJoin(projectId)
      },
      Math.max(0, pause),
    )
    this.rejoinTimers.set(projectId, timer)
  }

  leave(projectId: string): void {
    if (!this.targets.delete(projectId)) return
    this.joined.delete(projectId)
    this.joining.delete(projectId)
    if (this.opened) this.send('leave_project', { project_id: projectId })
  }

  /** Resolves when the message is stored; survives any number of reconnects. */
  sendMessage(data: UserMessageData): Promise<AckData> {
    return this.request('user_message', data, { projectId: data.project_id, durable: true })
  }

  stopTurn(turnId: string): Promise<AckData> {
    return this.request('stop_turn', { turn_id: turnId })
  }

  decide(data: ClientData['tool_decision']): Promise<AckData> {
    return this.request('tool_decision', data)
  }

  typing(conversationId: string): void {
    if (this.opened) this.send('typing', { conversation_id: conversationId })
  }

  private request<T extends keyof ClientData>(
    type: T,
    data: ClientData[T],
    options: { projectId: string | null; durable: boolean } = { projectId: null, durable: false },
  ): Promise<AckData> {
    this.counter += 1
    const id = `${Date.now().toString(36)}-${this.counter}`
    const frame = JSON.stringify({ type, data, timestamp: Date.now(), id })
    return new Promise((resolve, reject) => {
      if (!options.durable && !this.opened) {
        reject(new SocketError('connection_lost', ''))
        return
      }
      this.requests.set(id, { frame, ...options, resolve, reject })
      if (!options.projectId || this.joined.has(options.projectId)) this.socket?.send(frame)
    })
  }

  private send<T extends keyof ClientData>(type: T, data: ClientData[T]): void {
    this.socket?.send(JSON.stringify({ type, data, timestamp: Date.now() }))
  }

  private connect(): void {
    this.handlers.onState(this.attempt === 0 ? 'connecting' : 'reconnecting', null)
    const socket = new WebSocket(this.url)
    this.socket = socket
    this.openTimer = setTimeout(() => this.replace(socket), OPEN_TIMEOUT_MS)
    socket.onopen = () => {
      if (this.socket === socket) this.onOpen()
    }
    socket.onmessage = (message: MessageEvent) => {
      if (this.socket === socket) this.onMessage(message.data)
    }
    socket.onclose = (event: CloseEvent) => {
      if (this.socket === socket) void this.onClose(event.code)
    }
  }

  private onOpen(): void {
    clearTimeout(this.openTimer)
    this.opened = true
    this.lastHeard = Date.now()
    this.stableTimer = setTimeout(() => (this.attempt = 0), STABLE_MS)
    this.startHeartbeat(HEARTBEAT_MS)
    for (const projectId of this.targets.keys()) this.sendJoin(projectId)
    if (this.targets.size === 0) this.handlers.onState('live', null)
  }

  private onMessage(raw: unknown): void {
    this.lastHeard = Date.now()
    const event = parse(raw)
    if (!event) return
    switch (event.type) {
      case 'ack':
        this.settle(event.data.reply_to, (request) => request.resolve(event.data))
        return
      case 'error':
        if (!this.onError(event.data)) this.handlers.onEvent(event)
        return
      case 'pong':
        return
      case 'welcome':
        this.onWelcome(event.data)
        break
      case 'project_joined':
        // The state first: what is sent again below is answered by events that follow it.
        this.handlers.onEvent(event)
        this.onJoined(event.data)
        return
      case 'project_left':
        this.targets.delete(event.data.project_id)
        this.joined.delete(event.data.project_id)
        this.joining.delete(event.data.project_id)
        this.failRequests(({ projectId }) => projectId === event.data.project_id)
        break
    }
    this.handlers.onEvent(event)
  }

  private onWelcome(data: WelcomeData): void {
    const seconds = Number(data.heartbeat_seconds)
    if (seconds > 0) this.startHeartbeat(seconds * 1000)
  }

  private onJoined(data: ProjectJoinedData): void {
    if (!this.targets.has(data.project_id)) return
    this.joining.delete(data.project_id)
    const again = !this.joined.has(data.project_id)
    this.joined.add(data.project_id)
    if (again) {
      for (const { projectId, frame } of this.requests.values())
        if (projectId === data.project_id) this.socket?.send(frame)
    }
    this.handlers.onState('live', null)
  }

  /** True when the error answered something of ours. */
  private onError(data: ErrorData): boolean {
    const projectId = data.reply_to?.startsWith('join:') ? data.reply_to.slice(5) : null
    if (projectId) this.joining.delete(projectId)
    if (data.code === 'session_ended') {
      this.endSession()
      return true
    }
    return this.settle(data.reply_to ?? '', (request) =>
      request.reject(new SocketError(data.code, data.message, data.retry_after_ms ?? null)),
    )
  }

  private settle(requestId: string, answer: (request: PendingRequest) => void): boolean {
    const request = this.requests.get(requestId)
    if (!request) return false
    this.requests.delete(requestId)
    answer(request)
    return true
  }

  private sendJoin(projectId: string): void {
    const afterSeq = this.targets.get(projectId)?.afterSeq()
    this.joining.add(projectId)
    this.lastJoin.set(projectId, Date.now())
    this.socket?.send(
      JSON.stringify({
        type: 'join_project',
        data: { project_id: projectId, ...(afterSeq === undefined ? {} : { after_seq: afterSeq }) },
        timestamp: Date.now(),
        id: `join:${projectId}`,
      }),
    )
  }

  private async onClose(code: number): Promise<void> {
    const refused = !this.opened
    this.drop()
    if (code === SESSION_ENDED) {
      this.endSession()
      return
    }
    this.failRequests(({ durable }) => !durable)
    if (code === TOO_MANY_CONNECTIONS) this.attempt = Math.max(this.attempt, CROWDED_ATTEMPT)
    if (code === GOING_AWAY) this.attempt = Math.max(this.attempt, GOING_AWAY_ATTEMPT)
    this.scheduleRetry()
    // A refusal before the handshake looks like any lost connection: REST can tell them apart.
    if (refused && navigator.onLine && !(await this.handlers.checkSession()) && this.wanted)
      this.endSession()
  }

  private endSession(): void {
    this.close()
    this.handlers.onSessionEnd()
  }

  /** Gives a connection up without waiting for its goodbye. */
  private replace(socket: WebSocket): void {
    if (this.socket !== socket) return
    this.drop()
    this.failRequests(({ durable }) => !durable)
    this.scheduleRetry()
  }

  private drop(): void {
    const socket = this.socket
    this.socket = null
    this.opened = false
    this.joined.clear()
    this.joining.clear()
    clearTimeout(this.openTimer)
    clearTimeout(this.stableTimer)
    clearInterval(this.heartbeat)
    for (const timer of this.rejoinTimers.values()) clearTimeout(timer)
    this.rejoinTimers.clear()
    socket?.close()
  }

  private scheduleRetry(): void {
    if (!this.wanted) return
    const wait = backoffMs(this.attempt)
    this.attempt += 1
    clearTimeout(this.retryTimer)
    this.retryTimer = setTimeout(() => this.connect(), wait)
    if (navigator.onLine) this.handlers.onState('reconnecting', Date.now() + wait)
    else this.handlers.onState('offline', null)
  }

  private startHeartbeat(intervalMs: number): void {
    clearInterval(this.heartbeat)
    const socket = this.socket
    this.heartbeat = setInterval(() => {
      if (!socket || this.socket !== socket) return
      if (Date.now() - this.lastHeard > 2 * intervalMs) this.replace(socket)
      else this.send('ping', {})
    }, intervalMs)
  }

  private failRequests(which: (request: PendingRequest) => boolean): void {
    for (const [id, request] of this.requests) {
      if (!which(request)) continue
      this.requests.delete(id)
      request.reject(new SocketError('connection_lost', ''))
    }
  }

  private readonly onOnline = (): void => this.retryNow()

  private readonly onOffline = (): void => {
    if (this.socket) this.replace(this.socket)
  }
}

function parse(raw: unknown): ServerEvent | null {
  if (typeof raw !== 'string') return null
  try {
    const event = JSON.parse(raw) as ServerEvent | null
    return event && typeof event.type === 'string' && typeof event.data === 'object' ? event : null
  } catch {
    return null
  }
}

/** Address of the socket on this page's own host. */
export function socketUrl(): string {
  const { protocol, host } = window.location
  return `${protocol === 'https:' ? 'wss:' : 'ws:'}//${host}/ws/chat`
}
