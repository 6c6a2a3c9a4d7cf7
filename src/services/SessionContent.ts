/**
 * What a snapshot holds: the table of sessions (`domain/Session.ts`), then whatever the state machine wrote.
 *
 * ```
 * content  = format u8 (1) · timeMs u48 · timeoutMs u48 · count u32 · session × count · what the state machine wrote
 * session  = length u32 · id u48 · lastUsedMs u48 · firstKept u48 · answer × …         (integers are big-endian)
 * answer   = sequence u48 · length u32 · result
 * ```
 *
 * The length of a session counts what follows it. Both ways one session is in hand at a time, so that a large table holds nobody up.
 */
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import type { Captured, Saved, SavedSession } from "../domain/Session.ts"

const format = 1
const headBytes = 17
const sessionBytes = 18
const answerBytes = 10

/** About so many bytes are one piece; between pieces the process does other work. */
const pieceBytes = 64 << 10

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const writeU48 = (view: DataView, at: number, value: number): void => {
  view.setUint16(at, Math.floor(value / 2 ** 32))
  view.setUint32(at + 2, value % 2 ** 32)
}

const readU48 = (view: DataView, at: number): number => view.getUint16(at) * 2 ** 32 + view.getUint32(at + 2)

const encodeHead = ({ count, timeMs, timeoutMs }: Captured): Uint8Array => {
  const bytes = new Uint8Array(headBytes)
  const view = viewOf(bytes)
  view.setUint8(0, format)
  writeU48(view, 1, timeMs)
  writeU48(view, 7, timeoutMs)
  view.setUint32(13, count)
  return bytes
}

const encodeSession = ({ answers, firstKept, id, lastUsedMs }: SavedSession): Uint8Array => {
  const size = answers.reduce((sum, { result }) => sum + answerBytes + result.length, sessionBytes)
  const bytes = new Uint8Array(4 + size)
  const view = viewOf(bytes)
  view.setUint32(0, size)
  writeU48(view, 4, id)
  writeU48(view, 10, lastUsedMs)
  writeU48(view, 16, firstKept)
  let at = 4 + sessionBytes
  for (const { result, sequence } of answers) {
    writeU48(view, at, sequence)
    view.setUint32(at + 6, result.length)
    bytes.set(result, at + answerBytes)
    at += answerBytes + result.length
  }
  return bytes
}

/** A session, from its bytes without their length. */
const decodeSession = (bytes: Uint8Array): SavedSession => {
  const view = viewOf(bytes)
  const answers: Array<SavedSession["answers"][number]> = []
  for (let at = sessionBytes; at < bytes.length;) {
    const end = at + answerBytes + view.getUint32(at + 6)
    // A copy: nothing of the piece that it came in stays alive.
    answers.push({ sequence: readU48(view, at), result: bytes.slice(at + answerBytes, end) })
    at = end
  }
  return { id: readU48(view, 0), lastUsedMs: readU48(view, 6), firstKept: readU48(view, 12), answers }
}

/** The table in pieces, each some sessions. */
function* encoded(captured: Captured): Generator<Uint8Array> {
  let parts: Array<Uint8Array> = [encodeHead(captured)]
  let bytes = headBytes
  for (const session of captured.sessions()) {
    const part = encodeSession(session)
    parts.push(part)
    bytes += part.length
    if (bytes < pieceBytes) continue
    yield joined(parts)
    parts = []
    bytes = 0
  }
  if (parts.length > 0) yield joined(parts)
}

const joined = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

/** The content of a snapshot, with the table in front of what the state machine writes. */
export const write = (captured: Captured, machine: Stream.Stream<Uint8Array>): Stream.Stream<Uint8Array> =>
  Stream.fromIterable(encoded(captured), { chunkSize: 1 }).pipe(
    Stream.mapEffect((piece) => Effect.as(Effect.yieldNow, piece)),
    Stream.concat(machine)
  )

/** Reads the table from the pieces of a content. Dies of what `write` did not write: the bytes were checked by then. */
class Reader {
  readonly #sessions: Array<SavedSession> = []
  /** What has come in and was not read. */
  #pieces: Array<Uint8Array> = []
  #bytes = 0
  #head: { readonly timeMs: number; readonly timeoutMs: number; readonly count: number } | undefined
  isEnded = false

  get saved(): Saved {
    if (this.#head === undefined || !this.isEnded) throw new Error("the snapshot ends within its sessions")
    return { timeMs: this.#head.timeMs, timeoutMs: this.#head.timeoutMs, sessions: this.#sessions }
  }

  /** What of a piece is the state machine's. */
  read(piece: Uint8Array): Uint8Array {
    if (this.isEnded) return piece
    this.#pieces.push(piece)
    this.#bytes += piece.length
    while (this.#head === undefined || this.#sessions.length < this.#head.count) {
      if (!this.#readOne()) return new Uint8Array(0)
    }
    this.isEnded = true
    return this.#take(this.#bytes) ?? new Uint8Array(0)
  }

  /** The head, or a session; whether all of it was there. */
  #readOne(): boolean {
    if (this.#head === undefined) {
      const bytes = this.#take(headBytes)
      if (bytes === undefined) return false
      if (bytes[0] !== format) {
        const problem = `the snapshot's sessions have format ${
          bytes[0]
        }, and this version of Titan reads format ${format}`
        throw new Error(`${problem}: run the version that wrote it`)
      }
      const view = viewOf(bytes)
      this.#head = { timeMs: readU48(view, 1), timeoutMs: readU48(view, 7), count: view.getUint32(13) }
      return true
    }
    const length = this.#peek(4)
    if (length === undefined) return false
    const bytes = this.#take(4 + viewOf(length).getUint32(0))
    if (bytes === undefined) return false
    this.#sessions.push(decodeSession(bytes.subarray(4)))
    return true
  }

  /** The next `count` bytes, once there are as many. */
  #peek(count: number): Uint8Array | undefined {
    if (this.#bytes < count) return undefined
    if ((this.#pieces[0]?.length ?? 0) < count) this.#pieces = [joined(this.#pieces)]
    return this.#pieces[0]?.subarray(0, count)
  }

  #take(count: number): Uint8Array | undefined {
    const bytes = this.#peek(count)
    const [first, ...others] = this.#pieces
    if (bytes === undefined || first === undefined) return bytes
    this.#pieces = first.length === count ? others : [first.subarray(count), ...others]
    this.#bytes -= count
    return bytes
  }
}

/** Reads the sessions, then feeds the state machine what it wrote, of which it may read as much as it likes. */
export const read = <E, E2>(
  content: Stream.Stream<Uint8Array, E>,
  restore: (machine: Stream.Stream<Uint8Array, E>) => Effect.Effect<void, E2>
): Effect.Effect<Saved, E | E2> =>
  Effect.scoped(Effect.gen(function*() {
    const pull = yield* Stream.toPull(content)
    const next = Pull.catchDone(pull, () => Effect.succeed(noPieces))
    const reader = new Reader()
    /** What came in the last piece of the table, or together with it. */
    let early: ReadonlyArray<Uint8Array> = []
    while (!reader.isEnded) {
      const pieces: ReadonlyArray<Uint8Array> = yield* next
      if (pieces.length === 0) break
      early = pieces.map((piece) => reader.read(piece)).filter((piece) => piece.length > 0)
    }
    const { saved } = reader
    yield* restore(Stream.concat(Stream.fromIterable(early), Stream.fromPull(Effect.succeed(pull))))
    return saved
  }))

const noPieces: ReadonlyArray<Uint8Array> = []
