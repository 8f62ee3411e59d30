/**
 * Text measured in Unicode code points, the protocol's unit. A browser's string counts UTF-16 units,
 * where every character beyond U+FFFF takes two.
 */

function isHigh(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff
}

function isLow(unit: number): boolean {
  return unit >= 0xdc00 && unit <= 0xdfff
}

/** Number of code points in `text`. */
export function countCodePoints(text: string): number {
  let count = text.length
  for (let i = 1; i < text.length; i += 1) {
    if (isLow(text.charCodeAt(i)) && isHigh(text.charCodeAt(i - 1))) {
      count -= 1
      // A pair is used up: the next unit cannot join it.
      i += 1
    }
  }
  return count
}

/**
 * `text` without its last `count` code points. Walks from the end, so that mending the tail of a
 * long answer costs as much as the tail, not as the answer.
 */
export function dropLastCodePoints(text: string, count: number): string {
  let end = text.length
  for (let left = count; left > 0 && end > 0; left -= 1) {
    end -= 1
    if (end > 0 && isLow(text.charCodeAt(end)) && isHigh(text.charCodeAt(end - 1))) end -= 1
  }
  return text.slice(0, end)
}
