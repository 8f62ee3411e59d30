/**
 * The folding rule: how a room's events become its state. No clock, no network, no framework.
 *
 * Durable events are applied exactly once and in order, by their number; deltas by (epoch, offset).
 * What the state alone cannot mend is returned as an effect, for the caller to carry out.
 */
import type {
  AssistantResponseData,
  Conversation,
  LiveEntry,
  Message,
  MessagePage,
  Person,
  ProjectJoinedData,
  RoomEvent,
  Turn,
  TurnStatusData,
} from '@/api/events'
import { OPEN_TURN } from '@/api/events'

import type { Room, Thread, TurnState } from './room'
import type { StreamText } from './stream'
import { applyDelta } from './stream'
import {
  addMessage,
  addToolCalls,
  applyToolResult,
  ensureAssistant,
  prependPage,
  settleMessage,
  threadFromPage,
} from './thread'

export type Effect =
  /** Something was missed: join the project again with the number last folded. */
  | { kind: 'rejoin' }
  /** What is shown is known to differ from what is stored: load the messages again. */
  | { kind: 'refetch'; conversationId: string }
  /** An answer is final: compare its text with the digest, and load again where it differs. */
  | { kind: 'verify'; conversationId: string; messageId: string; text: string; sha256: string }

const NONE: Effect[] = []
/** Late deltas come within seconds of the end; this many answers ago is long enough. */
const SETTLED_REMEMBERED = 500

/** Folds one event of the room into its state. */
export function fold(room: Room, event: RoomEvent): Effect[] {
  const seq = 'seq' in event.data ? event.data.seq : undefined
  if (seq === undefined) return foldEphemeral(room, event)
  if (seq <= room.seq) return NONE
  if (seq > room.seq + 1) return [{ kind: 'rejoin' }]
  room.seq = seq
  return foldDurable(room, event, seq)
}

/** Folds the answer to a join. Afterwards, where not `recovered`, lists and threads load anew. */
export function foldJoined(room: Room, joined: ProjectJoinedData, at: number): void {
  if (!joined.recovered) {
    room.seq = joined.seq
    room.streams.clear()
    // What was open and is not in the answer has ended unheard.
    for (const [id, turn] of room.turns) if (OPEN_TURN.has(turn.status)) room.turns.delete(id)
    for (const entry of joined.live) room.turns.set(entry.turn_id, turnOf(entry))
    for (const conversation of room.conversations.values()) setLive(room, conversation)
  }
  for (const entry of joined.live) foldLiveText(room, entry, at)
  room.presence = people(joined.presence)
}

/**
 * The conversations as a list tells them.
 *
 * @param since Events that arrived while the list was on its way. They are folded again: each leaves
 *   the state it names, so that the last one decides, whichever of them the list already knew.
 */
export function foldConversations(
  room: Room,
  conversations: Conversation[],
  since: RoomEvent[],
): void {
  room.conversations.clear()
  for (const conversation of conversations) foldConversation(room, conversation)
  for (const event of since) foldList(room, event)
}

/** A conversation this page has just made; its event may be on its way. */
export function foldCreated(room: Room, conversation: Conversation): void {
  if (!room.conversations.has(conversation.id)) foldConversation(room, conversation)
}

/**
 * A conversation's newest messages as a page tells them.
 *
 * @param since Events of this conversation that arrived while the page was on its way.
 * @param at The time, in milliseconds, for a message that has none of its own yet.
 */
export function foldPage(
  room: Room,
  conversationId: string,
  page: MessagePage,
  since: RoomEvent[],
  at: number,
): Effect[] {
  if (room.forgotten.has(conversationId)) return NONE
  room.threads.set(
    conversationId,
    threadFromPage(conversationId, page, room.threads.get(conversationId)),
  )
  const thread = room.threads.get(conversationId)
  if (!thread) return NONE
  for (const message of page.items) {
    if (message.role !== 'assistant') continue
    if (message.status === 'streaming') foldStoredText(room, message)
    else settle(room, message.id)
  }
  const effects = since.flatMap((event) => foldThread(room, thread, event))
  for (const stream of room.streams.values()) {
    if (stream.conversationId === conversationId) showStream(thread, stream, at)
  }
  return effects
}

/** An older page of a conversation that is already loaded. */
export function foldOlderPage(room: Room, conversationId: string, page: MessagePage): void {
  const thread = room.threads.get(conversationId)
  if (thread) prependPage(thread, page)
}

