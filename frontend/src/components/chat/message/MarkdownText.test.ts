import { mount } from '@vue/test-utils'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

import { MARKDOWN_MAX_CHARS } from '@/domain/markdown'

import MarkdownText from './MarkdownText.vue'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

test('follows a text that grows, a few times a second at most', async () => {
  const wrapper = mount(MarkdownText, { props: { text: 'A', streaming: true } })
  expect(wrapper.text()).toBe('A')
  for (const text of ['A **b', 'A **bo', 'A **bold']) await wrapper.setProps({ text })
  expect(wrapper.text()).toBe('A')
  await vi.advanceTimersByTimeAsync(500)
  expect(wrapper.find('strong').text()).toBe('bold')
})

test('shows the end at once', async () => {
  const wrapper = mount(MarkdownText, { props: { text: 'A', streaming: true } })
  await wrapper.setProps({ text: 'A b', streaming: false })
  expect(wrapper.text()).toBe('A b')
})

test('a block that is finished is not drawn again', async () => {
  const wrapper = mount(MarkdownText, { props: { text: 'One\n\nTw', streaming: true } })
  const first = wrapper.find('p').element
  await wrapper.setProps({ text: 'One\n\nTwo' })
  await vi.advanceTimersByTimeAsync(500)
  expect(wrapper.find('p').element).toBe(first)
  expect(wrapper.text()).toContain('Two')
})

test('a very long text is shown plain, its end on request', async () => {
  const text = '**x** <b>'.padEnd(MARKDOWN_MAX_CHARS + 10, 'y')
  const wrapper = mount(MarkdownText, { props: { text } })
  expect(wrapper.find('strong,b').exists()).toBe(false)
  expect(wrapper.find('pre').text()).toHaveLength(MARKDOWN_MAX_CHARS)
  await wrapper.find('button').trigger('click')
  expect(wrapper.find('pre').text()).toHaveLength(text.length)
})
