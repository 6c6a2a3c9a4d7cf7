/**
 * Reads a write-ahead log back: `read` checks everything and changes nothing; only then may `settle` cut a torn tail.
 *
 * What is damage and what is a torn tail is decided by the proof in `Record.ts`.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import type { HardState } from "../../domain/Command.ts"
import type { Configuration } from "../../domain/Configuration.ts"
import { type Entry, type EntryId, origin } from "../../domain/Entry.ts"
import { type Identity, StorageError } from "../../services/Storage.ts"
import * as File from "./File.ts"
import * as Record from "./Record.ts"
import * as Segment from "./Segment.ts"

/** A segment on disk whose header was checked. */
export interface Stored {
  readonly path: string
  readonly header: Segment.Header
}

/** A segment that is not the last one, and the index of the log's last entry at its end. */
export interface Older {
  readonly path: string
  readonly lastIndex: number
}

/** What the log holds. */
export interface Log {
  readonly hardState: HardState | undefined
  /** In force at `prev`; `undefined` before the first record. */
  readonly configuration: Configuration | undefined
  /** The log begins after it. */
  readonly prev: EntryId
  /** Contiguous, after `prev`. */
  readonly entries: ReadonlyArray<Entry>
  /** All segments but the last one, oldest first. */
  readonly older: ReadonlyArray<Older>
}

/** Where the log goes on. */
export interface Recovery extends Log {
  /** The last segment, and the byte in it at which the next record goes. */
  readonly segment: Segment.Segment
  readonly position: number
  /** The last record's number; 0 before the first. */
  readonly sequence: number
}

/** A log that was read and found to be whole, but for what may be torn at its end. Nothing on disk was changed. */
export interface Found {
  readonly log: Log
  readonly state: Replay
  /** The last segment, and where its bytes that are not zero end. */
  readonly stored: Stored
  readonly end: number
}

/** The headers of a directory's segments: all of one server. Reads nothing else. */
export const readHeaders = Effect.fnUntraced(function*(paths: ReadonlyArray<string>, nodeId: string) {
  const stored: Array<Stored> = []
  for (const path of paths) stored.push({ path, header: yield* Segment.readHeader(path) })
  const first = stored[0]
  for (const { header: { identity }, path } of stored) {
    const own = first?.header.identity ?? identity
    if (identity.nodeId !== nodeId || identity.clusterId !== own.clusterId) {
      return yield* foreign(path, identity, nodeId, own.clusterId)
    }
    if (identity.diskId !== own.diskId) return yield* mixed(path, nodeId)
  }
  return stored
})

const foreign = (path: string, { clusterId, nodeId }: Identity, wanted: string, cluster: string): StorageError =>
  new StorageError({
    reason: "Foreign",
    path,
    message:
      `${path} belongs to server ${nodeId} of cluster ${clusterId}, not to server ${wanted} of cluster ${cluster}. `
      + `Nothing was changed. Start that server on it, and give this one a directory of its own`
  })

const mixed = (path: string, nodeId: string): StorageError =>
  new StorageError({
    reason: "Foreign",
    path,
    message:
      `${path} belongs to server ${nodeId} and to another directory than the other files here. Nothing was changed. Move `
      + `away what was copied in here, or restore the whole directory from a copy that is not older than the server's last stop`
  })

/** The log so far, while records are played back. */
export interface Replay {
  hardState: HardState | undefined
  configuration: Configuration | undefined
  /** Where the log begins, as the last start says. */
  prev: EntryId
  /** The entry before `entries[0]`: later than `prev` while entries are missing that older segments held. */
  before: EntryId
  readonly entries: Array<Entry>
  older: Array<Older>
  sequence: number
  /** Where the last record lies in the segment read last; `undefined` when that segment has none. */
  last: Buffer | undefined
  lastAt: number
  position: number
}

const lastOf = ({ before, entries }: Replay): EntryId => entries[entries.length - 1] ?? before

const name = ({ index, term }: EntryId): string => `index ${index} of term ${term}`

