// @vitest-environment node
import { beforeEach, describe, expect, test } from 'vitest'

import {
  AT,
  CONVERSATION,
  PROJECT,
  conversation,
  delta,
  done,
  execution,
  joined,
  message,
  messageCreated,
  page,
  toolCall,
  toolResult,
  turnStatus,
} from '@/testing/events'

import { fold, foldConversations, foldJoined, foldOlderPage, foldPage, foldTurn } from './fold'
import type { Room } from './room'
import { createRoom, sortedConversations, threadMessages, unexplainedTurns } from './room'

let room: Room

beforeEach(() => {
  room = createRoom(PROJECT)
  foldJoined(room, joined(), AT)
  foldConversations(room, [conversation()], [])
  foldPage(room, CONVERSATION, page([], 0), [], AT)
})

function shown(): string[] {
  const thread = room.threads.get(CONVERSATION)
  return (thread ? threadMessages(thread) : []).map(
    ({ id, content, status }) =>
      `${id}:${status === 'streaming' ? (room.streams.get(id)?.text ?? '') : content}:${status}`,
  )
}

function executionOf(messageId: string) {
  const thread = room.threads.get(CONVERSATION)
  return thread && threadMessages(thread).find(({ id }) => id === messageId)?.tool_executions[0]
}

describe('durable events', () => {
  test('apply in order, once', () => {
    expect(fold(room, messageCreated(1))).toEqual([])
    expect(fold(room, messageCreated(1, { id: 'again' }))).toEqual([])
    expect(shown()).toEqual(['m1:Which region leads?:complete'])
    expect(room.seq).toBe(1)
  })

  test('a gap asks to join again and changes nothing', () => {
    fold(room, messageCreated(1))
    expect(fold(room, messageCreated(3, { id: 'm3' }))).toEqual([{ kind: 'rejoin' }])
    expect(room.seq).toBe(1)
    expect(shown()).toHaveLength(1)
  })

  test('what the loaded page already holds is not folded twice', () => {
    foldPage(room, CONVERSATION, page([message()], 4), [], AT)
    for (const event of [messageCreated(1), turnStatus(2, 'queued'), turnStatus(3, 'running')])
      fold(room, event)
    fold(room, messageCreated(4, { id: 'older' }))
    fold(room, messageCreated(5, { id: 'm5', turn_id: 't5', content: 'new' }))
    expect(shown()).toEqual(['m1:Which region leads?:complete', 'm5:new:complete'])
  })

  test('an old event does not undo what the loaded page already says', () => {
    const answer = message({
      id: 'a1',
      role: 'assistant',
      tool_executions: [execution({ status: 'completed' })],
    })
    foldPage(room, CONVERSATION, page([message(), answer], 3), [], AT)
    for (const event of [messageCreated(1), toolCall(2), toolResult(3, { status: 'executing' })])
      fold(room, event)
    expect(executionOf('a1')?.status).toBe('completed')
  })

  test('events that came while a page was on its way are folded onto it', () => {
    const since = [
      messageCreated(1),
      messageCreated(2, { id: 'm2', turn_id: 't2', content: 'two' }),
    ]
    room.threads.clear()
    for (const event of since) fold(room, event)
    foldPage(room, CONVERSATION, page([message()], 1), since, AT)
    expect(shown()).toEqual(['m1:Which region leads?:complete', 'm2:two:complete'])
  })
})

