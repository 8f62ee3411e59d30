import { createSharedComposable, useStorage } from '@vueuse/core'
import type { Ref } from 'vue'
import { watch } from 'vue'

export type Theme = 'system' | 'light' | 'dark'

export interface UseThemeReturn {
  theme: Ref<Theme>
}

/** The chosen appearance, remembered on this device. `public/theme.js` applies it before the first paint. */
export const useTheme = createSharedComposable((): UseThemeReturn => {
  const theme = useStorage<Theme>('everturn.theme', 'system')
  watch(
    theme,
    (chosen) => {
      const root = document.documentElement
      if (chosen === 'system') delete root.dataset['theme']
      else root.dataset['theme'] = chosen
    },
    { immediate: true },
  )
  return { theme }
})
