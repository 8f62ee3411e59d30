import { flushPromises } from '@vue/test-utils'
import { createPinia, setActivePinia } from 'pinia'
import { beforeEach, describe, expect, test, vi } from 'vitest'

import type { MessagePage } from '@/api/events'
import {
  CONVERSATION,
  PROJECT,
  conversation,
  delta,
  done,
  message,
  messageCreated,
  page,
  turnStatus,
} from '@/testing/events'
import { FakeSocket } from '@/testing/fakeSocket'

import { useChatStore } from './chat'
import { useOutboxStore } from './outbox'
import { useSessionStore } from './session'

/** What REST answers; a test changes it as the server's state would. */
let stored: MessagePage
let messageRequests: number
let held: (() => void)[] | null

function serve(path: string): Promise<Response> {
  if (path.includes('/messages')) {
    messageRequests += 1
    const answer = () => Response.json(stored)
    if (!held) return Promise.resolve(answer())
    return new Promise((resolve) => held?.push(() => resolve(answer())))
  }
  if (path.endsWith('/conversations'))
    return Promise.resolve(Response.json({ items: [conversation()], next_cursor: null }))
  return Promise.resolve(
    Response.json({ code: 'not_found', detail: 'There is nothing here.' }, { status: 404 }),
  )
}

function open() {
  const session = useSessionStore()
  session.user = { id: 'u1', name: 'Ada', email: 'ada@demo.test' }
  const chat = useChatStore()
  chat.openProject(PROJECT)
  chat.openConversation(CONVERSATION)
  return chat
}

function server(): FakeSocket {
  return FakeSocket.last
}

beforeEach(() => {
  sessionStorage.clear()
  setActivePinia(createPinia())
  FakeSocket.all = []
  stored = page([message()], 1)
  messageRequests = 0
  held = null
  vi.stubGlobal('WebSocket', FakeSocket)
  vi.stubGlobal('fetch', vi.fn(serve))
})

describe('loading', () => {
  test('joins first, then asks for the messages', async () => {
    const chat = open()
    await flushPromises()
    expect(messageRequests).toBe(0)
    server().open()
    server().joined(PROJECT, 1)
    await flushPromises()
    expect(messageRequests).toBe(1)
    expect(chat.messages.map(({ id }) => id)).toEqual(['m1'])
  })

  test('what happens while the messages are on their way is not lost and not doubled', async () => {
    held = []
    const chat = open()
    server().open()
    server().joined(PROJECT, 1)
    server().receive(messageCreated(2, { id: 'm2', turn_id: 't2' }))
    server().receive(messageCreated(3, { id: 'm3', turn_id: 't3' }))
    stored = page([message(), message({ id: 'm2', turn_id: 't2' })], 2)
    held.forEach((answer) => answer())
    await flushPromises()
    expect(chat.messages.map(({ id }) => id)).toEqual(['m1', 'm2', 'm3'])
  })

  test('a message list that fails is said, and loads with the next connection', async () => {
    vi.stubGlobal(
      'fetch',
      vi.fn(() => Promise.reject(new TypeError('away'))),
    )
    const chat = open()
    server().open()
    server().joined(PROJECT, 1)
    await flushPromises()
    expect(chat.threadProblems.get(CONVERSATION)?.code).toBe('unreachable')
    vi.stubGlobal('fetch', vi.fn(serve))
    server().joined(PROJECT, 1, true)
    await flushPromises()
    expect(chat.messages).toHaveLength(1)
    expect(chat.threadProblems.size).toBe(0)
  })
})

describe('healing', () => {
  async function ready() {
    const chat = open()
    server().open()
    server().joined(PROJECT, 1)
    await flushPromises()
    return chat
  }

  test('a gap joins again with the number last folded', async () => {
    vi.useFakeTimers()
    const chat = open()
    server().open()
    server().joined(PROJECT, 1)
    await vi.advanceTimersByTimeAsync(2_000)
    server().receive(messageCreated(5, { id: 'm5' }))
    await vi.advanceTimersByTimeAsync(0)
    vi.useRealTimers()
    expect(server().of('join_project').at(-1)?.data).toEqual({ project_id: PROJECT, after_seq: 1 })
    expect(chat.messages).toHaveLength(1)
  })

  test('a final text of another length is loaded again', async () => {
    const chat = await ready()
    server().receive(delta(0, 'Eas'))
    stored = page([message(), message({ id: 'a1', role: 'assistant', content: 'East' })], 2)
    server().receive(done(2, 4))
    await flushPromises()
    expect(messageRequests).toBe(2)
    expect(chat.messages.at(-1)?.content).toBe('East')
  })

  test('a final text of another digest is loaded again', async () => {
    const chat = await ready()
    server().receive(delta(0, 'Wset'))
    stored = page([message(), message({ id: 'a1', role: 'assistant', content: 'West' })], 2)
    server().receive(done(2, 4, { sha256: 'another' }))
    await vi.waitFor(() => expect(chat.messages.at(-1)?.content).toBe('West'))
    expect(messageRequests).toBe(2)
  })

  test('a final text that agrees is not', async () => {
    await ready()
    const sha = '4e2cd851cfdab8b554b71408d984989127f1db0430f647c711863c42d20f39e7'
    server().receive(delta(0, 'East'))
    server().receive(done(2, 4, { sha256: sha }))
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(messageRequests).toBe(1)
  })

  test('a join without recovery loads everything anew', async () => {
    const chat = await ready()
    stored = page([message(), message({ id: 'm9', turn_id: 't9' })], 90)
    server().joined(PROJECT, 90)
    await flushPromises()
    expect(chat.room?.seq).toBe(90)
    expect(chat.messages.map(({ id }) => id)).toEqual(['m1', 'm9'])
  })
})