describe('assistant text', () => {
  test('appears by its first delta, after the question of its turn', () => {
    fold(room, messageCreated(1))
    fold(room, messageCreated(2, { id: 'm2', turn_id: 't2', content: 'next' }))
    fold(room, delta(0, 'East'))
    expect(shown()).toEqual([
      'm1:Which region leads?:complete',
      'a1:East:streaming',
      'm2:next:complete',
    ])
  })

  test('a higher epoch clears it', () => {
    fold(room, delta(0, 'half an ans'))
    fold(room, delta(0, 'whole', { epoch: 2 }))
    fold(room, delta(11, 'wer'))
    expect(shown()).toEqual(['a1:whole:streaming'])
  })

  test('a hole in the text asks to join again; the answer to the join fills it', () => {
    fold(room, delta(0, 'ab'))
    expect(fold(room, delta(5, 'f'))).toEqual([{ kind: 'rejoin' }])
    foldJoined(
      room,
      joined({
        recovered: true,
        live: [
          {
            conversation_id: CONVERSATION,
            turn_id: 't1',
            status: 'running',
            message_id: 'a1',
            epoch: 1,
            content: 'abcdef',
            offset: 0,
          },
        ],
      }),
      AT,
    )
    expect(shown()).toEqual(['a1:abcdef:streaming'])
  })

  test('an unknown text that does not begin at its beginning is a hole', () => {
    expect(fold(room, delta(3, 'x'))).toEqual([{ kind: 'rejoin' }])
    expect(shown()).toEqual([])
  })

  test('done settles it, and asks for its digest to be compared', () => {
    fold(room, messageCreated(1))
    fold(room, delta(0, '🎉 East'))
    expect(fold(room, done(2, 6))).toEqual([
      {
        kind: 'verify',
        conversationId: CONVERSATION,
        messageId: 'a1',
        text: '🎉 East',
        sha256: 'digest',
      },
    ])
    expect(shown()[1]).toBe('a1:🎉 East:complete')
    expect(room.streams.size).toBe(0)
  })

  test('done with another length asks for the messages', () => {
    fold(room, delta(0, '🎉 East'))
    expect(fold(room, done(1, 7))).toEqual([{ kind: 'refetch', conversationId: CONVERSATION }])
  })

  test('done of another epoch asks for the messages', () => {
    fold(room, delta(0, 'East'))
    expect(fold(room, done(1, 4, { epoch: 2 }))).toEqual([
      { kind: 'refetch', conversationId: CONVERSATION },
    ])
  })

  test('a late delta does not bring it back', () => {
    fold(room, delta(0, 'East'))
    fold(room, done(1, 4))
    expect(fold(room, delta(4, '!'))).toEqual([])
    expect(shown()).toEqual(['a1:East:complete'])
  })

  test('a stop leaves what was written, marked', () => {
    fold(room, delta(0, 'Ea'))
    fold(room, done(1, 2, { status: 'stopped' }))
    expect(shown()).toEqual(['a1:Ea:stopped'])
  })

  test('a reload in mid-stream shows the same text', () => {
    fold(room, messageCreated(1))
    fold(room, turnStatus(2, 'running'))
    fold(room, delta(0, '👩‍👧 leads'))
    const before = shown()

    const fresh = createRoom(PROJECT)
    const live = {
      conversation_id: CONVERSATION,
      turn_id: 't1',
      status: 'running' as const,
      message_id: 'a1',
      epoch: 1,
      content: '👩‍👧 le',
      offset: 0,
    }
    foldJoined(fresh, joined({ seq: 2, live: [live] }), AT)
    fold(fresh, delta(6, 'ads'))
    const streaming = message({
      id: 'a1',
      role: 'assistant',
      status: 'streaming',
      content: '👩',
      epoch: 1,
    })
    foldPage(fresh, CONVERSATION, page([message(), streaming], 2), [], AT)
    room = fresh
    expect(shown()).toEqual(before)
  })

  test('a live text whose question is still on its way stands behind earlier turns', () => {
    foldJoined(
      room,
      joined({
        seq: 3,
        recovered: true,
        live: [
          {
            conversation_id: CONVERSATION,
            turn_id: 't2',
            status: 'running',
            message_id: 'a2',
            epoch: 1,
            content: 'two',
            offset: 0,
          },
        ],
      }),
      AT,
    )
    fold(room, messageCreated(1, { id: 'm1', turn_id: 't1', content: 'one?' }))
    fold(room, messageCreated(2, { id: 'm2', turn_id: 't2', content: 'two?' }))
    fold(room, messageCreated(3, { id: 'm3', turn_id: 't3', content: 'three?' }))
    expect(shown()).toEqual([
      'm1:one?:complete',
      'm2:two?:complete',
      'a2:two:streaming',
      'm3:three?:complete',
    ])
  })
})

