/** The one socket of the page, and what is known about it. */
import { defineStore } from 'pinia'
import { ref } from 'vue'

import type { AckData, ClientData, ServerEvent, UserMessageData } from '@/api/events'
import type { JoinTarget, SocketState } from '@/services/websocket'
import { ChatSocket, socketUrl } from '@/services/websocket'

import { useSessionStore } from './session'

export const useConnectionStore = defineStore('connection', () => {
  const session = useSessionStore()
  const state = ref<SocketState>('connecting')
  const retryAt = ref<number | null>(null)
  /** What to add to this device's clock to get the server's, in milliseconds. */
  const clockOffset = ref(0)
  /** Most bytes a message may have. */
  const maxMessageBytes = ref(64 * 1024)
  const listeners = new Set<(event: ServerEvent) => void>()

  const socket = new ChatSocket(socketUrl(), {
    onEvent(event) {
      if (event.type === 'welcome') {
        clockOffset.value = event.timestamp - Date.now()
        const limit = Number(event.data.limits?.['message_bytes'])
        if (limit > 0) maxMessageBytes.value = limit
      }
      for (const listener of listeners) listener(event)
    },
    onState(next, at) {
      state.value = next
      retryAt.value = at
    },
    onSessionEnd: () => session.expire(),
    checkSession: () => session.check(),
  })

  function onEvent(listener: (event: ServerEvent) => void): void {
    listeners.add(listener)
  }

  return {
    state,
    retryAt,
    clockOffset,
    maxMessageBytes,
    onEvent,
    open: () => socket.open(),
    close: () => socket.close(),
    retryNow: () => socket.retryNow(),
    join: (projectId: string, target: JoinTarget) => socket.join(projectId, target),
    rejoin: (projectId: string) => socket.rejoin(projectId),
    leave: (projectId: string) => socket.leave(projectId),
    sendMessage: (data: UserMessageData): Promise<AckData> => socket.sendMessage(data),
    stopTurn: (turnId: string): Promise<AckData> => socket.stopTurn(turnId),
    decide: (data: ClientData['tool_decision']): Promise<AckData> => socket.decide(data),
    typing: (conversationId: string) => socket.typing(conversationId),
  }
})
