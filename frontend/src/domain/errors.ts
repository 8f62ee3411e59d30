/** What went wrong, for people. */
import { texts } from '@/texts'

export interface Problem {
  text: string
  code: string
  /** When trying again makes sense, in milliseconds since 1970; null at once. */
  retryAt: number | null
}

interface Coded {
  code?: unknown
  retryAfterMs?: unknown
}

export function problemOf(error: unknown): Problem {
  const { code, retryAfterMs } = (error ?? {}) as Coded
  const text = error instanceof Error && error.message ? error.message : ''
  return {
    text:
      text || (code === 'connection_lost' ? texts.errors.connectionLost : texts.errors.badAnswer),
    code: typeof code === 'string' ? code : 'internal_error',
    retryAt: typeof retryAfterMs === 'number' ? Date.now() + retryAfterMs : null,
  }
}