/** What a turn that is over came to, where its events were not heard. */
export function foldTurn(room: Room, turn: Turn): void {
  if (room.turns.has(turn.id)) return
  room.turns.set(turn.id, {
    id: turn.id,
    conversationId: turn.conversation_id,
    status: turn.status,
    code: turn.code,
    detail: turn.detail,
    by: personName(turn.stopped_by),
  })
}

function foldDurable(room: Room, event: RoomEvent, seq: number): Effect[] {
  foldList(room, event)
  if (event.type === 'turn_status') foldTurnStatus(room, event.data)
  if (event.type === 'tool_result') {
    if (event.data.status === 'executing')
      room.toolStarts.set(event.data.tool_execution_id, event.timestamp)
    else room.toolStarts.delete(event.data.tool_execution_id)
  }
  const thread = room.threads.get(conversationOf(event) ?? '')
  const effects = thread && seq > thread.seq ? foldThread(room, thread, event) : NONE
  if (event.type === 'assistant_response' && event.data.done) settle(room, event.data.message_id)
  return effects
}

/** The part of an event that shows in the list of conversations. */
function foldList(room: Room, event: RoomEvent): void {
  if (event.type === 'conversation_created' || event.type === 'conversation_updated') {
    foldConversation(room, event.data.conversation)
  } else if (event.type === 'conversation_deleted') {
    forgetConversation(room, event.data.conversation.id)
  } else if (event.type === 'message_created') {
    const { conversation_id: id, created_at: at } = event.data.message
    const conversation = room.conversations.get(id)
    if (conversation && conversation.updated_at < at) conversation.updated_at = at
  }
}

function foldEphemeral(room: Room, event: RoomEvent): Effect[] {
  if (event.type === 'presence') room.presence = people(event.data.users)
  if (event.type !== 'assistant_response' || room.settled.has(event.data.message_id)) return NONE
  // A deleted conversation's worker may have been in the middle of a word.
  if (room.forgotten.has(event.data.conversation_id)) return NONE
  return foldDelta(room, event.data, event.timestamp)
}

function foldDelta(room: Room, data: AssistantResponseData, at: number): Effect[] {
  if (!room.streams.has(data.message_id)) {
    if (data.offset > 0) return [{ kind: 'rejoin' }]
    room.streams.set(data.message_id, emptyStream(data))
  }
  const stream = room.streams.get(data.message_id)
  if (!stream) return NONE
  const outcome = applyDelta(stream, data)
  const thread = room.threads.get(data.conversation_id)
  if (thread) showStream(thread, stream, at)
  return outcome === 'hole' ? [{ kind: 'rejoin' }] : NONE
}

/** Folds an event into one thread, however old the thread; the caller compares the numbers. */
function foldThread(room: Room, thread: Thread, event: RoomEvent): Effect[] {
  const seq = 'seq' in event.data ? event.data.seq : undefined
  if (seq === undefined || seq <= thread.seq) return NONE
  switch (event.type) {
    case 'message_created':
      addMessage(thread, event.data)
      return NONE
    case 'tool_call': {
      const message = ensureAssistant(thread, { ...event.data, epoch: 0 }, event.timestamp)
      addToolCalls(message, event.data, event.timestamp)
      return NONE
    }
    case 'tool_result':
      applyToolResult(thread, event.data)
      return NONE
    case 'assistant_response':
      return event.data.done ? foldDone(room, thread, event.data, event.timestamp) : NONE
    default:
      return NONE
  }
}

function foldDone(room: Room, thread: Thread, data: AssistantResponseData, at: number): Effect[] {
  const conversationId = thread.conversationId
  const message = ensureAssistant(thread, data, at)
  if (message.status !== 'streaming') return NONE
  const stream = room.streams.get(data.message_id)
  const current = stream && stream.epoch === data.epoch ? stream : undefined
  const text = current?.text ?? ''
  settleMessage(message, data, text)
  if (data.length !== undefined && (current?.length ?? 0) !== data.length)
    return [{ kind: 'refetch', conversationId }]
  if (!data.sha256) return NONE
  return [{ kind: 'verify', conversationId, messageId: message.id, text, sha256: data.sha256 }]
}

/** A text that streams as a page tells it: all there is of one that was not heard of before. */
function foldStoredText(room: Room, message: Message): void {
  const stream = room.streams.get(message.id)
  const { turn_id: turnId, epoch, content } = message
  if (turnId === null || room.settled.has(message.id) || (stream && stream.epoch >= epoch)) return
  const ref = { ...message, message_id: message.id, turn_id: turnId }
  const fresh = emptyStream(ref)
  applyDelta(fresh, { epoch, offset: 0, content })
  room.streams.set(message.id, fresh)
}

