/**
 * The key-value store as bytes: the content of its snapshots.
 *
 * ```
 * content = "tkv" · format u8 (1) · lastRevision u48 · count u48 · record × count      (big-endian)
 * record  = length u16 · key (UTF-8) · length u32 · value · revision u48 · version u48
 * ```
 *
 * The second length counts all that follows it in the record. Records are in the order of their keys, by UTF-16 code units, so equal
 * stores have equal bytes. `count` tells content that was cut short; that no bit changed is for the storage to know.
 *
 * Writing and reading yield by themselves after some 64 KiB, a millisecond of work: a server that takes or installs a snapshot goes on answering
 * heartbeats, even where the other end of the stream never waits. `Effect.yieldNow` continues in a `setImmediate` of its own, so timers
 * and sockets have their turn.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import type { LogIndex } from "../../domain/Entry.ts"
import { keyBytesMax } from "./Protocol.ts"
import type { Stored } from "./Stored.ts"

const magic = "tkv"
const format = 1
const headerBytes = 16
const pieceBytes = 64 << 10

/** The state of a store that changes no more. */
export interface State {
  readonly lastRevision: LogIndex
  readonly count: number
  /** In the order of the keys. The pair may be the same array each time. */
  readonly entries: Iterable<readonly [key: string, stored: Stored]>
}

/** A new block for each piece: who takes one may keep it. */
function* piecesOf({ count, entries, lastRevision }: State): Generator<Uint8Array, void> {
  let piece = Buffer.allocUnsafeSlow(pieceBytes)
  piece.write(magic, 0, "latin1")
  piece[3] = format
  piece.writeUIntBE(lastRevision, 4, 6)
  piece.writeUIntBE(count, 10, 6)
  let at = headerBytes
  const full = (): Uint8Array => {
    const done = piece.subarray(0, at)
    piece = Buffer.allocUnsafeSlow(pieceBytes)
    at = 0
    return done
  }
  for (const [key, stored] of entries) {
    if (at + 2 + keyBytesMax + 4 > pieceBytes) yield full()
    const keyBytes = piece.write(key, at + 2, "utf8")
    piece.writeUInt16BE(keyBytes, at)
    at += 2 + keyBytes
    piece.writeUInt32BE(stored.length, at)
    at += 4
    for (let from = 0; from < stored.length;) {
      if (at === pieceBytes) yield full()
      const length = Math.min(stored.length - from, pieceBytes - at)
      piece.write(from === 0 ? stored : stored.slice(from, from + length), at, length, "latin1")
      at += length
      from += length
    }
  }
  yield piece.subarray(0, at)
}

/** Can be run once, like the iterator that it reads. */
export const write = (state: State): Stream.Stream<Uint8Array> =>
  Stream.unfold(piecesOf(state), (pieces) =>
    Effect.map(Effect.yieldNow, () => {
      const { done, value } = pieces.next()
      return done === true ? undefined : [value, pieces] as const
    }))

/**
 * Bytes that came in pieces of any size. They are read where they are; only what begins in one piece and ends in another is joined, in memory
 * that is used again.
 */
class Incoming {
  #bytes: Buffer = Buffer.alloc(0)
  #at = 0
  #joined = Buffer.alloc(0)
  #waiting: Array<Uint8Array> = []
  #waitingBytes = 0

  push(piece: Uint8Array): void {
    this.#waiting.push(piece)
    this.#waitingBytes += piece.length
  }

  get left(): number {
    return this.#bytes.length - this.#at + this.#waitingBytes
  }

