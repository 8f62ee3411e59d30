/**
 * The messages of one conversation: pages from REST and durable events, in one order.
 * Order is by turn as the server accepted them, within a turn the question first, then by arrival;
 * a message that joined a running turn names the one it stands behind, which may arrive after it.
 */
import type {
  AnnouncedCall,
  AssistantResponseData,
  Message,
  MessageCreatedData,
  MessagePage,
  ToolCallData,
  ToolExecution,
  ToolResultData,
} from '@/api/events'

import type { Thread, TurnGroup } from './room'

/** Rank of a turn whose question has not arrived yet: behind everything, until it does. */
const UNPLACED = Number.MAX_SAFE_INTEGER

interface AssistantRef {
  message_id: string
  turn_id: string
  conversation_id: string
  epoch: number
}

export function findMessage(thread: Thread, messageId: string): Message | undefined {
  // From the end: what changes is nearly always the newest.
  for (let g = thread.groups.length - 1; g >= 0; g -= 1) {
    const found = thread.groups[g]?.messages.find((message) => message.id === messageId)
    if (found) return found
  }
  return undefined
}

/**
 * A thread as `page` tells it. What was loaded before and is older than the page is kept, as is what
 * events newer than the page have brought.
 */
export function threadFromPage(
  conversationId: string,
  page: MessagePage,
  known: Thread | undefined,
): Thread {
  const groups = groupMessages(page.items)
  const thread: Thread = { conversationId, seq: page.seq, groups, older: page.next_cursor }
  const first = page.items[0]
  if (known && first) {
    const older = groupsBefore(known, first.id)
    if (older) {
      prependGroups(thread, older)
      thread.older = known.older
    }
  }
  rank(thread.groups)
  const keys = new Set(thread.groups.map((group) => group.key))
  for (const group of known?.groups ?? []) {
    if (group.rank > page.seq && group.rank !== UNPLACED && !keys.has(group.key))
      thread.groups.push(group)
  }
  return thread
}

/** Puts the next older page before what is there. */
export function prependPage(thread: Thread, page: MessagePage): void {
  const have = new Set(thread.groups.flatMap((group) => group.messages.map(({ id }) => id)))
  const fresh = page.items.filter(({ id }) => !have.has(id))
  const paged = thread.groups.filter((group) => group.rank < 0)
  const later = thread.groups.filter((group) => group.rank >= 0)
  thread.groups = paged
  prependGroups(thread, groupMessages(fresh))
  rank(thread.groups)
  thread.groups.push(...later)
  thread.older = page.next_cursor
}

export function addMessage(thread: Thread, { message, seq }: MessageCreatedData): void {
  if (findMessage(thread, message.id)) return
  const group = thread.groups.find(({ key }) => key === groupKey(message))
  if (!group) {
    thread.groups.push({ ...newGroup(message), rank: seq, messages: [message] })
  } else if (message.role === 'user' && standsBehind(message) === undefined) {
    group.messages.unshift(message)
    group.rank = seq
  } else {
    place(group, message)
  }
  thread.groups.sort((a, b) => a.rank - b.rank)
}

/** The message that one which joined a running turn stands behind. */
function standsBehind(message: Message): unknown {
  return message.metadata.after
}

/** Puts a message behind the one it names, before one that names it, else at its turn's end. */
function place(group: TurnGroup, message: Message): void {
  const behind = standsBehind(message)
  const at = group.messages.findIndex(({ id }) => id === behind)
  const before = group.messages.findIndex((other) => standsBehind(other) === message.id)
  if (at >= 0) group.messages.splice(at + 1, 0, message)
  else if (before >= 0) group.messages.splice(before, 0, message)
  else group.messages.push(message)
}

/** The assistant's message of that id, made on its first sign of life. */
export function ensureAssistant(thread: Thread, ref: AssistantRef, at: number): Message {
  const known = findMessage(thread, ref.message_id)
  if (known) return known
  const message: Message = {
    id: ref.message_id,
    conversation_id: ref.conversation_id,
    turn_id: ref.turn_id,
    role: 'assistant',
    author: null,
    content: '',
    status: 'streaming',
    epoch: ref.epoch,
    tool_calls: [],
    tool_executions: [],
    metadata: {},
    created_at: new Date(at).toISOString(),
  }
  const group = thread.groups.find(({ turnId }) => turnId === ref.turn_id)
  if (group) place(group, message)
  else thread.groups.push({ ...newGroup(message), rank: UNPLACED, messages: [message] })
  // Read back: in a reactive thread the stored message is the one that tells its readers.
  return findMessage(thread, ref.message_id) ?? message
}