/** Applies a record's start. Returns what is wrong with it, if anything. */
const restart = (state: Replay, { keepsLog, last, prev }: Record.Start): string | undefined => {
  const found = lastOf(state)
  if (found.index !== last.index || found.term !== last.term) {
    return `it says that the log before it ends at ${name(last)}, which is at ${name(found)}`
  }
  if (prev.index < state.prev.index || (keepsLog && prev.index > last.index)) {
    return `it says that a log from ${state.prev.index} to ${last.index} begins after ${prev.index}`
  }
  state.prev = prev
  if (!keepsLog) {
    state.entries.length = 0
    state.older = state.older.map(({ path }) => ({ path, lastIndex: prev.index }))
  } else if (prev.index > state.before.index) state.entries.splice(0, prev.index - state.before.index)
  if (!keepsLog || prev.index > state.before.index) state.before = prev
  return undefined
}

/** Applies the parts of one record. Returns what is wrong with them, if anything. */
const replay = (state: Replay, { configuration, entries, hardState, start }: Record.Parts): string | undefined => {
  state.hardState = hardState ?? state.hardState
  state.configuration = configuration ?? state.configuration
  const problem = start === undefined ? undefined : restart(state, start)
  const first = entries[0]
  if (problem !== undefined || first === undefined) return problem
  const last = lastOf(state)
  if (first.index > last.index + 1) {
    return `its first entry has index ${first.index} and the log before it ends at ${last.index}`
  }
  if (first.index <= state.prev.index) {
    return `its first entry has index ${first.index} and the log begins after ${state.prev.index}`
  }
  // Where entries are missing this cuts among them, the term before the cut is not known.
  if (first.index <= state.before.index) state.before = { term: 0, index: first.index - 1 }
  const count = first.index - 1 - state.before.index
  const before = state.entries[count - 1] ?? state.before
  if (before.term > first.term) return `the term falls from ${before.term} to ${first.term} at index ${first.index}`
  state.entries.length = count
  for (const entry of entries) state.entries.push(entry)
  return undefined
}

/**
 * The first segment that is left, when it is not the first that was made: its first record says how the log came to it. Only a log whose start
 * was moved past all that is missing is whole; that shows at the end.
 */
const goOn = (state: Replay, parts: Record.Parts): string | undefined => {
  if (parts.start === undefined) return "the files before it are missing, and it does not say where the log begins"
  state.before = parts.start.last
  state.prev = parts.start.keepsLog ? parts.start.prev : origin
  return undefined
}

/** Plays the records of one segment back. Stops where no whole record begins; returns why there is none. */
const replaySegment = Effect.fnUntraced(function*(state: Replay, { header, path }: Stored, bytes: Buffer) {
  state.position = Segment.headerBytes
  state.last = undefined
  while (true) {
    const at = state.position
    const found = Record.decode(bytes, at, header.mark)
    if (found._tag === "Broken") return found.problem
    if (found._tag === "Nonsense") return yield* Segment.corrupt(path, at, found.problem)
    if (found.sequence !== state.sequence + 1) {
      return yield* Segment.corrupt(path, at, `record ${found.sequence} lies where ${state.sequence + 1} belongs`)
    }
    const isFirst = state.last === undefined && state.older.length === 0 && header.firstSequence > 1
    const problem = (isFirst ? goOn(state, found.parts) : undefined) ?? replay(state, found.parts)
    if (problem !== undefined) return yield* Segment.corrupt(path, at, `record ${found.sequence}: ${problem}`)
    state.sequence = found.sequence
    state.last = bytes.subarray(at, found.end)
    state.lastAt = at
    state.position = found.end
  }
})

/** One past the last byte from `from` on that is not zero; `from` when all are. */
const endOfContent = (bytes: Buffer, from: number): number => {
  const zeros = Buffer.alloc(1 << 16)
  let end = bytes.length
  while (end > from) {
    const start = Math.max(from, end - zeros.length)
    if (!bytes.subarray(start, end).equals(zeros.subarray(0, end - start))) break
    end = start
  }
  while (end > from && bytes[end - 1] === 0) end--
  return end
}

