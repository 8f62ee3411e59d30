/**
 * One assistant message's text while it grows: `(epoch, text)` and the rule for deltas.
 * The length is carried along, so a delta costs as much as the delta.
 */
import { countCodePoints, dropLastCodePoints } from './codePoints'

export interface StreamText {
  messageId: string
  conversationId: string
  turnId: string
  epoch: number
  text: string
  /** Code points in `text`. */
  length: number
}

export interface Delta {
  epoch: number
  /** In code points. */
  offset: number
  content: string
}

/** `hole`: the delta starts beyond what is known, so something between was missed. */
export type DeltaOutcome = 'applied' | 'stale' | 'hole'

export function applyDelta(stream: StreamText, delta: Delta): DeltaOutcome {
  if (delta.epoch < stream.epoch) return 'stale'
  if (delta.epoch > stream.epoch) {
    stream.epoch = delta.epoch
    stream.text = ''
    stream.length = 0
  }
  if (delta.offset > stream.length) return 'hole'
  if (delta.offset < stream.length) {
    stream.text = dropLastCodePoints(stream.text, stream.length - delta.offset)
    stream.length = delta.offset
  }
  stream.text += delta.content
  stream.length += countCodePoints(delta.content)
  return 'applied'
}
