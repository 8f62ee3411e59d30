import { flushPromises, mount } from '@vue/test-utils'
import { createPinia, setActivePinia } from 'pinia'
import { beforeEach, describe, expect, test, vi } from 'vitest'

import type { Approval, ToolExecution } from '@/api/events'
import { useChatStore } from '@/stores/chat'
import { useSessionStore } from '@/stores/session'
import { approval, execution } from '@/testing/events'

import ToolApproval from './ToolApproval.vue'

const GRACE = { id: 'u2', name: 'Grace' }

function question(changes: Partial<Approval> = {}, more: Partial<ToolExecution> = {}) {
  const shown = execution({ status: 'awaiting_approval', approval: approval(changes), ...more })
  return mount(ToolApproval, { props: { execution: shown }, attachTo: document.body })
}

function find(wrapper: ReturnType<typeof question>, id: string) {
  return wrapper.find(`[data-testid="${id}"]`)
}

function heard() {
  return vi.spyOn(useChatStore(), 'decide').mockResolvedValue()
}

beforeEach(() => {
  document.body.innerHTML = ''
  setActivePinia(createPinia())
  const session = useSessionStore()
  session.user = { id: 'u1', name: 'Ada', email: 'ada@demo.test', role: 'admin' }
})

describe('a question', () => {
  test('says what will run, who may decide, and until when', () => {
    const wrapper = question(
      { approvals: 2, not_asker: true, approvers: 'owner' },
      { tool_name: 'write_file', parameters: { path: 'a.md', content: 'hi' } },
    )
    const terms = find(wrapper, 'approval-terms').text()
    expect(terms).toContain('An owner of the project decides')
    expect(terms).toContain('two people must approve')
    expect(terms).toContain('not whoever asked')
    expect(terms).toMatch(/expires .*\d\d:\d\d/)
    expect(wrapper.find('.everything').attributes('open')).toBeDefined()
    expect(wrapper.find('.everything').text()).toContain('"path": "a.md"')
  })

  test('approving says once, unless something else was chosen', async () => {
    const decide = heard()
    const wrapper = question()
    await wrapper.find('form').trigger('submit')
    expect(decide).toHaveBeenLastCalledWith('e1', { decision: 'approve' })
    await wrapper.find('input[value="conversation"]').setValue()
    await find(wrapper, 'approval-note').setValue('  fine ')
    await wrapper.find('form').trigger('submit')
    expect(decide).toHaveBeenLastCalledWith('e1', {
      decision: 'approve',
      note: 'fine',
      scope: 'conversation',
    })
  })

  test('denying carries the note and nothing else', async () => {
    const decide = heard()
    const wrapper = question()
    await wrapper.find('input[value="turn"]').setValue()
    await find(wrapper, 'approval-note').setValue('not now')
    await find(wrapper, 'deny').trigger('click')
    expect(decide).toHaveBeenCalledWith('e1', { decision: 'deny', note: 'not now' })
  })

  test('arguments can be changed; what the server says stands beside them', async () => {
    const decide = heard()
    const wrapper = question()
    await find(wrapper, 'edit-arguments').trigger('click')
    const area = find(wrapper, 'approval-arguments')
    await flushPromises()
    expect(document.activeElement).toBe(area.element)
    expect((area.element as HTMLTextAreaElement).value).toContain('"query": "SELECT 1"')
    for (const wrong of ['{', '[]', 'null', '7']) {
      await area.setValue(wrong)
      await wrapper.find('form').trigger('submit')
      expect(wrapper.find('[role=alert]').text()).toBe('This is not a JSON object.')
    }
    expect(decide).not.toHaveBeenCalled()
    decide.mockRejectedValueOnce(new Error('The arguments do not fit database_query.'))
    await area.setValue('{"query": 7}')
    await wrapper.find('form').trigger('submit')
    await flushPromises()
    expect(wrapper.find('[role=alert]').text()).toContain('do not fit')
    expect(area.attributes('aria-invalid')).toBe('true')
    await area.setValue('{"query": "SELECT 2"}')
    await wrapper.find('form').trigger('submit')
    expect(decide).toHaveBeenLastCalledWith('e1', {
      decision: 'approve',
      arguments: { query: 'SELECT 2' },
    })
  })

  test('approving what somebody changed names exactly what is shown', async () => {
    const decide = heard()
    const changed = { query: 'SELECT 3' }
    const wrapper = question({ approvals: 2, arguments: changed, changed_by: GRACE })
    expect(wrapper.text()).toContain('Grace changed the arguments')
    expect(find(wrapper, 'argument-difference').text()).toContain('SELECT 3')
    await wrapper.find('form').trigger('submit')
    expect(decide).toHaveBeenCalledWith('e1', { decision: 'approve', arguments: changed })
  })

  test('what somebody else changes leaves what is being written', async () => {
    const wrapper = question()
    await find(wrapper, 'edit-arguments').trigger('click')
    await find(wrapper, 'approval-arguments').setValue('{')
    await wrapper.find('input[value="conversation"]').setValue()
    await wrapper.find('form').trigger('submit')
    expect(wrapper.find('[role=alert]').exists()).toBe(true)
    await wrapper.setProps({
      execution: execution({
        status: 'awaiting_approval',
        approval: approval({ question: 2, arguments: { query: 'SELECT 9' } }),
      }),
    })
    const area = find(wrapper, 'approval-arguments').element as HTMLTextAreaElement
    expect(area.value).toBe('{')
    expect(wrapper.find('[role=alert]').exists()).toBe(false)
    expect((wrapper.find('input[value="once"]').element as HTMLInputElement).checked).toBe(true)
    expect(find(wrapper, 'argument-difference').text()).toContain('SELECT 9')
  })
})