/**
 * Zeroes the torn bytes, writes the last record again and syncs. Again, because a sync that failed before the restart
 * may have left it in the page cache only, marked as clean: what was read would not be what the disk holds.
 */
const cutTornTail = Effect.fnUntraced(function*(fd: number, path: string, state: Replay, end: number) {
  if (end > state.position) {
    yield* Effect.logWarning(
      "The write-ahead log ends in a record that is not whole, as a crash in the middle of a write leaves it, and is cut there"
    )
      .pipe(
        Effect.annotateLogs({ path, fromByte: state.position, bytes: end - state.position, lastRecord: state.sequence })
      )
    yield* File.write(fd, path, Buffer.alloc(end - state.position), state.position)
  }
  if (state.last !== undefined) yield* File.write(fd, path, state.last, state.lastAt)
  yield* File.sync(fd, path)
})

/** What is wrong with the segment at `i`, the last that was read: anything but a torn tail at the very end. */
const damageIn = (
  stored: ReadonlyArray<Stored>,
  i: number,
  state: Replay,
  bytes: Buffer,
  end: number
): string | undefined => {
  const mark = stored[i]?.header.mark ?? Buffer.alloc(0)
  const later = Record.findLater(bytes, state.position, mark, state.sequence + 1)
  if (later !== -1) return `yet a later record at byte ${later} proves that one was durable`
  if (end > state.position && i < stored.length - 1) return "yet the next file proves that all here was durable"
  return undefined
}

/**
 * The log of checked segments, of which there is at least one. Fails when anything that was durable, and is still needed, is damaged or gone.
 */
export const read = Effect.fnUntraced(function*(stored: ReadonlyArray<Stored>) {
  const first = stored[0] ?? (yield* Effect.die(new Error("no segment to recover")))
  const state: Replay = {
    hardState: undefined,
    configuration: undefined,
    prev: origin,
    before: origin,
    entries: [],
    older: [],
    sequence: first.header.firstSequence - 1,
    last: undefined,
    lastAt: 0,
    position: Segment.headerBytes
  }
  let end = Segment.headerBytes
  let current = first
  for (const [i, { header, path }] of stored.entries()) {
    if (header.firstSequence !== state.sequence + 1) {
      const missing = `records ${state.sequence + 1} to ${header.firstSequence - 1} are missing`
      return yield* Segment.corrupt(current.path, state.position, missing)
    }
    if (i > 0) state.older.push({ path: current.path, lastIndex: lastOf(state).index })
    current = { header, path }
    const bytes = yield* Segment.readAll(path, header)
    const problem = yield* replaySegment(state, current, bytes)
    end = endOfContent(bytes, state.position)
    const proof = damageIn(stored, i, state, bytes, end)
    if (proof !== undefined) return yield* Segment.corrupt(path, state.position, `${problem}, ${proof}`)
  }
  const problem = gap(state, first)
  if (problem !== undefined) return yield* Segment.corrupt(first.path, Segment.headerBytes, problem)
  const { configuration, entries, hardState, older, prev } = state
  return { log: { hardState, configuration, prev, entries, older }, state, stored: current, end } satisfies Found
})

/** What the log lacks because segments before the first one are gone. */
const gap = (state: Replay, { header: { firstSequence } }: Stored): string | undefined => {
  if (firstSequence === 1) return undefined
  if (state.sequence < firstSequence) return `records 1 to ${firstSequence - 1} are missing`
  return state.before.index > state.prev.index
    ? `records 1 to ${firstSequence - 1} are missing, with entries ${state.prev.index + 1} to ${state.before.index}`
    : undefined
}

/** Makes the log ready to be written to. The last segment is open until the caller closes it. */
export const settle = Effect.fnUntraced(function*({ end, log, state, stored: { header, path } }: Found) {
  const segment = yield* Effect.acquireUseRelease(
    File.openSynchronous(path, "existing"),
    (fd) => Effect.as(cutTornTail(fd, path, state, end), { path, fd, header } satisfies Segment.Segment),
    (fd, exit) => exit._tag === "Success" ? Effect.void : File.close(fd)
  )
  return { ...log, segment, position: state.position, sequence: state.sequence } satisfies Recovery
})
