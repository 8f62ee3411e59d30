/** Short messages that are not part of the conversation. */
import { defineStore } from 'pinia'
import { ref } from 'vue'

import { problemOf } from '@/domain/errors'

export interface Notice {
  id: number
  text: string
  kind: 'error' | 'info'
  retryAt: number | null
}

const SHOWN_MS = 10_000
const MOST = 4

export const useNoticesStore = defineStore('notices', () => {
  const items = ref<Notice[]>([])
  let counter = 0

  function add(text: string, kind: Notice['kind'] = 'info', retryAt: number | null = null): void {
    if (items.value.some((notice) => notice.text === text)) return
    counter += 1
    const id = counter
    items.value = [...items.value, { id, text, kind, retryAt }].slice(-MOST)
    setTimeout(() => dismiss(id), SHOWN_MS)
  }

  function addError(error: unknown): void {
    const problem = problemOf(error)
    add(problem.text, 'error', problem.retryAt)
  }

  function dismiss(id: number): void {
    items.value = items.value.filter((notice) => notice.id !== id)
  }

  return { items, add, addError, dismiss }
})
