/**
 * The wire: shapes shared by REST and the socket, and the socket's events.
 * Follows docs/protocol.md word for word; nothing here has behaviour.
 */

export type Role = 'user' | 'assistant' | 'system'
export type MessageStatus = 'streaming' | 'complete' | 'stopped' | 'failed'
export type TurnStatus =
  'queued' | 'running' | 'awaiting_approval' | 'completed' | 'failed' | 'cancelled'
export type ToolStatus =
  'pending' | 'awaiting_approval' | 'executing' | 'completed' | 'failed' | 'cancelled' | 'unknown'

export interface Person {
  id: string
  name: string
}

/** A call as the model made it, kept with its message. */
export interface ToolCall {
  id: string
  type: 'function'
  function: { name: string; arguments: string }
}

/** A call as the room hears of it. */
export interface AnnouncedCall extends ToolCall {
  tool_execution_id: string
  effect: string
  requires_approval: boolean
  queue?: string
  created_at?: string
}

export interface ToolError {
  code: string
  message: string
}

export type Approvers = 'editor' | 'owner' | 'admin'
export type Scope = 'once' | 'turn' | 'conversation'

/** What one person said to a question. */
export interface Vote {
  user: Person
  decision: 'approve' | 'deny'
  note: string | null
  scope: Scope
  at: string
}

/** A question to people about a call, and how it was decided. */
export interface Approval {
  question: number
  approvers: Approvers
  approvals: number
  not_asker: boolean
  asked_at: string
  expires_at: string | null
  /** Null while the question stands. */
  decision: 'approved' | 'denied' | 'expired' | null
  decided_by: Person | null
  decided_at: string | null
  /** What is to run, or ran, where it is not what the model sent. */
  arguments: Record<string, unknown> | null
  changed_by: Person | null
  note: string | null
  scope: Scope
  /** The earlier approval by which this call need not ask. */
  grant_id: string | null
  votes: Vote[]
}

/** What a person says to a question. */
export interface Word {
  decision: 'approve' | 'deny'
  arguments?: Record<string, unknown>
  note?: string
  scope?: Scope
}

export interface ToolExecution {
  id: string
  turn_id: string
  message_id: string
  tool_call_id: string
  tool_name: string
  queue: string
  effect: string
  parameters: unknown
  status: ToolStatus
  attempt: number
  result: unknown
  error: ToolError | null
  execution_time_ms: number | null
  created_at: string
  temporal_url?: string | null
  requires_approval?: boolean
  approval?: Approval | null
  stalled?: Stalled | null
  intervention?: Intervention | null
}

export type StallReason = 'worker_lost' | 'no_worker' | 'waiting' | 'slow' | 'overdue' | 'paused'

/** Why a call makes no progress, and since when; `detail` says more, for people. */
export interface Stalled {
  reason: StallReason
  since: string
  detail: string
}

export type InterventionAction = 'retry' | 'skip' | 'cancel'

/** What somebody did about a call. */
export interface Intervention {
  action: InterventionAction
  by: Person | null
  note: string | null
  attempt: number
  at: string
}

/** How an open call stands at its workers. */
export interface ToolRun {
  state: 'scheduled' | 'started' | 'backoff' | 'cancel_requested' | 'paused'
  attempt: number
  max_attempts: number
  queue: string
  worker: string | null
  heartbeat_age_seconds: number | null
  next_attempt_at: string | null
  last_failure: ToolError | null
}

/** A call with all that is stored of it, and its run while it is open. */
export interface ToolExecutionDetail extends ToolExecution {
  run: ToolRun | null
  interventions: Intervention[]
}

export interface Message {
  id: string
  conversation_id: string
  turn_id: string | null
  role: Role
  author: Person | null
  content: string
  status: MessageStatus
  epoch: number
  tool_calls: ToolCall[]
  tool_executions: ToolExecution[]
  metadata: Record<string, unknown>
  created_at: string
}

export interface LiveTurn {
  turn_id: string
  status: TurnStatus
}

export interface Conversation {
  id: string
  project_id: string
  title: string
  created_by: Person | string | null
  created_at: string
  updated_at: string
  live: LiveTurn | null
}

export interface Turn {
  id: string
  conversation_id: string
  message_id: string
  status: TurnStatus
  code: string | null
  detail: string | null
  asked_by: Person | string | null
  stopped_by: Person | string | null
  steps: number
  usage: Record<string, unknown> | null
  created_at: string
  started_at: string | null
  finished_at: string | null
  temporal_url?: string | null
}

export interface Project {
  id: string
  name: string
  description: string
  /** The asker's own role, where the server says it. */
  role?: string
}

export interface User {
  id: string
  name: string
  email: string
  role?: string
}

export interface Tenant {
  id: string
  name: string
}

export interface Page<T> {
  items: T[]
  next_cursor: string | null
}