describe('a message that joins a running turn', () => {
  const steered = (seq: number, id: string, after: string) =>
    messageCreated(seq, { id, content: id, metadata: { after } })

  test('stands behind the one it names, whichever is heard of first', () => {
    fold(room, messageCreated(1))
    fold(room, steered(2, 's1', 'a1'))
    fold(room, delta(0, 'one'))
    fold(room, delta(0, 'two', { message_id: 'a2' }))
    fold(room, steered(3, 's2', 's1'))
    expect(shown()).toEqual([
      'm1:Which region leads?:complete',
      'a1:one:streaming',
      's1:s1:complete',
      's2:s2:complete',
      'a2:two:streaming',
    ])
  })

  test('is not the question of its turn', () => {
    fold(room, delta(0, 'one'))
    fold(room, steered(1, 's1', 'a1'))
    fold(room, messageCreated(2))
    expect(shown().map((line) => line.split(':')[0])).toEqual(['m1', 'a1', 's1'])
  })

  test('keeps its place when the messages are loaded again', () => {
    const answer = message({ id: 'a1', role: 'assistant', content: 'one' })
    const joining = message({ id: 's1', content: 's1', metadata: { after: 'a1' } })
    foldPage(room, CONVERSATION, page([message(), answer, joining], 3), [], AT)
    fold(room, delta(0, 'two', { message_id: 'a2' }))
    expect(shown().map((line) => line.split(':')[0])).toEqual(['m1', 'a1', 's1', 'a2'])
  })
})

describe('tools', () => {
  test('a call is pending, then what its results say', () => {
    fold(room, messageCreated(1))
    fold(room, delta(0, 'Let me look'))
    fold(room, toolCall(2))
    expect(executionOf('a1')).toMatchObject({
      id: 'e1',
      status: 'pending',
      attempt: 0,
      parameters: { query: 'SELECT 1' },
    })
    fold(room, toolResult(3, { status: 'executing', execution_time_ms: null }))
    expect(room.toolStarts.get('e1')).toBe(AT)
    fold(room, toolResult(4, { result: { rows: [] }, attempt: 2 }))
    expect(executionOf('a1')).toMatchObject({
      status: 'completed',
      attempt: 2,
      result: { rows: [] },
      execution_time_ms: 12,
    })
    expect(room.toolStarts.size).toBe(0)
  })

  test('a call may come before any text of its message', () => {
    fold(room, toolCall(1))
    expect(shown()).toEqual(['a1::streaming'])
    expect(executionOf('a1')?.tool_name).toBe('database_query')
  })

  test('arguments that are not JSON stand as they are', () => {
    fold(room, toolCall(1, 'database_query', '{"query": "SELECT 1"'))
    expect(executionOf('a1')?.parameters).toBe('{"query": "SELECT 1"')
  })
})

describe('conversations', () => {
  test('the live turn is the one that runs; where none does, the first that waits', () => {
    const live = () => room.conversations.get(CONVERSATION)?.live
    fold(room, turnStatus(1, 'running'))
    fold(room, turnStatus(2, 'queued', { turn_id: 't2' }))
    expect(live()).toEqual({ turn_id: 't1', status: 'running' })
    fold(room, turnStatus(3, 'completed'))
    expect(live()).toEqual({ turn_id: 't2', status: 'queued' })
    fold(room, turnStatus(4, 'cancelled', { turn_id: 't2' }))
    expect(live()).toBeNull()
  })

  test('are listed by their last message', () => {
    foldConversations(
      room,
      [conversation(), conversation({ id: 'c2', updated_at: '2026-03-01T09:30:00Z' })],
      [],
    )
    expect(sortedConversations(room).map(({ id }) => id)).toEqual(['c2', 'c1'])
    fold(room, messageCreated(1))
    expect(sortedConversations(room).map(({ id }) => id)).toEqual(['c1', 'c2'])
  })

  test('one made while the list was on its way is not lost', () => {
    const created = {
      type: 'conversation_created' as const,
      timestamp: AT,
      data: { project_id: PROJECT, seq: 1, conversation: conversation({ id: 'c9' }) },
    }
    fold(room, created)
    foldConversations(room, [conversation()], [created])
    expect([...room.conversations.keys()].sort()).toEqual(['c1', 'c9'])
  })

  test('a deleted one takes its messages with it', () => {
    fold(room, messageCreated(1))
    fold(room, delta(0, 'x'))
    fold(room, {
      type: 'conversation_deleted',
      timestamp: AT,
      data: { project_id: PROJECT, seq: 2, conversation: conversation() },
    })
    expect(room.conversations.size).toBe(0)
    expect(room.threads.size).toBe(0)
    expect(room.streams.size).toBe(0)
  })
})