export function settleMessage(message: Message, data: AssistantResponseData, text: string): void {
  message.content = text
  message.status = data.status ?? 'complete'
  message.epoch = data.epoch
  if (data.created_at) message.created_at = data.created_at
  if (data.finish_reason !== undefined)
    message.metadata = { ...message.metadata, finish_reason: data.finish_reason }
}

export function addToolCalls(message: Message, data: ToolCallData, at: number): void {
  for (const call of data.tool_calls) {
    if (!message.tool_calls.some(({ id }) => id === call.id))
      message.tool_calls.push({ id: call.id, type: call.type, function: call.function })
    if (!message.tool_executions.some(({ id }) => id === call.tool_execution_id))
      message.tool_executions.push(pendingExecution(call, data, at))
  }
}

export function applyToolResult(thread: Thread, data: ToolResultData): void {
  const group = thread.groups.find(({ turnId }) => turnId === data.turn_id)
  for (const message of group?.messages ?? []) {
    const execution = message.tool_executions.find(({ id }) => id === data.tool_execution_id)
    if (!execution) continue
    execution.status = data.status
    execution.attempt = data.attempt
    execution.result = data.result ?? null
    execution.error = data.error ?? null
    execution.execution_time_ms = data.execution_time_ms ?? null
    if (data.temporal_url) execution.temporal_url = data.temporal_url
    execution.approval = data.approval ?? null
    execution.stalled = data.stalled ?? null
    execution.intervention = data.intervention ?? null
  }
}

function pendingExecution(call: AnnouncedCall, data: ToolCallData, at: number): ToolExecution {
  return {
    id: call.tool_execution_id,
    turn_id: data.turn_id,
    message_id: data.message_id,
    tool_call_id: call.id,
    tool_name: call.function.name,
    queue: call.queue ?? '',
    effect: call.effect,
    parameters: parseArguments(call.function.arguments),
    status: 'pending',
    attempt: 0,
    result: null,
    error: null,
    execution_time_ms: null,
    created_at: call.created_at ?? new Date(at).toISOString(),
    requires_approval: call.requires_approval,
    approval: null,
  }
}

/** The model writes its arguments as JSON text, not always well-formed; then the text stands. */
function parseArguments(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function groupKey(message: Message): string {
  return message.turn_id ?? message.id
}

function newGroup(message: Message): Omit<TurnGroup, 'rank' | 'messages'> {
  return { key: groupKey(message), turnId: message.turn_id }
}

function groupMessages(messages: Message[]): TurnGroup[] {
  const groups: TurnGroup[] = []
  for (const message of messages) {
    const last = groups[groups.length - 1]
    if (last && last.key === groupKey(message)) last.messages.push(message)
    else groups.push({ ...newGroup(message), rank: 0, messages: [message] })
  }
  return groups
}

/** The part of a thread that stands before a message; undefined when the message is unknown. */
function groupsBefore(thread: Thread, messageId: string): TurnGroup[] | undefined {
  const at = thread.groups.findIndex(({ messages }) => messages.some(({ id }) => id === messageId))
  const group = thread.groups[at]
  if (!group) return undefined
  const head = group.messages.slice(
    0,
    group.messages.findIndex(({ id }) => id === messageId),
  )
  const before = thread.groups.slice(0, at)
  return head.length > 0 ? [...before, { ...group, messages: head }] : before
}

/** A page may begin in the middle of a turn: the two halves become one group again. */
function prependGroups(thread: Thread, older: TurnGroup[]): void {
  const last = older[older.length - 1]
  const first = thread.groups[0]
  if (last && first && last.key === first.key) {
    const joined = { ...first, messages: [...last.messages, ...first.messages] }
    thread.groups = [...older.slice(0, -1), joined, ...thread.groups.slice(1)]
  } else {
    thread.groups = [...older, ...thread.groups]
  }
}

function rank(groups: TurnGroup[]): void {
  groups.forEach((group, index) => {
    group.rank = index - groups.length
  })
}
