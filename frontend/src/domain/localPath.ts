/** Where a sign-in may lead back to: a path of this page, never an address of someone else's. */

const FALLBACK = '/'

export function localPath(next: unknown): string {
  if (typeof next !== 'string' || !next.startsWith('/')) return FALLBACK
  // Browsers read "/\host" and "//host" as another host, and drop tabs and line breaks on the way.
  if (/^\/[/\\]|[\u0000-\u001f\u007f\\]/.test(next)) return FALLBACK
  try {
    const url = new URL(next, window.location.origin)
    if (url.origin !== window.location.origin || url.pathname === '/login') return FALLBACK
    return url.pathname + url.search + url.hash
  } catch {
    return FALLBACK
  }
}
