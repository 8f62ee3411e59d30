// @vitest-environment node
import { describe, expect, test } from 'vitest'

import type { StreamText } from './stream'
import { applyDelta } from './stream'

function stream(changes: Partial<StreamText> = {}): StreamText {
  return {
    messageId: 'a1',
    conversationId: 'c1',
    turnId: 't1',
    epoch: 1,
    text: '',
    length: 0,
    ...changes,
  }
}

describe('applyDelta', () => {
  test('appends where the text ends', () => {
    const text = stream()
    applyDelta(text, { epoch: 1, offset: 0, content: 'Hel' })
    applyDelta(text, { epoch: 1, offset: 3, content: 'lo' })
    expect(text).toMatchObject({ text: 'Hello', length: 5 })
  })

  test('counts code points, with an emoji cut over deltas', () => {
    const family = ['👩', '\u200d', '👧', ' ', '🇨', '🇭', '!']
    const text = stream()
    family.forEach((content, offset) => {
      expect(applyDelta(text, { epoch: 1, offset, content })).toBe('applied')
    })
    expect(text).toMatchObject({ text: family.join(''), length: 7 })
  })

  test('an overlap replaces the tail, behind an emoji too', () => {
    const text = stream({ text: 'a🎉bc', length: 4 })
    applyDelta(text, { epoch: 1, offset: 2, content: '🎈d' })
    expect(text).toMatchObject({ text: 'a🎉🎈d', length: 4 })
  })

  test('a hole changes nothing', () => {
    const text = stream({ text: '🎉', length: 1 })
    // In UTF-16 units 2 would be the end; in code points it lies beyond.
    expect(applyDelta(text, { epoch: 1, offset: 2, content: 'x' })).toBe('hole')
    expect(text.text).toBe('🎉')
  })

  test('a higher epoch clears, a lower one is dropped', () => {
    const text = stream({ text: 'old', length: 3 })
    expect(applyDelta(text, { epoch: 2, offset: 0, content: 'new' })).toBe('applied')
    expect(applyDelta(text, { epoch: 1, offset: 3, content: '!' })).toBe('stale')
    expect(text).toMatchObject({ epoch: 2, text: 'new', length: 3 })
  })

  test('a delta costs as much as the delta', () => {
    const text = stream()
    const start = performance.now()
    for (let offset = 0; offset < 200_000; offset += 1)
      applyDelta(text, { epoch: 1, offset, content: 'x' })
    // Counting the whole text each time would take minutes.
    expect(performance.now() - start).toBeLessThan(2_000)
    expect(text.length).toBe(200_000)
  })
})
