// @vitest-environment node
import { expect, test } from 'vitest'

import { formatSql } from './sql'

const text = (sql: string) =>
  formatSql(sql)
    .map((piece) => piece.text)
    .join('')

test('breaks one line before its clauses', () => {
  expect(text('SELECT a, b FROM t LEFT JOIN u ON u.id = t.id WHERE a = 1 ORDER BY b LIMIT 5')).toBe(
    'SELECT a, b\nFROM t\nLEFT JOIN u ON u.id = t.id\nWHERE a = 1\nORDER BY b\nLIMIT 5',
  )
})

test('leaves parentheses, strings and comments alone', () => {
  const sql = "SELECT (SELECT 1 FROM x) , 'it''s FROM here', $$a WHERE b$$ /* FROM */ FROM t"
  expect(text(sql)).toBe(sql.replace(' FROM t', '\nFROM t'))
  expect(formatSql(sql).find(({ kind }) => kind === 'string')?.text).toBe("'it''s FROM here'")
})

test('leaves what has lines already as it is', () => {
  expect(text('SELECT 1\n  FROM t WHERE x')).toBe('SELECT 1\n  FROM t WHERE x')
})

test.each(["'open", '/* open', '$$open', '"open', '', '((('])('shows all of %s', (sql) => {
  expect(text(sql)).toBe(sql)
})