describe('who may not', () => {
  test('sees the question without its buttons', () => {
    useSessionStore().user = { id: 'u1', name: 'Ada', email: 'ada@demo.test', role: 'member' }
    const wrapper = question({ approvers: 'admin' })
    expect(find(wrapper, 'approve').exists()).toBe(false)
    expect(find(wrapper, 'approval-hint').text()).toContain('not yours to decide')
  })

  test('whoever has approved waits for the other one, and may still deny', () => {
    const vote = {
      user: { id: 'u1', name: 'Ada' },
      decision: 'approve' as const,
      note: null,
      scope: 'once' as const,
      at: '2026-03-01T10:01:00Z',
    }
    const wrapper = question({ approvals: 2, votes: [vote] })
    expect(find(wrapper, 'approval-votes').text()).toBe('Approved so far by Ada')
    expect(find(wrapper, 'approve').attributes('disabled')).toBeDefined()
    expect(find(wrapper, 'deny').attributes('disabled')).toBeUndefined()
  })
})

describe('afterwards', () => {
  test.each<[Partial<Approval>, string]>([
    [{ decision: 'approved', decided_by: GRACE }, 'Approved by Grace'],
    [
      { decision: 'approved', decided_by: GRACE, scope: 'conversation' },
      'Approved by Grace for this conversation',
    ],
    [{ decision: 'approved', decided_by: GRACE, scope: 'turn', grant_id: 'g1' }, 'Allowed for'],
    [{ decision: 'denied', decided_by: GRACE, note: 'no' }, 'Denied by Grace'],
    [{ decision: 'expired' }, 'Expired'],
    [{ decision: 'denied', decided_by: null }, 'Denied by a former member'],
  ])('%o is said as %s', (changes, text) => {
    const wrapper = question(
      { decided_at: '2026-03-01T10:02:00Z', ...changes },
      { status: changes.decision === 'approved' ? 'completed' : 'failed' },
    )
    expect(find(wrapper, 'approval-outcome').text()).toContain(text)
    if (changes.note) expect(wrapper.text()).toContain(`“${changes.note}”`)
    expect(wrapper.find('form').exists()).toBe(false)
    expect(wrapper.find('[role=status]').text()).toContain(text)
  })

  test('one that was stopped before anybody decided says nothing', () => {
    const wrapper = question({}, { status: 'cancelled' })
    expect(find(wrapper, 'approval-outcome').exists()).toBe(false)
    expect(wrapper.find('form').exists()).toBe(false)
  })
})
