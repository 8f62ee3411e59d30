/**
 * What a page knows about one project: its event number, conversations, turns, loaded threads and
 * the texts that stream. Plain data, changed by domain/fold.ts alone.
 */
import type { Conversation, Message, Person, TurnStatus } from '@/api/events'

import type { StreamText } from './stream'

export interface TurnState {
  id: string
  conversationId: string
  status: TurnStatus
  code: string | null
  detail: string | null
  by: string | null
}

/** A question with its answers. Messages without a turn stand alone. */
export interface TurnGroup {
  key: string
  turnId: string | null
  /** Place in the thread: below zero when from a page, the event number when from an event. */
  rank: number
  messages: Message[]
}

export interface Thread {
  conversationId: string
  /** Event number the loaded page reflects; what is at or below is already in it. */
  seq: number
  groups: TurnGroup[]
  /** Value for `before` of the next older page; null at the beginning of the conversation. */
  older: string | null
}

export interface Room {
  projectId: string
  /** Number of the last durable event folded. */
  seq: number
  conversations: Map<string, Conversation>
  turns: Map<string, TurnState>
  threads: Map<string, Thread>
  /** Texts that grow, by message id, of all conversations. */
  streams: Map<string, StreamText>
  /** Messages whose final text is stored; what still arrives for them is late. */
  settled: Set<string>
  /** Conversations that were deleted; what still arrives for them is late. */
  forgotten: Set<string>
  /** When an execution's present attempt began: the server's clock, in milliseconds. */
  toolStarts: Map<string, number>
  presence: Person[]
}

export function createRoom(projectId: string): Room {
  return {
    projectId,
    seq: 0,
    conversations: new Map(),
    turns: new Map(),
    threads: new Map(),
    streams: new Map(),
    settled: new Set(),
    forgotten: new Set(),
    toolStarts: new Map(),
    presence: [],
  }
}

/** All messages of a thread in their order. */
export function threadMessages(thread: Thread): Message[] {
  return thread.groups.flatMap((group) => group.messages)
}

/** Id of whoever asked the question that a turn answers; undefined where it is not loaded. */
export function askerOf(thread: Thread | null | undefined, turnId: string): string | undefined {
  const group = thread?.groups.find((each) => each.turnId === turnId)
  return group?.messages.find(({ role }) => role === 'user')?.author?.id
}

/** Newest first; the id settles a tie, so that every page shows the same order. */
export function sortedConversations(room: Room): Conversation[] {
  return [...room.conversations.values()].sort(
    (a, b) => compare(b.updated_at, a.updated_at) || compare(b.id, a.id),
  )
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** How many turns' ends are asked for at once, newest first. */
const EXPLAINED_AT_ONCE = 20

/** Turns that are over without a complete answer and whose reason is not known here. */
export function unexplainedTurns(room: Room, thread: Thread): string[] {
  return thread.groups
    .filter(({ turnId, messages }) => {
      const last = messages[messages.length - 1]
      // A message with calls is a step on the way; only one without them is the answer.
      const answered =
        last?.role === 'assistant' && last.status === 'complete' && last.tool_calls.length === 0
      return turnId !== null && !room.turns.has(turnId) && !answered
    })
    .slice(-EXPLAINED_AT_ONCE)
    .flatMap(({ turnId }) => turnId ?? [])
}
