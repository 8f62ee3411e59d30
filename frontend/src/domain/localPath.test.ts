import { expect, test } from 'vitest'

import { localPath } from './localPath'

test.each(['/projects/1', '/projects/1/conversations/2?x=1#y', '/'])('%s is ours', (next) => {
  expect(localPath(next)).toBe(next)
})

test.each([
  'https://evil.test/',
  '//evil.test/',
  '/\\evil.test/',
  '\\\\evil.test',
  '/\t/evil.test/',
  '/%0a//evil.test\n',
  'javascript:alert(1)',
  'projects/1',
  '/login',
  '/login?next=/login',
  '',
  undefined,
  null,
  ['/a'],
])('%s is not', (next) => {
  expect(localPath(next)).toBe('/')
})
