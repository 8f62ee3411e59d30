/**
 * Messages that the server has not stored yet. Kept over a reload, and sent again with the same
 * `client_message_id`, so that a message is neither lost nor doubled.
 */
import { useSessionStorage } from '@vueuse/core'
import { defineStore } from 'pinia'

import type { Problem } from '@/domain/errors'
import { problemOf } from '@/domain/errors'
import { randomUuid } from '@/services/digest'

import { useConnectionStore } from './connection'
import { useSessionStore } from './session'

export interface Outgoing {
  clientMessageId: string
  userId: string
  projectId: string
  conversationId: string
  content: string
  createdAt: string
  /** Set by the `ack`; the message itself follows as an event. */
  messageId: string | null
  problem: Problem | null
}

export const useOutboxStore = defineStore('outbox', () => {
  const connection = useConnectionStore()
  const session = useSessionStore()
  const items = useSessionStorage<Outgoing[]>('everturn.outbox', [])
  const inFlight = new Set<string>()

  function add(projectId: string, conversationId: string, content: string): void {
    const outgoing: Outgoing = {
      clientMessageId: randomUuid(),
      userId: session.user?.id ?? '',
      projectId,
      conversationId,
      content,
      createdAt: new Date(Date.now() + connection.clockOffset).toISOString(),
      messageId: null,
      problem: null,
    }
    items.value = [...items.value, outgoing]
    void send(outgoing.clientMessageId)
  }

  async function send(clientMessageId: string): Promise<void> {
    const outgoing = find(clientMessageId)
    if (!outgoing || inFlight.has(clientMessageId)) return
    inFlight.add(clientMessageId)
    change(clientMessageId, { problem: null })
    try {
      const ack = await connection.sendMessage({
        project_id: outgoing.projectId,
        conversation_id: outgoing.conversationId,
        content: outgoing.content,
        client_message_id: clientMessageId,
      })
      change(clientMessageId, { messageId: ack.message_id ?? null })
    } catch (error) {
      const problem = problemOf(error)
      // Taken by the connection, not refused: it goes out again with the next join.
      if (problem.code !== 'connection_lost') change(clientMessageId, { problem })
    } finally {
      inFlight.delete(clientMessageId)
    }
  }

  /** Sends what an earlier visit of this tab left behind. */
  function resume(projectId: string): void {
    items.value = items.value.filter(({ userId }) => userId === session.user?.id)
    for (const { projectId: of, clientMessageId, messageId, problem } of items.value)
      if (of === projectId && !messageId && !problem) void send(clientMessageId)
  }

  function remove(clientMessageId: string): void {
    items.value = items.value.filter((item) => item.clientMessageId !== clientMessageId)
  }

  function removeConversation(conversationId: string): void {
    items.value = items.value.filter((item) => item.conversationId !== conversationId)
  }

  /** Drops what has arrived by another way than its event. */
  function removeArrived(messageIds: ReadonlySet<string>): void {
    if (items.value.some(({ messageId }) => messageId && messageIds.has(messageId)))
      items.value = items.value.filter(({ messageId }) => !messageId || !messageIds.has(messageId))
  }

  function clear(): void {
    items.value = []
  }

  function find(clientMessageId: string): Outgoing | undefined {
    return items.value.find((item) => item.clientMessageId === clientMessageId)
  }

  function change(clientMessageId: string, changes: Partial<Outgoing>): void {
    items.value = items.value.map((item) =>
      item.clientMessageId === clientMessageId ? { ...item, ...changes } : item,
    )
  }

  return { items, add, send, resume, remove, removeConversation, removeArrived, clear }
})
