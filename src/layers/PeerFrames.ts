/**
 * What two servers say to each other over a bare connection, as bytes: the same as `PeerRpc.ts`, without RPC around it.
 *
 * ```
 * frame = length u32 · kind u8 · body of that length                            (big-endian)
 * kind:
 *   0 hello     the caller's first: JSON of `PeerRpc.Hello`'s payload
 *   1 welcome   the called's first: JSON of `PeerRpc.Welcome`
 *   2 refused   in its place, or later: JSON of `PeerRpc.Refused`; the connection ends with it
 *   3 messages  `MessageFrame.ts`
 *   4 asking    the same, to be answered; also without any, to hear whether the called is there
 *   5 heard     empty: the oldest frame of kind 4 that was not answered yet was heard, with all before it
 * ```
 */
import { Buffer } from "node:buffer"
import { bufferOf } from "./Bytes.ts"

/** What a caller asks an HTTP server to change to. */
export const protocol = "titan-raft"

export const kinds = { hello: 0, welcome: 1, refused: 2, messages: 3, asking: 4, heard: 5 } as const

export interface Frame {
  readonly kind: number
  readonly body: Uint8Array
}

const headBytes = 5

/** The longest body before the two have been introduced. */
export const introductionBytesMax = 64 << 10

const none = new Uint8Array(0)

/** A frame in pieces that follow one another, from its body in such pieces. */
export const encode = (
  kind: number,
  ...body: ReadonlyArray<Uint8Array>
): readonly [Uint8Array, ...Array<Uint8Array>] => {
  const head = Buffer.allocUnsafe(headBytes)
  head.writeUInt32BE(body.reduce((size, { length }) => size + length, 0), 0)
  head.writeUInt8(kind, 4)
  return [head, ...body]
}

/** Finds the frames in what arrives. */
export class Reader {
  #pieces: Array<Uint8Array> = []
  #bytes = 0
  /** So many make the next frame, as far as is known. */
  #needed = headBytes
  /** The longest body that is read. */
  bodyBytesMax: number

  constructor(bodyBytesMax: number) {
    this.bodyBytesMax = bodyBytesMax
  }

  /** The frames that end in `chunk`, bodies being views on it perhaps; or why the bytes are none. */
  read(chunk: Uint8Array): ReadonlyArray<Frame> | { readonly problem: string } {
    this.#pieces.push(chunk)
    this.#bytes += chunk.length
    const frames: Array<Frame> = []
    while (this.#bytes >= this.#needed) {
      const [first = none] = this.#pieces
      const data = bufferOf(this.#pieces.length === 1 ? first : Buffer.concat(this.#pieces))
      const length = data.readUInt32BE(0)
      if (length > this.bodyBytesMax) return { problem: `a frame of ${length} bytes is too long` }
      const end = headBytes + length
      if (data.length < end) {
        this.#keep(data, end)
        continue
      }
      frames.push({ kind: data.readUInt8(4), body: owned(data.subarray(headBytes, end)) })
      this.#keep(data.subarray(end), headBytes)
    }
    return frames
  }

  #keep(data: Uint8Array, needed: number): void {
    this.#pieces = data.length === 0 ? [] : [data]
    this.#bytes = data.length
    this.#needed = needed
  }
}

/** Entries of a log are views on the body: where that is a small part of what arrived with it, they are not to keep the rest. */
const owned = (body: Uint8Array): Uint8Array => 2 * body.length < body.buffer.byteLength ? new Uint8Array(body) : body
