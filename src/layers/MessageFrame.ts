/**
 * Messages of one batch as bytes.
 *
 * ```
 * frame   = message × as many as there are                                     (big-endian)
 * message = kind u8 · fields:
 *   0 any            length u32 · SchemaBinary of `MessageCodec.WireMessage`
 *   1 AppendEntries  term f64 · prev.term f64 · prev.index f64 · leaderCommit f64 · round f64 · length u32 · its entries
 *   2 AppendEntriesResponse with Matched   term f64 · round f64 · matchIndex f64
 * ```
 *
 * Nearly all messages are of the last two kinds, which Schema's way looks at several times (`bench/README.md`).
 * Numbers are as wide as the schema's are, so that `MessageCodec.fromWire` has the same to check in either.
 */
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { codec } from "../services/StateMachine.ts"
import { bufferOf } from "./Bytes.ts"
import { WireMessage } from "./MessageCodec.ts"

const kinds = { any: 0, appendEntries: 1, matched: 2 } as const

const anyMessage = codec(WireMessage)

/** The bytes are no frame. */
class FrameError extends Error {}

interface Part {
  readonly kind: number
  readonly numbers: ReadonlyArray<number>
  readonly bytes: Uint8Array | undefined
}

const partOf = (message: WireMessage): Part => {
  if (message._tag === "AppendEntries") {
    const { entries, leaderCommit, prev, round, term } = message
    return { kind: kinds.appendEntries, numbers: [term, prev.term, prev.index, leaderCommit, round], bytes: entries }
  }
  if (message._tag === "AppendEntriesResponse" && message.result._tag === "Matched") {
    const { result, round, term } = message
    return { kind: kinds.matched, numbers: [term, round, result.matchIndex], bytes: undefined }
  }
  return { kind: kinds.any, numbers: [], bytes: anyMessage.encode(message) }
}

/** Longer ones are not copied. */
const copiedBytesMax = 4096

const isCopied = (bytes: Uint8Array | undefined): bytes is Uint8Array =>
  bytes !== undefined && bytes.length <= copiedBytesMax

const writtenBytes = ({ bytes, numbers }: Part): number =>
  1 + 8 * numbers.length + (bytes === undefined ? 0 : 4) + (isCopied(bytes) ? bytes.length : 0)

/**
 * The frame, in pieces that follow one another. A leader's entries are a piece of their own where they are many: they go to every follower, and are not
 * copied for each.
 */
export const pieces = (messages: ReadonlyArray<WireMessage>): ReadonlyArray<Uint8Array> => {
  const parts = messages.map(partOf)
  const written = Buffer.allocUnsafe(parts.reduce((size, part) => size + writtenBytes(part), 0))
  const all: Array<Uint8Array> = []
  let from = 0
  let at = 0
  for (const { bytes, kind, numbers } of parts) {
    written[at++] = kind
    for (const number of numbers) at = written.writeDoubleBE(number, at)
    if (bytes === undefined) continue
    at = written.writeUInt32BE(bytes.length, at)
    if (isCopied(bytes)) {
      written.set(bytes, at)
      at += bytes.length
    } else {
      all.push(written.subarray(from, at), bytes)
      from = at
    }
  }
  if (from < at) all.push(written.subarray(from, at))
  return all
}

/** The frame as one piece. Example: `encode([MessageCodec.toWire(message)])`. */
export const encode = (messages: ReadonlyArray<WireMessage>): Uint8Array => joined(pieces(messages))

export const joined = (pieces: ReadonlyArray<Uint8Array>): Uint8Array => {
  const [first] = pieces
  return first !== undefined && pieces.length === 1 ? first : Buffer.concat(pieces)
}

/** Reads a frame from its beginning to its end. */
class Reader {
  readonly #frame: Uint8Array
  readonly #numbers: Buffer
  #at = 0

  constructor(frame: Uint8Array) {
    this.#frame = frame
    this.#numbers = bufferOf(frame)
  }

  get isAtEnd(): boolean {
    return this.#at === this.#frame.length
  }

  #take(bytes: number): number {
    const at = this.#at
    if (at + bytes > this.#frame.length) throw new FrameError("they end in the middle of one")
    this.#at += bytes
    return at
  }

  kind(): number {
    return this.#numbers.readUInt8(this.#take(1))
  }

  number(): number {
    return this.#numbers.readDoubleBE(this.#take(8))
  }

  bytes(): Uint8Array {
    const length = this.#numbers.readUInt32BE(this.#take(4))
    const at = this.#take(length)
    // No Buffer, even where the frame is one: copies of a part of that are none.
    return new Uint8Array(this.#frame.buffer, this.#frame.byteOffset + at, length)
  }
}

const readAny = (bytes: Uint8Array): WireMessage => {
  try {
    return anyMessage.decode(bytes)
  } catch (error) {
    if (!Schema.isSchemaError(error)) throw error
    throw new FrameError(`${bytes.length} of them make no sense`)
  }
}

const read = (reader: Reader): WireMessage => {
  const kind = reader.kind()
  switch (kind) {
    case kinds.any:
      return readAny(reader.bytes())
    case kinds.appendEntries: {
      const term = reader.number()
      const prev = { term: reader.number(), index: reader.number() }
      const leaderCommit = reader.number()
      const round = reader.number()
      return { _tag: "AppendEntries", term, prev, leaderCommit, round, entries: reader.bytes() }
    }
    case kinds.matched: {
      const [term, round] = [reader.number(), reader.number()]
      return { _tag: "AppendEntriesResponse", term, round, result: { _tag: "Matched", matchIndex: reader.number() } }
    }
    default:
      throw new FrameError(`there is no kind ${kind}`)
  }
}

/** The messages, or why the bytes are no frame. Entries stay views on it: it is not to be used for anything else. */
export const decode = (frame: Uint8Array): ReadonlyArray<WireMessage> | { readonly problem: string } => {
  const reader = new Reader(frame)
  const messages: Array<WireMessage> = []
  try {
    while (!reader.isAtEnd) messages.push(read(reader))
  } catch (error) {
    if (error instanceof FrameError) return { problem: `${frame.length} bytes are no messages: ${error.message}` }
    throw error
  }
  return messages
}
