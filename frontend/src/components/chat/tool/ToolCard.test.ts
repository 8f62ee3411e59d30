import { mount } from '@vue/test-utils'
import { createPinia, setActivePinia } from 'pinia'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { nextTick } from 'vue'

import type { ToolExecution } from '@/api/events'
import { useChatStore } from '@/stores/chat'
import { approval, execution } from '@/testing/events'

import ToolCard from './ToolCard.vue'

const RESULT = {
  columns: [
    { name: 'region', type: 'text' },
    { name: 'revenue', type: 'numeric' },
  ],
  rows: [
    ['East', '611237.25'],
    ['<img src=x onerror=alert(1)>', null],
  ],
  row_count: 2,
  truncated: false,
  elapsed_ms: 12,
}

function card(changes: Partial<ToolExecution> = {}) {
  return mount(ToolCard, { props: { execution: execution(changes) } })
}

function find(wrapper: ReturnType<typeof card>, id: string) {
  return wrapper.find(`[data-testid="${id}"]`)
}

beforeEach(() => setActivePinia(createPinia()))
afterEach(() => vi.useRealTimers())

describe('a finished query', () => {
  test('is one line that says what it found', () => {
    const wrapper = card({ result: RESULT })
    expect(wrapper.attributes()).toMatchObject({
      'data-testid': 'tool-card',
      'data-tool': 'database_query',
      'data-status': 'completed',
    })
    expect(wrapper.attributes('open')).toBeUndefined()
    expect(find(wrapper, 'tool-summary').text()).toBe('2 rows · region, revenue')
    expect(wrapper.text()).toContain('12 ms')
  })

  test('opens to its statement and a table whose cells are text', async () => {
    const wrapper = card({ result: RESULT })
    await wrapper.find('summary').trigger('click')
    expect(wrapper.attributes('open')).toBeDefined()
    expect(find(wrapper, 'tool-sql').text()).toBe('SELECT 1')
    const cells = find(wrapper, 'tool-result-table').findAll('td')
    expect(cells.map((cell) => cell.text())).toEqual([
      'East',
      '611237.25',
      '<img src=x onerror=alert(1)>',
      'null',
    ])
    expect(wrapper.find('img').exists()).toBe(false)
    expect(cells[1]?.classes()).toContain('numeric')
  })

  test('a cut result says so, and gets the rest on request', async () => {
    const wrapper = card({ result: { ...RESULT, truncated: true, row_count: 900 } })
    expect(wrapper.text()).toContain('truncated')
    const full = vi
      .spyOn(useChatStore(), 'fullExecution')
      .mockResolvedValue(
        execution({ result: { ...RESULT, rows: [...RESULT.rows, ['West', '1']] } }),
      )
    await find(wrapper, 'load-full').trigger('click')
    await nextTick()
    expect(full).toHaveBeenCalledWith('e1')
    expect(find(wrapper, 'tool-result-table').findAll('tbody tr')).toHaveLength(3)
  })

  test('a result that was found earlier says so, and when', () => {
    const wrapper = card({ result: { ...RESULT, cached: true, cached_age_seconds: 75 } })
    expect(find(wrapper, 'tool-cached').text()).toBe('cached')
    expect(find(wrapper, 'tool-cached').attributes('title')).toContain('1 min 15 s ago')
    expect(find(card({ result: RESULT }), 'tool-cached').exists()).toBe(false)
  })

  test('a long table begins with its first rows', async () => {
    const rows = Array.from({ length: 120 }, (_, index) => [`r${index}`, index])
    const wrapper = card({ result: { ...RESULT, rows, row_count: 120 } })
    const count = () => find(wrapper, 'tool-result-table').findAll('tbody tr').length
    expect(count()).toBe(50)
    await wrapper
      .findAll('button')
      .find((button) => button.text() === 'Show all 120 rows')
      ?.trigger('click')
    expect(count()).toBe(120)
  })
})

