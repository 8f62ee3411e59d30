/** Waiting times between attempts: doubling, bounded, and spread so that clients do not return as one. */

const FIRST_MS = 500
const LONGEST_MS = 15_000

/**
 * @param attempt Counts from 0.
 * @param random From 0 to 1.
 * @returns Milliseconds; anything up to the doubled time (full jitter): whoever lost the connection in
 *   the same moment spreads over all of it.
 */
export function backoffMs(attempt: number, random = Math.random()): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10))
  return Math.round(full * random)
}
