/** Colours for code. In a chunk of its own: most conversations never need it. */
import hljs from 'highlight.js/lib/common'

/** Markup for `code`, or null where the language is not known. */
export function highlightCode(code: string, language: string): string | null {
  if (!hljs.getLanguage(language)) return null
  return hljs.highlight(code, { language, ignoreIllegals: true }).value
}
