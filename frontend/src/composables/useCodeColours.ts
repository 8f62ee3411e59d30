import { useHighlight } from '@/domain/markdown'

let ready = false
let loading: Promise<void> | null = null

/** Loads the colours for code once, and calls `after` the first time they become ready. */
export async function loadHighlight(after: () => void): Promise<void> {
  if (ready) return
  loading ??= import('@/domain/highlight').then(({ highlightCode }) => {
    useHighlight(highlightCode)
    ready = true
  })
  try {
    await loading
    after()
  } catch {
    // Code without colours is still code; the next text tries again.
    loading = null
  }
}
