import type { Ref } from 'vue'
import { ref } from 'vue'
import { useRouter } from 'vue-router'

import type { Conversation } from '@/api/events'
import { useChatStore } from '@/stores/chat'
import { useNoticesStore } from '@/stores/notices'
import { useSessionStore } from '@/stores/session'

export interface UseConversationActionsReturn {
  /** An action is under way. */
  busy: Ref<boolean>
  /** True when it was done; what went wrong is shown as a notice. */
  rename: (conversation: Conversation, title: string) => Promise<boolean>
  remove: (conversation: Conversation) => Promise<boolean>
  signOut: () => Promise<void>
}

export function useConversationActions(): UseConversationActionsReturn {
  const chat = useChatStore()
  const notices = useNoticesStore()
  const session = useSessionStore()
  const router = useRouter()
  const busy = ref(false)

  async function attempt(action: () => Promise<void>): Promise<boolean> {
    busy.value = true
    try {
      await action()
      return true
    } catch (error) {
      notices.addError(error)
      return false
    } finally {
      busy.value = false
    }
  }

  return {
    busy,
    rename: (conversation, title) => attempt(() => chat.rename(conversation.id, title)),
    remove: (conversation) =>
      attempt(async () => {
        await chat.remove(conversation.id)
        if (chat.conversationId === conversation.id)
          await router.push({ name: 'project', params: { projectId: conversation.project_id } })
      }),
    signOut: async () => {
      if (await attempt(() => session.logout())) chat.reset()
    },
  }
}
