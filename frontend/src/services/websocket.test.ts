import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import type { ServerEvent } from '@/api/events'
import { FakeSocket } from '@/testing/fakeSocket'

import { backoffMs } from './backoff'
import type { SocketState } from './websocket'
import { ChatSocket } from './websocket'

let events: ServerEvent[]
let states: SocketState[]
let ended: number
let sessionHolds: boolean
let seq: number | undefined
let socket: ChatSocket

const MESSAGE = {
  project_id: 'p1',
  conversation_id: 'c1',
  content: 'Hello',
  client_message_id: 'mine-1',
}

beforeEach(() => {
  vi.useFakeTimers()
  FakeSocket.all = []
  vi.stubGlobal('WebSocket', FakeSocket)
  events = []
  states = []
  ended = 0
  sessionHolds = true
  seq = undefined
  socket = new ChatSocket('ws://here/ws/chat', {
    onEvent: (event) => events.push(event),
    onState: (state) => states.push(state),
    onSessionEnd: () => (ended += 1),
    checkSession: () => Promise.resolve(sessionHolds),
  })
  socket.join('p1', { afterSeq: () => seq })
  socket.open()
})

afterEach(() => {
  socket.close()
  vi.useRealTimers()
})

function connect(): FakeSocket {
  FakeSocket.last.open()
  FakeSocket.last.joined('p1', seq ?? 0, seq !== undefined)
  return FakeSocket.last
}

/** For cases that do not wait for the answer: closing the socket at the end rejects it. */
function sendAnyway(): void {
  socket.sendMessage(MESSAGE).catch(() => undefined)
}

describe('connecting', () => {
  test('joins as soon as it is open, and is live when the room answers', () => {
    FakeSocket.last.open()
    expect(FakeSocket.last.of('join_project').map(({ data }) => data)).toEqual([
      { project_id: 'p1' },
    ])
    expect(states).toEqual(['connecting'])
    FakeSocket.last.joined('p1')
    expect(states).toEqual(['connecting', 'live'])
    expect(events.map(({ type }) => type)).toEqual(['project_joined'])
  })

  test('comes back by itself, and joins with the number last folded', async () => {
    connect()
    seq = 41
    FakeSocket.last.drop()
    expect(states).toEqual(['connecting', 'live', 'reconnecting'])
    await vi.advanceTimersByTimeAsync(600)
    expect(FakeSocket.all).toHaveLength(2)
    connect()
    expect(FakeSocket.last.of('join_project')[0]?.data).toEqual({ project_id: 'p1', after_seq: 41 })
    expect(states.at(-1)).toBe('live')
  })

  test('waits longer each time, spread, and never longer than 15 s', () => {
    expect([0, 1, 2, 3].map((attempt) => backoffMs(attempt, 1))).toEqual([500, 1000, 2000, 4000])
    expect(backoffMs(2, 0)).toBe(0)
    expect(backoffMs(2, 0.25)).toBe(500)
    expect(backoffMs(50, 1)).toBe(15_000)
  })

  test('whoever is sent off by a server that goes away spreads over two seconds', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.75)
    connect()
    FakeSocket.last.drop(1001)
    await vi.advanceTimersByTimeAsync(1499)
    expect(FakeSocket.all).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(FakeSocket.all).toHaveLength(2)
  })

  test('a connection that breaks at once does not start over from the shortest wait', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(1)
    connect()
    for (const wait of [500, 1000, 2000]) {
      FakeSocket.last.drop()
      const before = FakeSocket.all.length
      await vi.advanceTimersByTimeAsync(wait - 1)
      expect(FakeSocket.all).toHaveLength(before)
      await vi.advanceTimersByTimeAsync(1)
      expect(FakeSocket.all).toHaveLength(before + 1)
      connect()
    }
  })

  test('a handshake that does not come is given up', async () => {
    await vi.advanceTimersByTimeAsync(10_000)
    expect(FakeSocket.all[0]?.closed).toBe(true)
    await vi.advanceTimersByTimeAsync(600)
    expect(FakeSocket.all).toHaveLength(2)
  })

  test('silence for two heartbeats is the end of a connection', async () => {
    const first = connect()
    await vi.advanceTimersByTimeAsync(20_000)
    expect(first.of('ping')).toHaveLength(1)
    first.receive({ type: 'pong', data: {} })
    await vi.advanceTimersByTimeAsync(40_000)
    expect(first.closed).toBe(false)
    await vi.advanceTimersByTimeAsync(21_000)
    expect(first.closed).toBe(true)
    expect(FakeSocket.all.length).toBeGreaterThan(1)
  })

  test('what an abandoned connection still says is not heard', () => {
    const first = connect()
    first.drop()
    events = []
    first.joined('p1')
    expect(events).toEqual([])
  })

  test('a network that is gone is said, and its return is not waited for', async () => {
    connect()
    const online = vi.spyOn(navigator, 'onLine', 'get').mockReturnValue(false)
    window.dispatchEvent(new Event('offline'))
    expect(states.at(-1)).toBe('offline')
    online.mockReturnValue(true)
    const before = FakeSocket.all.length
    window.dispatchEvent(new Event('online'))
    expect(FakeSocket.all).toHaveLength(before + 1)
  })
})

