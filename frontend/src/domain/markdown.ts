/**
 * A model's Markdown as safe markup. The text is an opponent's as far as this module is concerned:
 * no markup of its own, no image from anywhere, links only where a person can see where they lead.
 */
import DOMPurify from 'dompurify'
import MarkdownIt from 'markdown-it'
import remend from 'remend'

import { texts } from '@/texts'

export type Highlight = (code: string, language: string) => string | null

/** One top-level piece of a text. Pieces that did not change are not touched on the page. */
export interface MarkdownBlock {
  html: string
}

/** Beyond this a text is shown plain: parsing it on every step would freeze the page. */
export const MARKDOWN_MAX_CHARS = 200_000

const SAFE_LINK = /^(?:https?:\/\/|mailto:)/i
const TAGS = [
  ...['a', 'blockquote', 'br', 'code', 'del', 's', 'div', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6'],
  ...['hr', 'li', 'ol', 'p', 'pre', 'span', 'strong', 'table', 'tbody', 'td', 'th', 'thead'],
  ...['tr', 'ul'],
]
const ATTRIBUTES = ['href', 'title', 'class', 'start', 'rel', 'target', 'tabindex']

let highlight: Highlight | null = null

/** Gives code its colours from now on; loaded when a text first shows code. */
export function useHighlight(highlighter: Highlight): void {
  highlight = highlighter
}

const markdown = new MarkdownIt({
  html: false,
  linkify: true,
  highlight: (code, language) => (language && highlight?.(code, language)) || '',
})
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false })
markdown.validateLink = (url) => SAFE_LINK.test(url.trim())

// An image is a request that a text can make without anyone clicking: shown as a link instead.
markdown.renderer.rules['image'] = (tokens, index, options, env, renderer) => {
  const token = tokens[index]
  const source = String(token?.attrGet('src') ?? '')
  const label = renderer.renderInlineAsText(token?.children ?? [], options, env) || source
  return `<a href="${escapeHtml(source)}" class="image-link">${escapeHtml(texts.markdown.image(label))}</a>`
}

// The content security policy refuses style attributes, so a column's side is said by a class.
for (const rule of ['th_open', 'td_open']) {
  markdown.renderer.rules[rule] = (tokens, index, options, _env, renderer) => {
    const token = tokens[index]
    const side = /text-align:(left|center|right)/.exec(String(token?.attrGet('style') ?? ''))?.[1]
    if (token) token.attrs = side ? [['class', `align-${side}`]] : null
    return renderer.renderToken(tokens, index, options)
  }
}
markdown.renderer.rules['table_open'] = () => '<div class="table-scroll" tabindex="0"><table>'
markdown.renderer.rules['table_close'] = () => '</table></div>'

const purifier = DOMPurify(window)
purifier.addHook('afterSanitizeAttributes', (node) => {
  if (node.nodeName !== 'A') return
  const href = node.getAttribute('href') ?? ''
  if (!SAFE_LINK.test(href)) {
    node.removeAttribute('href')
    return
  }
  node.setAttribute('rel', 'noopener noreferrer')
  node.setAttribute('target', '_blank')
})

function sanitize(html: string): string {
  return purifier.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOWED_URI_REGEXP: SAFE_LINK,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
  })
}

/** Renders a text to its top-level blocks; see `markdownRenderer`. */
export type RenderMarkdown = (text: string, unfinished: boolean) => MarkdownBlock[]

/**
 * A renderer for one text that may grow. What it has sanitised it remembers until the next call, so
 * that each step costs the block that changed, not the whole text.
 *
 * Called with `unfinished`, what is open at the end is closed, so that nothing flickers between
 * markup and its signs.
 */
export function markdownRenderer(): RenderMarkdown {
  let known = new Map<string, string>()

  return (text, unfinished) => {
    const env = {}
    const tokens = markdown.parse(unfinished ? settleTail(text) : text, env)
    const seen = new Map<string, string>()
    const blocks: MarkdownBlock[] = []
    let start = 0
    tokens.forEach((token, index) => {
      if (token.level !== 0 || token.nesting === 1) return
      const raw = markdown.renderer.render(tokens.slice(start, index + 1), markdown.options, env)
      start = index + 1
      const html = seen.get(raw) ?? known.get(raw) ?? sanitize(raw)
      seen.set(raw, html)
      blocks.push({ html })
    })
    known = seen
    return blocks
  }
}

/** Whether a text holds a code block that names its language. */
export function namesLanguage(text: string): boolean {
  return /^[ \t]*(?:```|~~~)[\w+#-]+/m.test(text)
}

function settleTail(text: string): string {
  return remend(withoutHalfTable(text), {
    linkMode: 'text-only',
    katex: false,
    // These would change what the finished text shows.
    singleTilde: false,
    comparisonOperators: false,
    htmlTags: false,
  })
}

/** A table shows once its second line is there; before, its first would flash as a paragraph. */
function withoutHalfTable(text: string): string {
  const head = /(?:^|\n\n)(\|[^\n]*(?:\n\|?[\s:|-]*)?)$/.exec(text)
  if (!head?.[1]) return text
  const [first = '', second = ''] = head[1].split('\n')
  const columns = first.split('|').length
  return second.split('|').length >= columns && second.trim().endsWith('|')
    ? text
    : text.slice(0, text.length - head[1].length)
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
