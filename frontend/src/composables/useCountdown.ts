import { useIntervalFn } from '@vueuse/core'
import type { ComputedRef, MaybeRefOrGetter } from 'vue'
import { computed, ref, toValue } from 'vue'

/** Whole seconds left until `until` (milliseconds since 1970); 0 when it is null or past. */
export function useCountdown(until: MaybeRefOrGetter<number | null>): ComputedRef<number> {
  const now = ref(Date.now())
  useIntervalFn(() => (now.value = Date.now()), 500)
  return computed(() => Math.max(0, Math.ceil(((toValue(until) ?? 0) - now.value) / 1000)))
}
