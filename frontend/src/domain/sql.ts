/**
 * SQL for the eye: split into coloured pieces, and broken before its clauses where it came as one
 * line. What is shown is what was sent, except for the white space.
 */

export type SqlKind = 'keyword' | 'string' | 'number' | 'comment' | 'plain'

export interface SqlPiece {
  kind: SqlKind
  text: string
}

const TOKEN =
  /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|('(?:[^']|'')*(?:'|$)|\$(\w*)\$[\s\S]*?(?:\$\3\$|$))|("(?:[^"]|"")*(?:"|$)|`[^`]*(?:`|$))|(\b\d+(?:\.\d+)?\b)|([A-Za-z_][\w$]*)|(\s+)|([\s\S])/g

const KEYWORDS = new Set(
  `all and any as asc between by case cast cross current desc describe distinct else end except exists
   explain false fetch filter first for from full group having ilike in inner intersect interval into is
   join last lateral left like limit natural not null nulls offset on or order outer over partition
   right rows select set show similar some table tablesample then true union using values when where
   window with within insert update delete create alter drop returning`.split(/\s+/),
)

/** Clauses that begin a line when they stand outside of parentheses. */
const CLAUSES = new Set(
  'select from where group order having limit offset union intersect except window fetch join values'.split(
    ' ',
  ),
)
const BEFORE_JOIN = new Set(['left', 'right', 'full', 'inner', 'cross', 'natural', 'lateral'])

/** Pieces of `sql`, broken into lines unless it already has some. */
export function formatSql(sql: string): SqlPiece[] {
  const pieces = tokenize(sql.trim())
  return sql.trim().includes('\n') ? pieces : breakLines(pieces)
}

function tokenize(sql: string): SqlPiece[] {
  const pieces: SqlPiece[] = []
  for (const match of sql.matchAll(TOKEN)) {
    const [text, comment, string, , , number, word] = match
    if (comment !== undefined) pieces.push({ kind: 'comment', text })
    else if (string !== undefined) pieces.push({ kind: 'string', text })
    else if (number !== undefined) pieces.push({ kind: 'number', text })
    else if (word !== undefined && KEYWORDS.has(word.toLowerCase()))
      pieces.push({ kind: 'keyword', text })
    else pieces.push({ kind: 'plain', text })
  }
  return pieces
}

function breakLines(pieces: SqlPiece[]): SqlPiece[] {
  const lines: SqlPiece[] = []
  let depth = 0
  let joined = false
  for (const piece of pieces) {
    if (piece.text === '(') depth += 1
    if (piece.text === ')') depth -= 1
    const word = piece.kind === 'keyword' ? piece.text.toLowerCase() : ''
    const begins = CLAUSES.has(word) || BEFORE_JOIN.has(word)
    const last = lines[lines.length - 1]
    if (begins && depth === 0 && !(joined && word === 'join') && last && /^\s+$/.test(last.text))
      last.text = '\n'
    if (piece.text.trim()) joined = BEFORE_JOIN.has(word)
    lines.push({ ...piece })
  }
  return lines
}
