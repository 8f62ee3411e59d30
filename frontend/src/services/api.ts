/** REST: one fetch wrapper that turns problem+json into errors, and one function per call. */
import type {
  Conversation,
  InterventionAction,
  MessagePage,
  Page,
  Project,
  Tenant,
  ToolExecutionDetail,
  Turn,
  User,
} from '@/api/events'
import { texts } from '@/texts'

/** A refusal by the server, or no answer at all (`status` 0, code `unreachable`). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    /** How long the server asks to wait, in milliseconds. */
    readonly retryAfterMs: number | null = null,
  ) {
    super(detail)
    this.name = 'ApiError'
  }
}

export interface SignedIn {
  user: User
  tenant: Tenant | null
}

/** What is to be done about a call; `attempt` is the one that was seen. */
export interface InterventionBody {
  action: InterventionAction
  attempt: number
  note?: string
  confirm?: boolean
}

const PAGE_SIZE = 50
const MAX_LISTED = 1000

let onUnauthorized: () => void = () => undefined

/** Says what happens when the session turns out to be over. */
export function handleUnauthorized(handler: () => void): void {
  onUnauthorized = handler
}

async function request<T>(
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
  path: string,
  body?: unknown,
): Promise<T> {
  let response: Response
  try {
    response = await fetch(`/api${path}`, {
      method,
      credentials: 'same-origin',
      headers: {
        Accept: 'application/json',
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  } catch {
    throw new ApiError(0, 'unreachable', texts.errors.unreachable)
  }
  if (response.ok) return (response.status === 204 ? undefined : await readJson(response)) as T
  const error = await toError(response)
  // A wrong password is a 401 too, but no session ends by it.
  if (error.status === 401 && !path.startsWith('/auth/')) onUnauthorized()
  throw error
}

async function readJson(response: Response): Promise<unknown> {
  const text = await response.text()
  if (!text) return undefined
  try {
    return JSON.parse(text) as unknown
  } catch {
    throw new ApiError(response.status, 'bad_answer', texts.errors.badAnswer)
  }
}

async function toError(response: Response): Promise<ApiError> {
  const problem = (await response.json().catch(() => null)) as {
    code?: unknown
    detail?: unknown
    title?: unknown
  } | null
  const detail = [problem?.detail, problem?.title].find((text) => typeof text === 'string' && text)
  const seconds = Number(response.headers.get('Retry-After') ?? Number.NaN)
  return new ApiError(
    response.status,
    typeof problem?.code === 'string' ? problem.code : 'internal_error',
    typeof detail === 'string' ? detail : texts.errors.status(response.status),
    Number.isFinite(seconds) ? seconds * 1000 : null,
  )
}

/** All items of a list, page by page. */
async function listAll<T>(path: string): Promise<T[]> {
  const items: T[] = []
  let cursor: string | null = null
  do {
    const query: string = cursor ? `?cursor=${encodeURIComponent(cursor)}` : ''
    const page: Page<T> = await request<Page<T>>('GET', path + query)
    items.push(...page.items)
    cursor = page.next_cursor
  } while (cursor && items.length < MAX_LISTED)
  return items
}

const id = encodeURIComponent

export const api = {
  login: (email: string, password: string) =>
    request<SignedIn>('POST', '/auth/login', { email, password }),
  acceptInvite: (token: string, name: string, password: string) =>
    request<SignedIn>('POST', `/auth/invites/${id(token)}/accept`, { name, password }),
  requestReset: (email: string) =>
    request<{ detail: string }>('POST', '/auth/password-reset', { email }),
  resetPassword: (token: string, password: string) =>
    request<void>('POST', `/auth/password-reset/${id(token)}`, { password }),
  logout: () => request<void>('POST', '/auth/logout'),
  me: () => request<SignedIn>('GET', '/auth/me'),

  projects: () => listAll<Project>('/projects'),
  conversations: (projectId: string) =>
    listAll<Conversation>(`/projects/${id(projectId)}/conversations`),
  createConversation: (projectId: string, title: string) =>
    request<Conversation>('POST', `/projects/${id(projectId)}/conversations`, { title }),
  renameConversation: (conversationId: string, title: string) =>
    request<Conversation>('PATCH', `/conversations/${id(conversationId)}`, { title }),
  deleteConversation: (conversationId: string) =>
    request<void>('DELETE', `/conversations/${id(conversationId)}`),

  messages: (conversationId: string, before?: string) =>
    request<MessagePage>(
      'GET',
      `/conversations/${id(conversationId)}/messages?limit=${PAGE_SIZE}` +
        (before ? `&before=${id(before)}` : ''),
    ),
  turn: (turnId: string) => request<Turn>('GET', `/turns/${id(turnId)}`),
  toolExecution: (executionId: string) =>
    request<ToolExecutionDetail>('GET', `/tool-executions/${id(executionId)}`),
  intervene: (executionId: string, asked: InterventionBody) =>
    request<ToolExecutionDetail>('POST', `/tool-executions/${id(executionId)}/intervene`, asked),
}
