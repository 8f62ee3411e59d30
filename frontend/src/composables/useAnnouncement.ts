import type { Ref } from 'vue'
import { ref, watch } from 'vue'

/** Text for a polite live region: set when `busy` ends, so that an answer is told once, not by token. */
export function useAnnouncement(busy: Readonly<Ref<boolean>>, text: string): Ref<string> {
  const announcement = ref('')
  watch(busy, (now, before) => {
    announcement.value = before && !now ? text : ''
  })
  return announcement
}
