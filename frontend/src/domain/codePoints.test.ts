// @vitest-environment node
import { describe, expect, test } from 'vitest'

import { countCodePoints, dropLastCodePoints } from './codePoints'

describe('countCodePoints', () => {
  test.each([
    ['', 0],
    ['abc', 3],
    ['é', 1],
    ['🎉', 1],
    ['a🎉b', 3],
    ['👩‍👩‍👧‍👦', 7],
    ['🇨🇭', 2],
    ['𝒳𝒴', 2],
  ])('%s has %i', (text, count) => {
    expect(countCodePoints(text)).toBe(count)
    expect(countCodePoints(text)).toBe([...text].length)
  })

  test('half a pair counts as one', () => {
    expect(countCodePoints('\ud83c')).toBe(1)
    expect(countCodePoints('\udf89\ud83c')).toBe(2)
  })
})

describe('dropLastCodePoints', () => {
  test('takes a pair as one', () => {
    expect(dropLastCodePoints('a🎉b', 1)).toBe('a🎉')
    expect(dropLastCodePoints('a🎉b', 2)).toBe('a')
  })

  test('cuts between the code points of one visible character', () => {
    expect(dropLastCodePoints('👩‍👧', 1)).toBe('👩‍')
  })

  test('stops at the beginning', () => {
    expect(dropLastCodePoints('ab', 9)).toBe('')
  })
})
