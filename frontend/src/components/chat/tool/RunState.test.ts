import { flushPromises, mount } from '@vue/test-utils'
import { createPinia, setActivePinia } from 'pinia'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'

import type { ToolExecution, ToolRun } from '@/api/events'
import { createRoom } from '@/domain/room'
import { useChatStore } from '@/stores/chat'
import { useProjectsStore } from '@/stores/projects'
import { useSessionStore } from '@/stores/session'
import { CONVERSATION, PROJECT, execution, message } from '@/testing/events'

import RunState from './RunState.vue'

const SINCE = '2026-03-01T10:00:01Z'
const LOST = {
  reason: 'worker_lost',
  since: SINCE,
  detail: 'Its worker (box:7) is silent.',
} as const
const RUN: ToolRun = {
  state: 'started',
  attempt: 2,
  max_attempts: 5,
  queue: 'tools-database',
  worker: 'box:7',
  heartbeat_age_seconds: 12.4,
  next_attempt_at: null,
  last_failure: { code: 'worker_lost', message: 'Its worker was not heard of for 5 s.' },
}

function open(changes: Partial<ToolExecution> = {}, role = 'owner', asker = 'u1') {
  const room = createRoom(PROJECT)
  room.threads.set(CONVERSATION, {
    conversationId: CONVERSATION,
    seq: 1,
    older: null,
    groups: [
      {
        key: 't1',
        turnId: 't1',
        rank: 1,
        messages: [message({ author: { id: asker, name: 'Somebody' } })],
      },
    ],
  })
  const chat = useChatStore()
  chat.room = room
  chat.conversationId = CONVERSATION
  useProjectsStore().items = [{ id: PROJECT, name: 'Shop', description: '', role }]
  useSessionStore().user = { id: 'u1', name: 'Ada', email: 'ada@x.test' }
  const looked = vi.spyOn(chat, 'toolRun').mockResolvedValue(RUN)
  const acted = vi.spyOn(chat, 'intervene').mockResolvedValue(true)
  const wrapper = mount(RunState, {
    props: { execution: execution({ status: 'executing', stalled: LOST, ...changes }) },
  })
  const find = (id: string) => wrapper.find(`[data-testid="${id}"]`)
  return { wrapper, find, looked, acted }
}

beforeEach(() => {
  setActivePinia(createPinia())
  vi.useFakeTimers({ now: Date.parse('2026-03-01T10:00:13Z') })
})
afterEach(() => vi.useRealTimers())

describe('seeing it', () => {
  test('says what hangs and for how long, and what is known of the run', async () => {
    const { wrapper, find } = open()
    await flushPromises()
    expect(find('tool-stalled').text()).toContain('Its worker has not been heard of for 12 s.')
    expect(wrapper.text()).toContain('box:7')
    expect(wrapper.text()).toContain('2 of 5')
    expect(wrapper.text()).toContain('12 s ago')
    expect(wrapper.text()).toContain('not heard of for 5 s')
  })

  test('a call that has just begun is nobody’s worry, and is not asked after', async () => {
    vi.setSystemTime(Date.parse('2026-03-01T10:00:03Z'))
    const { find, looked } = open({ stalled: null })
    await vi.advanceTimersByTimeAsync(1_000)
    expect(find('tool-run').exists()).toBe(false)
    expect(looked).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(3_500)
    expect(find('tool-run').exists()).toBe(true)
    expect(looked).toHaveBeenCalled()
  })

  test('everybody is told who asked for another attempt', () => {
    const by = { id: 'u2', name: 'Grace' }
    const done = { action: 'retry', by, note: null, attempt: 1, at: SINCE } as const
    expect(open({ intervention: done }).find('tool-intervention').text()).toBe(
      'Grace asked for another attempt.',
    )
  })
})

describe('acting', () => {
  test('a note and two clicks skip it', async () => {
    const { find, acted } = open()
    await find('tool-skip').trigger('click')
    await find('tool-note').setValue(' use last month ')
    await find('tool-confirm').trigger('submit')
    expect(acted).toHaveBeenCalledWith('e1', {
      action: 'skip',
      attempt: 1,
      note: 'use last month',
    })
  })

  test('what only reads is run again, or ended, with one click', async () => {
    const { find, acted } = open()
    await find('tool-retry').trigger('click')
    await flushPromises()
    await find('tool-cancel').trigger('click')
    expect(acted.mock.calls).toEqual([
      ['e1', { action: 'retry', attempt: 1 }],
      ['e1', { action: 'cancel', attempt: 1 }],
    ])
  })

  test('what may happen twice asks first', async () => {
    const { wrapper, find, acted } = open({ effect: 'once' })
    await find('tool-retry').trigger('click')
    expect(acted).not.toHaveBeenCalled()
    expect(wrapper.text()).toContain('may do it twice')
    await find('tool-confirm').trigger('submit')
    expect(acted).toHaveBeenCalledWith('e1', { action: 'retry', attempt: 1, confirm: true })
  })

  test('what never began has nothing at stake', async () => {
    const { find, acted } = open({ effect: 'once', status: 'pending', attempt: 0 })
    await find('tool-retry').trigger('click')
    expect(acted).toHaveBeenCalledWith('e1', { action: 'retry', attempt: 0 })
  })

  test('a question is taken back when another attempt has begun', async () => {
    const { wrapper, find } = open({ effect: 'once' })
    await find('tool-retry').trigger('click')
    await wrapper.setProps({
      execution: execution({ status: 'executing', attempt: 2, stalled: LOST }),
    })
    expect(find('tool-confirm').exists()).toBe(false)
  })

  test.each([
    ['owner', 'u2', true],
    ['editor', 'u1', true],
    ['editor', 'u2', false],
    ['viewer', 'u1', false],
  ])('a %s, where %s asked', (role, asker, may) => {
    expect(open({}, role, asker).find('tool-skip').exists()).toBe(may)
  })
})
