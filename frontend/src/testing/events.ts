/** Events as a server sends them, for tests: each builder fills in what a case does not care about. */
import type {
  Approval,
  AssistantResponseData,
  Conversation,
  Message,
  MessagePage,
  ProjectJoinedData,
  RoomEvent,
  ToolExecution,
  ToolResultData,
  TurnStatus,
} from '@/api/events'

export const PROJECT = 'p1'
export const CONVERSATION = 'c1'
export const AT = Date.parse('2026-03-01T10:00:00Z')

export function conversation(changes: Partial<Conversation> = {}): Conversation {
  return {
    id: CONVERSATION,
    project_id: PROJECT,
    title: 'Regions',
    created_by: 'u1',
    created_at: '2026-03-01T09:00:00Z',
    updated_at: '2026-03-01T09:00:00Z',
    live: null,
    ...changes,
  }
}

export function message(changes: Partial<Message> = {}): Message {
  return {
    id: 'm1',
    conversation_id: CONVERSATION,
    turn_id: 't1',
    role: 'user',
    author: { id: 'u1', name: 'Ada' },
    content: 'Which region leads?',
    status: 'complete',
    epoch: 0,
    tool_calls: [],
    tool_executions: [],
    metadata: {},
    created_at: '2026-03-01T10:00:00Z',
    ...changes,
  }
}

export function page(items: Message[], seq: number, older: string | null = null): MessagePage {
  return { items, next_cursor: older, seq }
}

export function messageCreated(
  seq: number,
  changes: Partial<Message> = {},
  clientMessageId: string | null = null,
): RoomEvent {
  return {
    type: 'message_created',
    timestamp: AT,
    data: {
      project_id: PROJECT,
      seq,
      message: message(changes),
      client_message_id: clientMessageId,
    },
  }
}

export function turnStatus(
  seq: number,
  status: TurnStatus,
  changes: { turn_id?: string; code?: string; detail?: string; by?: string } = {},
): RoomEvent {
  return {
    type: 'turn_status',
    timestamp: AT,
    data: {
      project_id: PROJECT,
      seq,
      turn_id: 't1',
      conversation_id: CONVERSATION,
      message_id: 'm1',
      status,
      ...changes,
    },
  }
}

export function delta(
  offset: number,
  content: string,
  changes: Partial<AssistantResponseData> = {},
): RoomEvent {
  return {
    type: 'assistant_response',
    timestamp: AT,
    data: {
      project_id: PROJECT,
      conversation_id: CONVERSATION,
      turn_id: 't1',
      message_id: 'a1',
      epoch: 1,
      offset,
      content,
      done: false,
      ...changes,
    },
  }
}

export function done(
  seq: number,
  length: number,
  changes: Partial<AssistantResponseData> = {},
): RoomEvent {
  return delta(length, '', {
    seq,
    done: true,
    length,
    sha256: 'digest',
    status: 'complete',
    created_at: '2026-03-01T10:00:05Z',
    finish_reason: 'stop',
    ...changes,
  })
}

export function toolCall(
  seq: number,
  name = 'database_query',
  args = '{"query":"SELECT 1"}',
): RoomEvent {
  return {
    type: 'tool_call',
    timestamp: AT,
    data: {
      project_id: PROJECT,
      seq,
      conversation_id: CONVERSATION,
      turn_id: 't1',
      message_id: 'a1',
      tool_calls: [
        {
          id: 'call_1',
          tool_execution_id: 'e1',
          type: 'function',
          function: { name, arguments: args },
          effect: 'read',
          requires_approval: false,
          queue: 'tools-database',
          created_at: '2026-03-01T10:00:01Z',
        },
      ],
    },
  }
}

export function toolResult(seq: number, changes: Partial<ToolResultData> = {}): RoomEvent {
  return {
    type: 'tool_result',
    timestamp: AT,
    data: {
      project_id: PROJECT,
      seq,
      conversation_id: CONVERSATION,
      turn_id: 't1',
      tool_execution_id: 'e1',
      tool_call_id: 'call_1',
      tool_name: 'database_query',
      status: 'completed',
      attempt: 1,
      result: null,
      error: null,
      execution_time_ms: 12,
      ...changes,
    },
  }
}

export function joined(changes: Partial<ProjectJoinedData> = {}): ProjectJoinedData {
  return { project_id: PROJECT, seq: 0, recovered: false, live: [], presence: [], ...changes }
}

export function approval(changes: Partial<Approval> = {}): Approval {
  return {
    question: 1,
    approvers: 'editor',
    approvals: 1,
    not_asker: false,
    asked_at: '2026-03-01T10:00:01Z',
    expires_at: '2026-03-01T11:00:01Z',
    decision: null,
    decided_by: null,
    decided_at: null,
    arguments: null,
    changed_by: null,
    note: null,
    scope: 'once',
    grant_id: null,
    votes: [],
    ...changes,
  }
}

export function execution(changes: Partial<ToolExecution> = {}): ToolExecution {
  return {
    id: 'e1',
    turn_id: 't1',
    message_id: 'a1',
    tool_call_id: 'call_1',
    tool_name: 'database_query',
    queue: 'tools-database',
    effect: 'read',
    parameters: { query: 'SELECT 1' },
    status: 'completed',
    attempt: 1,
    result: null,
    error: null,
    execution_time_ms: 12,
    created_at: '2026-03-01T10:00:01Z',
    temporal_url: null,
    ...changes,
  }
}
