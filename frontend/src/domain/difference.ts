/** What was changed between two objects of arguments, line by line, as people read them. */

export interface DiffLine {
  kind: 'same' | 'removed' | 'added'
  text: string
}

/** Beyond so many lines the two are shown as a whole, one after the other. */
const MOST_LINES = 400

/** One line a field, and as many as it has for a text. */
export function readable(value: Record<string, unknown>): string[] {
  return Object.entries(value).flatMap(([key, item]) => {
    const text = typeof item === 'string' ? item : JSON.stringify(item, null, 2)
    const lines = text.split('\n')
    return lines.length === 1 ? [`${key}: ${text}`] : [`${key}:`, ...lines.map((l) => `  ${l}`)]
  })
}

export function difference(
  before: Record<string, unknown>,
  after: Record<string, unknown>,
): DiffLine[] {
  // In one order of fields: only what a field says is a change.
  const order = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  const ordered = (value: Record<string, unknown>) =>
    readable(
      Object.fromEntries(
        order.filter((key) => Object.hasOwn(value, key)).map((key) => [key, value[key]]),
      ),
    )
  return compare(ordered(before), ordered(after))
}

/** The longest common run of lines stays, the rest is removed or added. */
function compare(a: string[], b: string[]): DiffLine[] {
  if (a.length > MOST_LINES || b.length > MOST_LINES)
    return [...a.map((text) => line('removed', text)), ...b.map((text) => line('added', text))]
  const longest = Array.from({ length: a.length + 1 }, () =>
    new Array<number>(b.length + 1).fill(0),
  )
  const at = (i: number, j: number) => longest[i]?.[j] ?? 0
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const row = longest[i]
      if (row) row[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
    }
  const found: DiffLine[] = []
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push(line('same', a[i] ?? ''))
      i += 1
      j += 1
    } else if (i < a.length && (j >= b.length || at(i + 1, j) >= at(i, j + 1))) {
      found.push(line('removed', a[i] ?? ''))
      i += 1
    } else {
      found.push(line('added', b[j] ?? ''))
      j += 1
    }
  }
  return found
}

function line(kind: DiffLine['kind'], text: string): DiffLine {
  return { kind, text }
}
