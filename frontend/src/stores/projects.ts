/** The projects the user is a member of. */
import { defineStore } from 'pinia'
import { computed, ref, shallowRef } from 'vue'

import type { Project } from '@/api/events'
import type { Problem } from '@/domain/errors'
import { problemOf } from '@/domain/errors'
import { api } from '@/services/api'

export const useProjectsStore = defineStore('projects', () => {
  const items = shallowRef<Project[]>([])
  const loaded = ref(false)
  const problem = ref<Problem | null>(null)

  const byId = computed(() => new Map(items.value.map((project) => [project.id, project])))

  async function load(): Promise<void> {
    problem.value = null
    try {
      items.value = await api.projects()
      loaded.value = true
    } catch (error) {
      problem.value = problemOf(error)
    }
  }

  function remove(projectId: string): void {
    items.value = items.value.filter(({ id }) => id !== projectId)
  }

  function reset(): void {
    items.value = []
    loaded.value = false
    problem.value = null
  }

  return { items, loaded, problem, byId, load, remove, reset }
})