describe('sending', () => {
  async function ready() {
    const chat = open()
    server().open()
    server().joined(PROJECT, 1)
    await flushPromises()
    return chat
  }

  test('shows at once, and is replaced by the message the room hears of', async () => {
    const chat = await ready()
    await chat.send('And the South?')
    expect(chat.outgoing.map(({ content }) => content)).toEqual(['And the South?'])
    const sent = server().of('user_message')[0]
    server().receive({
      type: 'ack',
      data: { reply_to: sent?.id, message_id: 'm2', turn_id: 't2', status: 'running' },
    })
    await flushPromises()
    expect(chat.outgoing).toHaveLength(1)
    server().receive(
      messageCreated(
        2,
        { id: 'm2', turn_id: 't2', content: 'And the South?' },
        String(sent?.data['client_message_id']),
      ),
    )
    expect(chat.outgoing).toEqual([])
    expect(chat.messages.at(-1)?.content).toBe('And the South?')
  })

  test('a refusal stays with its message, and sending again uses the same id', async () => {
    const chat = await ready()
    await chat.send('Hello')
    const [sent] = server().of('user_message')
    server().receive({
      type: 'error',
      data: { reply_to: sent?.id, code: 'rate_limited', message: 'Wait.', retry_after_ms: 5000 },
    })
    await flushPromises()
    const [item] = chat.outgoing
    expect(item?.problem).toMatchObject({ code: 'rate_limited', text: 'Wait.' })
    void useOutboxStore().send(item?.clientMessageId ?? '')
    expect(server().of('user_message')[1]?.data).toEqual(sent?.data)
  })

  test('what a reload interrupted is sent again', async () => {
    const chat = await ready()
    await chat.send('Before the reload')
    const [sent] = server().of('user_message')
    await flushPromises()

    setActivePinia(createPinia())
    FakeSocket.all = []
    await ready()
    expect(
      server()
        .of('user_message')
        .map(({ data }) => data),
    ).toEqual([sent?.data])
  })

  test('a session that ends in between leaves the message waiting, not failed', async () => {
    const chat = await ready()
    await chat.send('Almost')
    server().drop(4401)
    await flushPromises()
    expect(useOutboxStore().items).toMatchObject([{ content: 'Almost', problem: null }])
    chat.closeProject()
    await ready()
    expect(
      server()
        .of('user_message')
        .map(({ data }) => data['content']),
    ).toEqual(['Almost'])
  })

  test("another person's unsent message is not sent in one's own name", async () => {
    const chat = await ready()
    await chat.send('Mine')
    await flushPromises()
    setActivePinia(createPinia())
    FakeSocket.all = []
    useSessionStore().user = { id: 'u2', name: 'Grace', email: 'grace@demo.test' }
    const other = useChatStore()
    other.openProject(PROJECT)
    server().open()
    server().joined(PROJECT, 1)
    await flushPromises()
    expect(server().of('user_message')).toEqual([])
  })

  test('stop names the turn that runs', async () => {
    const chat = await ready()
    server().receive(turnStatus(2, 'running'))
    expect(chat.liveTurn).toEqual({ turn_id: 't1', status: 'running' })
    void chat.stop('t1')
    expect(server().of('stop_turn')[0]?.data).toEqual({ turn_id: 't1' })
    expect(chat.stopping.has('t1')).toBe(true)
    server().receive(turnStatus(3, 'cancelled'))
    expect(chat.stopping.has('t1')).toBe(false)
    expect(chat.liveTurn).toBeNull()
  })
})

test('a member who is removed is told, and the room is closed', async () => {
  const chat = open()
  server().open()
  server().joined(PROJECT, 1)
  await flushPromises()
  server().receive({
    type: 'project_left',
    data: { project_id: PROJECT, reason: 'membership_removed' },
  })
  expect(chat.leftReason).toBe('You are no longer a member of this project.')
})