/** A page of messages, oldest first, with the project's event number it reflects. */
export interface MessagePage extends Page<Message> {
  seq: number
}

/** One open turn in the answer to a join; `message_id` is null while no assistant text streams. */
export interface LiveEntry {
  conversation_id: string
  turn_id: string
  status: TurnStatus
  message_id: string | null
  epoch: number | null
  content: string | null
  offset: number | null
}

/** The `database_query` tool's result. */
export interface QueryResult {
  columns: { name: string; type: string }[]
  rows: unknown[][]
  row_count: number
  truncated: boolean
  elapsed_ms: number
}

interface InRoom {
  project_id: string
}

interface Durable extends InRoom {
  seq: number
}

export interface WelcomeData {
  connection_id: string
  user: User
  server_time: number | string
  heartbeat_seconds: number
  limits: Record<string, unknown>
}

export interface ProjectJoinedData extends InRoom {
  seq: number
  recovered: boolean
  live: LiveEntry[]
  presence?: unknown
}

export interface ProjectLeftData extends InRoom {
  reason: 'requested' | 'membership_removed' | 'project_deleted'
}

export interface AckData {
  reply_to: string
  message_id?: string
  turn_id?: string
  conversation_id?: string
  status?: TurnStatus
  duplicate?: boolean
}

export interface ErrorData {
  code: string
  message: string
  reply_to?: string
  retry_after_ms?: number
}

export interface ConversationData extends Durable {
  conversation: Conversation
}

export interface MessageCreatedData extends Durable {
  message: Message
  client_message_id: string | null
}

export interface TurnStatusData extends Durable {
  turn_id: string
  conversation_id: string
  message_id: string
  status: TurnStatus
  code?: string | null
  detail?: string | null
  by?: Person | string | null
}

/** A piece of an assistant's text; durable (with `seq`) only when `done`. */
export interface AssistantResponseData extends InRoom {
  seq?: number
  conversation_id: string
  turn_id: string
  message_id: string
  epoch: number
  /** In Unicode code points. */
  offset: number
  content: string
  done: boolean
  /** In Unicode code points; with `done`, as are the fields below. */
  length?: number
  sha256?: string
  status?: MessageStatus
  created_at?: string
  finish_reason?: string
  usage?: Record<string, unknown>
}

export interface ToolCallData extends Durable {
  conversation_id: string
  turn_id: string
  message_id: string
  tool_calls: AnnouncedCall[]
}

export interface ToolResultData extends Durable {
  conversation_id: string
  turn_id: string
  tool_execution_id: string
  tool_call_id: string
  tool_name: string
  status: ToolStatus
  attempt: number
  result?: unknown
  error?: ToolError | null
  execution_time_ms?: number | null
  temporal_url?: string | null
  stalled?: Stalled | null
  intervention?: Intervention | null
  approval?: Approval | null
}

export interface TypingData extends InRoom {
  conversation_id: string
  user_id: string
}

export interface PresenceData extends InRoom {
  users: Person[]
}

interface Envelope<T extends string, D> {
  type: T
  data: D
  /** The server's clock, in milliseconds since 1970. */
  timestamp: number
  id?: string
}

/** What belongs to a room, and is folded into its state. */
export type RoomEvent =
  | Envelope<
      'conversation_created' | 'conversation_updated' | 'conversation_deleted',
      ConversationData
    >
  | Envelope<'message_created', MessageCreatedData>
  | Envelope<'turn_status', TurnStatusData>
  | Envelope<'assistant_response', AssistantResponseData>
  | Envelope<'tool_call', ToolCallData>
  | Envelope<'tool_result', ToolResultData>
  | Envelope<'presence', PresenceData>
  | Envelope<'typing', TypingData>

export type ServerEvent =
  | RoomEvent
  | Envelope<'welcome', WelcomeData>
  | Envelope<'project_joined', ProjectJoinedData>
  | Envelope<'project_left', ProjectLeftData>
  | Envelope<'ack', AckData>
  | Envelope<'error', ErrorData>
  | Envelope<'pong', Record<string, never>>
  | Envelope<'session_ending', { reason: string; at: string }>

export interface UserMessageData {
  conversation_id: string
  project_id: string
  content: string
  client_message_id: string
  on_busy?: 'enqueue' | 'reject' | 'interrupt' | 'steer'
}

/** What a client may send, by type. */
export interface ClientData {
  join_project: { project_id: string; after_seq?: number }
  leave_project: { project_id: string }
  user_message: UserMessageData
  stop_turn: { turn_id: string }
  tool_decision: Word & { tool_execution_id: string }
  typing: { conversation_id: string }
  ping: Record<string, never>
}

export const OPEN_TURN: ReadonlySet<TurnStatus> = new Set([
  'queued',
  'running',
  'awaiting_approval',
])
export const OPEN_TOOL: ReadonlySet<ToolStatus> = new Set([
  'pending',
  'awaiting_approval',
  'executing',
])
