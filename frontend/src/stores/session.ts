/** Who is signed in. */
import { defineStore } from 'pinia'
import { ref } from 'vue'

import type { Tenant, User } from '@/api/events'
import type { SignedIn } from '@/services/api'
import { ApiError, api, handleUnauthorized } from '@/services/api'

export type SessionStatus = 'unknown' | 'signed-in' | 'signed-out' | 'unreachable'

export const useSessionStore = defineStore('session', () => {
  const status = ref<SessionStatus>('unknown')
  const user = ref<User | null>(null)
  const tenant = ref<Tenant | null>(null)
  /** The session ended by itself; the login page says so. */
  const ended = ref(false)

  handleUnauthorized(expire)

  /** Asks the server whose session this is. */
  async function load(): Promise<void> {
    try {
      begin(await api.me())
    } catch (error) {
      const over = error instanceof ApiError && (error.status === 401 || error.status === 403)
      status.value = over ? 'signed-out' : 'unreachable'
    }
  }

  async function login(email: string, password: string): Promise<void> {
    begin(await api.login(email, password))
  }

  /** Takes up an invitation; signs in. */
  async function acceptInvite(token: string, name: string, password: string): Promise<void> {
    begin(await api.acceptInvite(token, name, password))
  }

  /** Sets a new password by a link; every session of the person ends. */
  async function resetPassword(token: string, password: string): Promise<void> {
    await api.resetPassword(token, password)
    leave()
  }

  /** Says that a password was forgotten, and returns what happens next. */
  async function requestReset(email: string): Promise<string> {
    return (await api.requestReset(email)).detail
  }

  function begin(signedIn: SignedIn): void {
    user.value = signedIn.user
    tenant.value = signedIn.tenant ?? null
    ended.value = false
    status.value = 'signed-in'
  }

  function leave(): void {
    user.value = null
    tenant.value = null
    ended.value = false
    status.value = 'signed-out'
  }

  async function logout(): Promise<void> {
    await api.logout()
    leave()
  }

  function expire(): void {
    if (status.value !== 'signed-in') return
    ended.value = true
    status.value = 'signed-out'
  }

  /** Whether the session still holds. An unreachable server is no reason to end it. */
  async function check(): Promise<boolean> {
    try {
      await api.me()
      return true
    } catch (error) {
      return !(error instanceof ApiError && error.status === 401)
    }
  }

  return {
    status,
    user,
    tenant,
    ended,
    load,
    login,
    acceptInvite,
    resetPassword,
    requestReset,
    logout,
    expire,
    check,
  }
})