describe('joining again', () => {
  test('without recovery, open turns that are not in the answer are over', () => {
    fold(room, turnStatus(1, 'running'))
    foldJoined(room, joined({ seq: 40 }), AT)
    expect(room.seq).toBe(40)
    expect(room.conversations.get(CONVERSATION)?.live).toBeNull()
  })

  test('with recovery, the number stays until the missed events have come', () => {
    fold(room, messageCreated(1))
    foldJoined(room, joined({ seq: 2, recovered: true }), AT)
    expect(room.seq).toBe(1)
    expect(fold(room, turnStatus(2, 'running'))).toEqual([])
    expect(room.seq).toBe(2)
  })
})

describe('pages', () => {
  const turn = (number: number) => [
    message({ id: `q${number}`, turn_id: `t${number}`, content: `q${number}` }),
    message({ id: `a${number}`, turn_id: `t${number}`, role: 'assistant', content: `a${number}` }),
  ]
  const ids = () => shown().map((line) => line.split(':')[0])

  test('an older page goes before, and joins a turn that was cut', () => {
    const all = [...turn(1), ...turn(2), ...turn(3)]
    foldPage(room, CONVERSATION, page(all.slice(3), 9, 'a2'), [], AT)
    room.seq = 9
    fold(room, messageCreated(10, { id: 'q4', turn_id: 't4' }))
    foldOlderPage(room, CONVERSATION, page(all.slice(0, 3), 9))
    expect(ids()).toEqual(['q1', 'a1', 'q2', 'a2', 'q3', 'a3', 'q4'])
    expect(room.threads.get(CONVERSATION)?.groups).toHaveLength(4)
  })

  test('loading the newest page again keeps the older ones', () => {
    const all = [...turn(1), ...turn(2), ...turn(3)]
    foldPage(room, CONVERSATION, page(all.slice(2), 9, 'q2'), [], AT)
    foldOlderPage(room, CONVERSATION, page(all.slice(0, 2), 9))
    foldPage(room, CONVERSATION, page(all.slice(2), 12, 'q2'), [], AT)
    expect(ids()).toEqual(['q1', 'a1', 'q2', 'a2', 'q3', 'a3'])
    expect(room.threads.get(CONVERSATION)?.older).toBeNull()
  })

  test('a turn without its answer, of which nothing was heard, is asked for once', () => {
    foldPage(room, CONVERSATION, page([...turn(1), ...turn(2).slice(0, 1)], 9), [], AT)
    const thread = room.threads.get(CONVERSATION)
    if (!thread) throw new Error('no thread')
    expect(unexplainedTurns(room, thread)).toEqual(['t2'])
    foldTurn(room, {
      id: 't2',
      conversation_id: CONVERSATION,
      message_id: 'q2',
      status: 'failed',
      code: 'model_unavailable',
      detail: 'No answer.',
      asked_by: null,
      stopped_by: null,
      steps: 0,
      usage: null,
      created_at: '',
      started_at: null,
      finished_at: null,
    })
    expect(unexplainedTurns(room, thread)).toEqual([])
    expect(room.turns.get('t2')).toMatchObject({ status: 'failed', detail: 'No answer.' })
  })
})
