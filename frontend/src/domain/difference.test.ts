import { expect, test } from 'vitest'

import { difference, readable } from './difference'

function told(before: Record<string, unknown>, after: Record<string, unknown>): string[] {
  const marks = { same: ' ', removed: '-', added: '+' }
  return difference(before, after).map(({ kind, text }) => marks[kind] + text)
}

test('a text of several lines is read line by line', () => {
  expect(readable({ query: 'SELECT 1\nFROM t', n: 2 })).toEqual([
    'query:',
    '  SELECT 1',
    '  FROM t',
    'n: 2',
  ])
})

test('only what differs is marked, whatever the order of the fields', () => {
  expect(told({ a: 1, q: 'x\ny\nz' }, { q: 'x\nY\nz', a: 1 })).toEqual([
    ' a: 1',
    ' q:',
    '   x',
    '-  y',
    '+  Y',
    '   z',
  ])
})

test('fields come and go', () => {
  expect(told({ a: 1, b: 2 }, { b: 2, c: [1] })).toEqual([
    '-a: 1',
    ' b: 2',
    '+c:',
    '+  [',
    '+    1',
    '+  ]',
  ])
})

test('texts of thousands of lines are shown as a whole', () => {
  const long = Array.from({ length: 5000 }, (_, n) => `${n}`).join('\n')
  expect(told({ a: long }, { a: `${long}!` })).toHaveLength(10_002)
})
