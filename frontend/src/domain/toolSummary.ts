/** A finished tool call in one line: what it was asked, and what it found. */
import type { ToolExecution } from '@/api/events'
import { texts } from '@/texts'

import { formatBytes, formatCount, formatValue } from './format'

type Fields = Record<string, unknown>

const SHOWN_NAMES = 3
const SHOWN_CHARS = 90

export function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {}
}

export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

function names(values: unknown[], key: string): string {
  const shown = values.slice(0, SHOWN_NAMES).map((value) => formatValue(fields(value)[key]))
  return shown.join(', ') + (values.length > SHOWN_NAMES ? ' …' : '')
}

function clip(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim()
  return line.length > SHOWN_CHARS ? `${line.slice(0, SHOWN_CHARS)}…` : line
}

/** What the tool is asked to do, in a few words. */
export function askedFor(execution: ToolExecution): string {
  const asked = fields(execution.parameters)
  switch (execution.tool_name) {
    case 'database_query':
      return clip(formatValue(asked['query'] ?? ''))
    case 'describe_schema':
      return asked['table'] ? clip(formatValue(asked['table'])) : texts.tool.allTables
    case 'list_datasources':
      return ''
    case 'http_request':
      return clip(`${formatValue(asked['method'] ?? 'GET')} ${formatValue(asked['url'] ?? '')}`)
    case 'search_files':
      return clip(formatValue(asked['query'] ?? ''))
    case 'list_files':
    case 'read_file':
    case 'write_file':
      return clip(formatValue(asked['path'] ?? '/'))
    default:
      return clip(formatValue(execution.parameters ?? ''))
  }
}

/** What was found first: it must not fall victim to a long question. */
function about(execution: ToolExecution, what: string): string {
  return [what, askedFor(execution)].filter(Boolean).join(' · ')
}

/** What a completed call found, in a few words. */
export function found(execution: ToolExecution): string {
  const result = fields(execution.result)
  switch (execution.tool_name) {
    case 'database_query': {
      const columns = list(result['columns'])
      const count = Number(result['row_count'] ?? list(result['rows']).length)
      const rows = texts.tool.rows(formatCount(count), count)
      return columns.length > 0 ? `${rows} · ${names(columns, 'name')}` : rows
    }
    case 'describe_schema': {
      const tables = list(result['tables'])
      return `${texts.tool.tables(tables.length)} · ${names(tables, 'name')}`
    }
    case 'list_datasources': {
      const sources = list(result['datasources'])
      return `${texts.tool.datasources(sources.length)} · ${names(sources, 'name')}`
    }
    case 'http_request':
      return about(execution, texts.tool.answered(formatValue(result['status_code'] ?? '?')))
    case 'list_files':
      return about(execution, texts.tool.files(list(result['items']).length))
    case 'search_files':
      return about(execution, texts.tool.matches(list(result['matches']).length))
    case 'read_file':
    case 'write_file':
      return about(execution, typeof result['size'] === 'number' ? formatBytes(result['size']) : '')
    default:
      return execution.result === null ? '' : clip(formatValue(execution.result))
  }
}
