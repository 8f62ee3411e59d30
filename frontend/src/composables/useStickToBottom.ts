import { useEventListener, useResizeObserver } from '@vueuse/core'
import type { Ref, ShallowRef } from 'vue'
import { nextTick, ref } from 'vue'

export interface UseStickToBottomReturn {
  /** The reader is at the end, and stays there as the content grows. */
  atBottom: Ref<boolean>
  toBottom: () => void
  /** Keeps what is read in its place while `load` puts something above it. */
  keepPlace: (load: () => Promise<void>) => Promise<void>
}

/** So near to the end counts as the end, in CSS pixels. */
const NEAR_PX = 48
const UNFOLDS_WITHIN_MS = 200

/** Follows growing content, but only for a reader who is at its end. */
export function useStickToBottom(
  scroller: Readonly<ShallowRef<HTMLElement | null>>,
  content: Readonly<ShallowRef<HTMLElement | null>>,
): UseStickToBottomReturn {
  const atBottom = ref(true)

  function toBottom(): void {
    const element = scroller.value
    if (!element) return
    element.scrollTop = element.scrollHeight
    atBottom.value = true
  }

  function measure(): void {
    const element = scroller.value
    if (!element) return
    atBottom.value = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX
  }

  useEventListener(scroller, 'scroll', measure, { passive: true })
  // What a click unfolds grows where it stands: following the end would pull it from under the eye.
  let unfolding = false
  useEventListener(content, 'click', () => {
    unfolding = true
    setTimeout(() => (unfolding = false), UNFOLDS_WITHIN_MS)
  })
  useResizeObserver([scroller, content], () => {
    if (unfolding) measure()
    else if (atBottom.value) toBottom()
  })

  async function keepPlace(load: () => Promise<void>): Promise<void> {
    const element = scroller.value
    const before = element ? element.scrollHeight - element.scrollTop : 0
    await load()
    await nextTick()
    if (element) element.scrollTop = element.scrollHeight - before
  }

  return { atBottom, toBottom, keepPlace }
}