function foldLiveText(room: Room, entry: LiveEntry, at: number): void {
  if (!entry.message_id || room.settled.has(entry.message_id)) return
  if (room.forgotten.has(entry.conversation_id)) return
  const ref = { ...entry, message_id: entry.message_id, epoch: entry.epoch ?? 0 }
  if (!room.streams.has(ref.message_id)) room.streams.set(ref.message_id, emptyStream(ref))
  const stream = room.streams.get(ref.message_id)
  if (!stream) return
  applyDelta(stream, { epoch: ref.epoch, offset: entry.offset ?? 0, content: entry.content ?? '' })
  const thread = room.threads.get(entry.conversation_id)
  if (thread) showStream(thread, stream, at)
}

/** Makes sure that a text that streams has its message, and that the message is of its epoch. */
function showStream(thread: Thread, stream: StreamText, at: number): void {
  const message = ensureAssistant(
    thread,
    {
      message_id: stream.messageId,
      turn_id: stream.turnId,
      conversation_id: stream.conversationId,
      epoch: stream.epoch,
    },
    at,
  )
  if (message.status === 'streaming' && message.epoch !== stream.epoch) message.epoch = stream.epoch
}

function foldConversation(room: Room, conversation: Conversation): void {
  const live = conversation.live
  if (live && !room.turns.has(live.turn_id)) {
    room.turns.set(live.turn_id, {
      id: live.turn_id,
      conversationId: conversation.id,
      status: live.status,
      code: null,
      detail: null,
      by: null,
    })
  }
  const fresh = { ...conversation }
  setLive(room, fresh)
  room.conversations.set(conversation.id, fresh)
}

function foldTurnStatus(room: Room, data: TurnStatusData): void {
  room.turns.set(data.turn_id, {
    id: data.turn_id,
    conversationId: data.conversation_id,
    status: data.status,
    code: data.code ?? null,
    detail: data.detail ?? null,
    by: personName(data.by),
  })
  const conversation = room.conversations.get(data.conversation_id)
  if (conversation) setLive(room, conversation)
}

/** A conversation's live turn: the one that runs; where none does, the first that waits. */
function setLive(room: Room, conversation: Conversation): void {
  let live: TurnState | undefined
  for (const turn of room.turns.values()) {
    if (turn.conversationId !== conversation.id || !OPEN_TURN.has(turn.status)) continue
    if (!live || (live.status === 'queued' && turn.status !== 'queued')) live = turn
  }
  conversation.live = live ? { turn_id: live.id, status: live.status } : null
}

function forgetConversation(room: Room, conversationId: string): void {
  room.conversations.delete(conversationId)
  room.threads.delete(conversationId)
  room.forgotten.add(conversationId)
  for (const [id, turn] of room.turns)
    if (turn.conversationId === conversationId) room.turns.delete(id)
  for (const [id, stream] of room.streams)
    if (stream.conversationId === conversationId) room.streams.delete(id)
}

function settle(room: Room, messageId: string): void {
  room.streams.delete(messageId)
  room.settled.add(messageId)
  if (room.settled.size > SETTLED_REMEMBERED) {
    const [oldest] = room.settled
    if (oldest) room.settled.delete(oldest)
  }
}

/** The conversation an event of a thread belongs to. */
export function conversationOf(event: RoomEvent): string | undefined {
  switch (event.type) {
    case 'message_created':
      return event.data.message.conversation_id
    case 'assistant_response':
    case 'tool_call':
    case 'tool_result':
      return event.data.conversation_id
    default:
      return undefined
  }
}

function turnOf(entry: LiveEntry): TurnState {
  return {
    id: entry.turn_id,
    conversationId: entry.conversation_id,
    status: entry.status,
    code: null,
    detail: null,
    by: null,
  }
}

function emptyStream(ref: {
  message_id: string
  conversation_id: string
  turn_id: string
  epoch: number
}): StreamText {
  return {
    messageId: ref.message_id,
    conversationId: ref.conversation_id,
    turnId: ref.turn_id,
    epoch: ref.epoch,
    text: '',
    length: 0,
  }
}

function personName(by: Person | string | null | undefined): string | null {
  return typeof by === 'object' ? (by?.name ?? null) : (by ?? null)
}

/** Presence comes as a list, or as an event's data holding one. */
function people(presence: unknown): Person[] {
  const list = Array.isArray(presence) ? presence : (presence as { users?: unknown } | null)?.users
  return Array.isArray(list) ? (list as Person[]) : []
}
