/** A WebSocket whose server is the test. */
import type { ServerEvent } from '@/api/events'

interface Frame {
  type: string
  data: Record<string, unknown>
  id?: string
}

export class FakeSocket {
  static all: FakeSocket[] = []

  static get last(): FakeSocket {
    const socket = FakeSocket.all[FakeSocket.all.length - 1]
    if (!socket) throw new Error('no socket has been opened')
    return socket
  }

  onopen: (() => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code: number }) => void) | null = null
  readonly sent: Frame[] = []
  closed = false

  constructor(readonly url: string) {
    FakeSocket.all.push(this)
  }

  send(frame: string): void {
    this.sent.push(JSON.parse(frame) as Frame)
  }

  close(): void {
    this.closed = true
  }

  /** The handshake succeeds. */
  open(): void {
    this.onopen?.()
  }

  /** The connection ends, from the server's side or the network's. */
  drop(code = 1006): void {
    this.onclose?.({ code })
  }

  receive(event: { type: ServerEvent['type']; data: object; timestamp?: number }): void {
    this.onmessage?.({ data: JSON.stringify({ timestamp: 0, ...event }) })
  }

  joined(projectId: string, seq = 0, recovered = false): void {
    this.receive({
      type: 'project_joined',
      data: { project_id: projectId, seq, recovered, live: [], presence: [] },
    })
  }

  of(type: string): Frame[] {
    return this.sent.filter((frame) => frame.type === type)
  }
}
