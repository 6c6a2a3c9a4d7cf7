/** What waits to be sent to one peer, bounded, and what is known of the losses. */
import * as Latch from "effect/Latch"
import type { NodeId } from "../../domain/NodeId.ts"
import type { PeerMessage } from "../../services/Transport.ts"

interface Waiting {
  readonly message: PeerMessage
  readonly sizeBytes: number
}

export interface Outbox {
  readonly peer: NodeId
  /** Opens when whoever sends from it may have something to do. */
  readonly changed: Latch.Latch
  /** Opens when the peer is to be called now, and not only after the wait for the next attempt. */
  readonly nudged: Latch.Latch
  /** Opens when the peer is somewhere else than at `url`. */
  readonly moved: Latch.Latch
  /** Where the peer is called, or was last. */
  url: string | undefined
  waiting: Array<Waiting>
  waitingBytes: number
  /** Messages are taken: a connection stands, or the first attempt is under way. */
  isOpen: boolean
  /** Messages were dropped and the node has not been told. */
  isLossUntold: boolean
  isOverflowing: boolean
}

export const make = (peer: NodeId): Outbox => ({
  peer,
  changed: Latch.makeUnsafe(),
  nudged: Latch.makeUnsafe(),
  moved: Latch.makeUnsafe(),
  url: undefined,
  waiting: [],
  waitingBytes: 0,
  isOpen: true,
  isLossUntold: false,
  isOverflowing: false
})

/** Takes the longest run from the front that fits into `bytesMax`, at least one message. */
export const takeBatch = (
  outbox: Outbox,
  bytesMax: number
): { readonly messages: Array<PeerMessage>; readonly bytes: number } => {
  const messages: Array<PeerMessage> = []
  let bytes = 0
  for (const { message, sizeBytes } of outbox.waiting) {
    if (messages.length > 0 && bytes + sizeBytes > bytesMax) break
    messages.push(message)
    bytes += sizeBytes
  }
  outbox.waiting = outbox.waiting.slice(messages.length)
  outbox.waitingBytes -= bytes
  outbox.isOverflowing = false
  return { messages, bytes }
}

export const dropWaiting = (outbox: Outbox): void => {
  outbox.isLossUntold ||= outbox.waiting.length > 0
  outbox.waiting = []
  outbox.waitingBytes = 0
  outbox.isOverflowing = false
}

/** Puts the message in, or drops it and remembers that. Answers whether the node should be told of it now. */
export const put = (
  outbox: Outbox,
  waiting: Waiting,
  limits: { readonly outboxMessagesMax: number; readonly outboxBytesMax: number }
): boolean => {
  if (!outbox.isOpen) {
    outbox.isLossUntold = true
    return false
  }
  // One message always fits, whatever the limits.
  const isFull = outbox.waiting.length >= limits.outboxMessagesMax ||
    (outbox.waiting.length > 0 && outbox.waitingBytes + waiting.sizeBytes > limits.outboxBytesMax)
  if (!isFull) {
    outbox.waiting.push(waiting)
    outbox.waitingBytes += waiting.sizeBytes
    outbox.changed.openUnsafe()
    return false
  }
  if (outbox.isOverflowing) return false
  outbox.isOverflowing = true
  outbox.isLossUntold = true
  return true
}
