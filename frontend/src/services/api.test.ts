import { afterEach, describe, expect, test, vi } from 'vitest'

import { ApiError, api, handleUnauthorized } from './api'

function answer(status: number, body: unknown, headers: Record<string, string> = {}): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  vi.stubGlobal(
    'fetch',
    vi.fn(() => Promise.resolve(new Response(status === 204 ? null : text, { status, headers }))),
  )
}

afterEach(() => handleUnauthorized(() => undefined))

describe('errors', () => {
  test('a problem becomes an error with its code, text and waiting time', async () => {
    answer(429, { code: 'rate_limited', detail: 'Wait a little.' }, { 'Retry-After': '12' })
    await expect(api.login('a', 'b')).rejects.toMatchObject({
      status: 429,
      code: 'rate_limited',
      message: 'Wait a little.',
      retryAfterMs: 12_000,
    })
  })

  test('an answer that is no problem still says something', async () => {
    answer(502, '<html>Bad gateway</html>')
    await expect(api.projects()).rejects.toMatchObject({
      status: 502,
      message: 'The server answered 502.',
    })
  })

  test('no answer is an error of its own', async () => {
    vi.stubGlobal(
      'fetch',
      vi.fn(() => Promise.reject(new TypeError('Failed to fetch'))),
    )
    await expect(api.me()).rejects.toMatchObject({ status: 0, code: 'unreachable' })
  })

  test('a session that is over is told, a wrong password is not one', async () => {
    const told = vi.fn()
    handleUnauthorized(told)
    answer(401, { code: 'unauthenticated', detail: 'Sign in.' })
    await expect(api.login('a', 'b')).rejects.toBeInstanceOf(ApiError)
    expect(told).not.toHaveBeenCalled()
    await expect(api.projects()).rejects.toBeInstanceOf(ApiError)
    expect(told).toHaveBeenCalledOnce()
  })
})

test('a list is read to its end', async () => {
  const pages = [
    { items: [{ id: '1' }], next_cursor: 'a b' },
    { items: [{ id: '2' }], next_cursor: null },
  ]
  const asked: string[] = []
  vi.stubGlobal(
    'fetch',
    vi.fn((path: string) => {
      asked.push(path)
      return Promise.resolve(Response.json(pages[asked.length - 1]))
    }),
  )
  expect((await api.projects()).map(({ id }) => id)).toEqual(['1', '2'])
  expect(asked).toEqual(['/api/projects', '/api/projects?cursor=a%20b'])
})

test('ids cannot leave their place in the path', async () => {
  answer(204, null)
  await api.deleteConversation('../auth/logout?x')
  expect(fetch).toHaveBeenCalledWith(
    '/api/conversations/..%2Fauth%2Flogout%3Fx',
    expect.objectContaining({ method: 'DELETE' }),
  )
})