describe('states', () => {
  test('a failure shows its code and text', () => {
    const wrapper = card({
      status: 'failed',
      error: { code: 'refused', message: 'Only reading statements are allowed.' },
    })
    expect(find(wrapper, 'tool-summary').text()).toBe('Only reading statements are allowed.')
    expect(find(wrapper, 'tool-error').text()).toContain('refused')
  })

  test('a running call counts its time, and opens when it takes long', async () => {
    vi.useFakeTimers({ now: Date.parse('2026-03-01T10:00:04Z') })
    const wrapper = card({ status: 'executing', execution_time_ms: null })
    expect(find(wrapper, 'tool-elapsed').text()).toBe('3 s')
    expect(wrapper.attributes('open')).toBeUndefined()
    await vi.advanceTimersByTimeAsync(2_000)
    expect(find(wrapper, 'tool-elapsed').text()).toBe('5 s')
    expect(wrapper.attributes('open')).toBeDefined()
    await wrapper.setProps({ execution: execution({ result: RESULT }) })
    expect(wrapper.attributes('open')).toBeUndefined()
    expect(find(wrapper, 'tool-elapsed').exists()).toBe(false)
  })

  test('what a person opened stays open', async () => {
    const wrapper = card({ status: 'executing' })
    await wrapper.find('summary').trigger('click')
    await wrapper.setProps({ execution: execution({ result: RESULT }) })
    expect(wrapper.attributes('open')).toBeDefined()
  })

  test('a second attempt is counted', () => {
    expect(card({ attempt: 2 }).text()).toContain('attempt 2')
    expect(card({ attempt: 1 }).text()).not.toContain('attempt')
  })

  test('an unknown outcome says that it is unknown', () => {
    const wrapper = card({ status: 'unknown', tool_name: 'http_request' })
    expect(wrapper.text()).toContain('Outcome unknown')
    expect(wrapper.text()).toContain('Whether it took effect is not known.')
  })

  test('a call that hangs is open and marked', async () => {
    const stalled = { reason: 'no_worker', since: '2026-03-01T10:00:01Z', detail: 'x' } as const
    const wrapper = card({ status: 'pending', stalled })
    expect(wrapper.attributes('open')).toBeDefined()
    expect(wrapper.attributes('data-stalled')).toBe('no_worker')
    expect(find(wrapper, 'tool-summary').text()).toBe('Stalled')
    await wrapper.setProps({ execution: execution({ status: 'pending' }) })
    expect(wrapper.attributes('open')).toBeUndefined()
    expect(wrapper.attributes('data-stalled')).toBeUndefined()
  })

  test('a call that waits for approval is open, and says what it would do', () => {
    const wrapper = card({ status: 'awaiting_approval', approval: approval() })
    expect(wrapper.attributes('open')).toBeDefined()
    expect(find(wrapper, 'tool-summary').text()).toBe('Waits for approval · SELECT 1')
    expect(find(wrapper, 'approve').exists()).toBe(true)
  })

  test('what people changed is what is shown to run', () => {
    const changed = { query: 'SELECT 2' }
    const wrapper = card({ approval: approval({ decision: 'approved', arguments: changed }) })
    expect(find(wrapper, 'tool-sql').text()).toBe('SELECT 2')
    expect(find(wrapper, 'argument-difference').text()).toContain('SELECT 1')
  })
})

describe('every kind', () => {
  test.each<[string, unknown, unknown, string]>([
    [
      'list_datasources',
      {},
      { datasources: [{ id: '1', name: 'Sales', kind: 'postgresql' }] },
      '1 data source · Sales',
    ],
    [
      'describe_schema',
      { table: 'orders' },
      {
        tables: [
          { name: 'orders', columns: [{ name: 'id', type: 'bigint' }], primary_key: ['id'] },
        ],
      },
      '1 table · orders',
    ],
    [
      'http_request',
      { method: 'GET', url: 'https://example.org/x' },
      { status_code: 404, body: 'no' },
      'answered 404 · GET https://example.org/x',
    ],
    ['list_files', { path: 'a' }, { items: [{ path: 'a/b', size: 2048 }] }, '1 file · a'],
    ['search_files', { query: 'x' }, { matches: [] }, '0 matches · x'],
    ['read_file', { path: 'a.md' }, { path: 'a.md', content: 'hi', size: 2 }, '2 B · a.md'],
    ['mcp__crm__find', { q: 1 }, { found: true }, '{"found":true}'],
  ])('%s says what it found', (tool_name, parameters, result, line) => {
    const wrapper = card({ tool_name, parameters, result })
    expect(find(wrapper, 'tool-summary').text()).toBe(line)
  })

  test.each([
    'database_query',
    'describe_schema',
    'list_datasources',
    'http_request',
    'list_files',
    'search_files',
    'read_file',
    'toString',
    '__proto__',
  ])('%s survives arguments and results of any shape', (tool_name) => {
    for (const odd of [null, 5, '', 'text', [], [null], {}, { rows: 1 }, { tables: [null, 3] }])
      expect(() => card({ tool_name, parameters: odd, result: odd })).not.toThrow()
  })

  test('a link that is no web address is not shown', () => {
    expect(card({ temporal_url: 'javascript:alert(1)' }).find('a').exists()).toBe(false)
    expect(card({ temporal_url: 'http://127.0.0.1:8233/x' }).find('a').attributes('rel')).toBe(
      'noopener noreferrer',
    )
  })
})