describe('the session', () => {
  test('4401 ends it for good', async () => {
    connect()
    FakeSocket.last.drop(4401)
    expect(ended).toBe(1)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(FakeSocket.all).toHaveLength(1)
  })

  test('a refusal before the handshake asks whether it still holds', async () => {
    sessionHolds = false
    FakeSocket.last.drop()
    await vi.advanceTimersByTimeAsync(0)
    expect(ended).toBe(1)
  })

  test('a server that is merely away does not end it', async () => {
    FakeSocket.last.drop()
    await vi.advanceTimersByTimeAsync(600)
    expect(ended).toBe(0)
    expect(FakeSocket.all).toHaveLength(2)
  })
})

describe('requests', () => {
  test('an ack settles its own request', async () => {
    const server = connect()
    const one = socket.sendMessage(MESSAGE)
    const two = socket.sendMessage({ ...MESSAGE, client_message_id: 'mine-2' })
    const [first, second] = server.of('user_message')
    server.receive({ type: 'ack', data: { reply_to: second?.id, message_id: 'm2' } })
    server.receive({ type: 'ack', data: { reply_to: first?.id, message_id: 'm1' } })
    expect((await one).message_id).toBe('m1')
    expect((await two).message_id).toBe('m2')
    expect(events.map(({ type }) => type)).not.toContain('ack')
  })

  test('an error rejects its own request, with when to try again', async () => {
    const server = connect()
    const sent = socket.sendMessage(MESSAGE)
    server.receive({
      type: 'error',
      data: {
        reply_to: server.of('user_message')[0]?.id,
        code: 'rate_limited',
        message: 'Wait.',
        retry_after_ms: 9000,
      },
    })
    await expect(sent).rejects.toMatchObject({ code: 'rate_limited', retryAfterMs: 9000 })
  })

  test('a message without an answer is sent again after a reconnect, as the same message', async () => {
    const first = connect()
    const sent = socket.sendMessage(MESSAGE)
    first.drop()
    await vi.advanceTimersByTimeAsync(600)
    FakeSocket.last.open()
    expect(FakeSocket.last.of('user_message')).toEqual([])
    FakeSocket.last.joined('p1')
    expect(FakeSocket.last.of('user_message')).toEqual(first.of('user_message'))
    const id = FakeSocket.last.of('user_message')[0]?.id
    FakeSocket.last.receive({
      type: 'ack',
      data: { reply_to: id, message_id: 'm1', duplicate: true },
    })
    expect(await sent).toMatchObject({ message_id: 'm1', duplicate: true })
  })

  test('an answered message is not sent again', async () => {
    const first = connect()
    const sent = socket.sendMessage(MESSAGE)
    first.receive({ type: 'ack', data: { reply_to: first.of('user_message')[0]?.id } })
    await sent
    first.drop()
    await vi.advanceTimersByTimeAsync(600)
    connect()
    expect(FakeSocket.last.of('user_message')).toEqual([])
  })

  test('a message written while there is no connection goes out with the next one', async () => {
    connect().drop()
    sendAnyway()
    await vi.advanceTimersByTimeAsync(600)
    expect(
      connect()
        .of('user_message')
        .map(({ data }) => data),
    ).toEqual([MESSAGE])
  })

  test('a second answer to the join does not send it twice', () => {
    const server = connect()
    sendAnyway()
    server.joined('p1', 3, true)
    expect(server.of('user_message')).toHaveLength(1)
  })

  test('a stop fails with its connection, since a late one would stop another answer', async () => {
    const server = connect()
    const stopped = socket.stopTurn('t1')
    expect(server.of('stop_turn')[0]?.data).toEqual({ turn_id: 't1' })
    server.drop()
    await expect(stopped).rejects.toMatchObject({ code: 'connection_lost' })
    await expect(socket.stopTurn('t1')).rejects.toMatchObject({ code: 'connection_lost' })
  })

  test('leaving for good fails what was on its way there', async () => {
    const server = connect()
    const sent = socket.sendMessage(MESSAGE)
    server.receive({
      type: 'project_left',
      data: { project_id: 'p1', reason: 'membership_removed' },
    })
    await expect(sent).rejects.toMatchObject({ code: 'connection_lost' })
  })
})

describe('joining again after a gap', () => {
  test('asks once, and not more than once a second', async () => {
    const server = connect()
    await vi.advanceTimersByTimeAsync(1_000)
    for (let i = 0; i < 5; i += 1) socket.rejoin('p1')
    await vi.advanceTimersByTimeAsync(0)
    expect(server.of('join_project')).toHaveLength(2)
    server.joined('p1', 5, true)
    socket.rejoin('p1')
    await vi.advanceTimersByTimeAsync(900)
    expect(server.of('join_project')).toHaveLength(2)
    await vi.advanceTimersByTimeAsync(200)
    expect(server.of('join_project')).toHaveLength(3)
    // The answer is still on its way; what it will bring need not be asked for again.
    await vi.advanceTimersByTimeAsync(5_000)
    socket.rejoin('p1')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(server.of('join_project')).toHaveLength(3)
  })
})

test('frames that are no events are passed over', () => {
  const server = connect()
  events = []
  for (const data of ['{bad', 'null', '[]', '5', '{"type":1}', new ArrayBuffer(2)])
    server.onmessage?.({ data })
  expect(events).toEqual([])
})