  /** Where the next `length` bytes are in `bytes`, until the next call; `undefined` while they have not all come. */
  at(length: number): number | undefined {
    if (this.#bytes.length - this.#at >= length) return this.#at
    if (this.left < length) return undefined
    this.#bytes = this.#bytes.length === this.#at ? this.#nextPiece() : this.#bytes.subarray(this.#at)
    this.#at = 0
    if (this.#bytes.length < length) this.#join(length)
    return 0
  }

  #nextPiece(): Buffer {
    const { buffer, byteLength, byteOffset } = this.#waiting.shift() ?? this.#joined
    this.#waitingBytes -= byteLength
    return Buffer.from(buffer, byteOffset, byteLength)
  }

  /** Makes `bytes` the next `length` ones. */
  #join(length: number): void {
    if (this.#joined.length < length) this.#joined = Buffer.allocUnsafeSlow(length * 2)
    this.#joined.set(this.#bytes)
    let have = this.#bytes.length
    let whole = 0
    for (const piece of this.#waiting) {
      const taken = piece.subarray(0, length - have)
      this.#joined.set(taken, have)
      have += taken.length
      if (taken.length < piece.length) this.#waiting[whole] = piece.subarray(taken.length)
      else whole++
      if (have === length) break
    }
    this.#waiting.splice(0, whole)
    this.#waitingBytes -= length - this.#bytes.length
    this.#bytes = this.#joined.subarray(0, length)
  }

  get bytes(): Buffer {
    return this.#bytes
  }

  take(length: number): void {
    this.#at += length
  }
}

/** What one record costs beside its bytes, in bytes that would take as long. */
const recordCostBytes = 100

const unreadable = (problem: string): Error =>
  new Error(`the snapshot cannot be restored into the key-value store: ${problem}`)

class Reader {
  readonly #incoming = new Incoming()
  readonly #onRecord: (key: string, stored: Stored) => void
  #header: { readonly lastRevision: LogIndex; readonly count: number } | undefined
  #records = 0
  #lastKey = ""
  #spentBytes = 0

  constructor(onRecord: (key: string, stored: Stored) => void) {
    this.#onRecord = onRecord
  }

  push(piece: Uint8Array): void {
    this.#incoming.push(piece)
  }

  /** Reads on; `true` when it is time to let others have a turn, `false` when it has read what there is. */
  read(): boolean {
    this.#header ??= this.#readHeader()
    if (this.#header === undefined) return false
    while (this.#records < this.#header.count && this.#readRecord()) {
      if (this.#spentBytes < pieceBytes) continue
      this.#spentBytes = 0
      return true
    }
    return false
  }

  #readHeader() {
    const at = this.#incoming.at(headerBytes)
    if (at === undefined) return undefined
    const { bytes } = this.#incoming
    if (bytes.toString("latin1", at, at + 3) !== magic) throw unreadable("another state machine wrote it")
    if (bytes[at + 3] !== format) {
      throw unreadable(`it has format ${bytes[at + 3]}, and this version of Titan reads format ${format}`)
    }
    this.#incoming.take(headerBytes)
    return { lastRevision: bytes.readUIntBE(at + 4, 6), count: bytes.readUIntBE(at + 10, 6) }
  }

  /** Whether there was a whole one. */
  #readRecord(): boolean {
    const incoming = this.#incoming
    let at = incoming.at(2)
    if (at === undefined) return false
    const keyBytes = incoming.bytes.readUInt16BE(at)
    const headBytes = 2 + keyBytes + 4
    at = incoming.at(headBytes)
    if (at === undefined) return false
    const storedBytes = incoming.bytes.readUInt32BE(at + 2 + keyBytes)
    at = incoming.at(headBytes + storedBytes)
    if (at === undefined) return false
    // Both are copies: nothing of the piece stays alive.
    const key = incoming.bytes.toString("utf8", at + 2, at + 2 + keyBytes)
    const stored = incoming.bytes.toString("latin1", at + headBytes, at + headBytes + storedBytes)
    if (key <= this.#lastKey) throw unreadable(`its record ${this.#records + 1} is out of order`)
    incoming.take(headBytes + storedBytes)
    this.#spentBytes += headBytes + storedBytes + recordCostBytes
    this.#lastKey = key
    this.#records++
    this.#onRecord(key, stored)
    return true
  }

  /** All has come. The store's last revision. */
  end(): LogIndex {
    if (this.#header === undefined) throw unreadable(`it ends after ${this.#incoming.left} bytes, within its header`)
    if (this.#records < this.#header.count) {
      throw unreadable(`it ends after record ${this.#records} of ${this.#header.count}`)
    }
    if (this.#incoming.left > 0) throw unreadable(`${this.#incoming.left} bytes follow its last record`)
    return this.#header.lastRevision
  }
}

/** Calls `onRecord` with every record in order, then gives the last revision. Dies of what `write` did not write. */
export const read = <E>(
  content: Stream.Stream<Uint8Array, E>,
  onRecord: (key: string, stored: Stored) => void
): Effect.Effect<LogIndex, E> =>
  Effect.suspend(() => {
    const reader = new Reader(onRecord)
    const readAll: Effect.Effect<void> = Effect.suspend(() =>
      reader.read() ? Effect.andThen(Effect.yieldNow, readAll) : Effect.void
    )
    return Stream.runForEach(content, (piece) => {
      reader.push(piece)
      return readAll
    }).pipe(Effect.map(() => reader.end()))
  })
