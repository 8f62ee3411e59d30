import { expect, test, vi } from 'vitest'

import { randomUuid, sha256 } from './digest'

test('is that of the UTF-8 bytes', async () => {
  expect(await sha256('🎉 East')).toBe(
    '2f3291bc1da18c10cb4e0de21cae8c2d4b2211edeb8658ab4ebe8c790c4c03c5',
  )
})

test('is null where the browser keeps it to secure origins', async () => {
  vi.stubGlobal('crypto', {})
  expect(await sha256('x')).toBeNull()
})

test('ids are UUIDs of version 4', () => {
  expect(randomUuid()).toMatch(
    /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  )
  expect(randomUuid()).not.toBe(randomUuid())
})
