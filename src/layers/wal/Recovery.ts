/**
 * Reads a write-ahead log back: first everything is checked and nothing changed; only then is a torn tail cut.
 *
 * What is damage and what is a torn tail is decided by the proof in `Record.ts`.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import type { HardState } from "../../domain/Command.ts"
import type { Configuration } from "../../domain/Configuration.ts"
import type { Entry } from "../../domain/Entry.ts"
import { type Identity, StorageError } from "../../services/Storage.ts"
import * as File from "./File.ts"
import * as Record from "./Record.ts"
import * as Segment from "./Segment.ts"

/** A segment on disk whose header was checked. */
export interface Stored {
  readonly path: string
  readonly header: Segment.Header
}

/** What the log holds, and where it goes on. */
export interface Recovery {
  readonly hardState: HardState | undefined
  readonly configuration: Configuration | undefined
  readonly entries: ReadonlyArray<Entry>
  /** The last segment, and the byte in it at which the next record goes. */
  readonly segment: Segment.Segment
  readonly position: number
  /** The last record's number; 0 before the first. */
  readonly sequence: number
}

/** The headers of a directory's segments: all of one server. Reads nothing else. */
export const readHeaders = Effect.fnUntraced(function*(paths: ReadonlyArray<string>, nodeId: string) {
  const stored: Array<Stored> = []
  for (const path of paths) stored.push({ path, header: yield* Segment.readHeader(path) })
  const first = stored[0]
  for (const { header: { identity }, path } of stored) {
    if (identity.nodeId !== nodeId || identity.clusterId !== first?.header.identity.clusterId) {
      return yield* foreign(path, identity, nodeId, first?.header.identity.clusterId ?? identity.clusterId)
    }
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

/** The log so far, while records are played back. `entries[i]` has index i + 1. */
interface Replay {
  hardState: HardState | undefined
  configuration: Configuration | undefined
  readonly entries: Array<Entry>
  sequence: number
  /** Where the last record lies in the segment read last; `undefined` when that segment has none. */
  last: Buffer | undefined
  lastAt: number
  position: number
}

/** Applies the parts of one record. Returns what is wrong with them, if anything. */
const replay = (state: Replay, parts: Record.Parts): string | undefined => {
  state.hardState = parts.hardState ?? state.hardState
  state.configuration ??= parts.configuration
  const first = parts.entries[0]
  if (first === undefined) return undefined
  if (first.index > state.entries.length + 1) {
    return `its first entry has index ${first.index} and the log before it ends at ${state.entries.length}`
  }
  const before = state.entries[first.index - 2]
  if (before !== undefined && before.term > first.term) {
    return `the term falls from ${before.term} to ${first.term} at index ${first.index}`
  }
  state.entries.length = first.index - 1
  for (const entry of parts.entries) state.entries.push(entry)
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
    const problem = replay(state, found.parts)
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
const settle = Effect.fnUntraced(function*(fd: number, path: string, state: Replay, end: number) {
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

/**
 * The log of checked segments, of which there is at least one. The last one is open for writing until the scope
 * closes or the caller closes it. Fails, with nothing changed, when anything that was durable is damaged.
 */
export const recover = Effect.fnUntraced(function*(stored: ReadonlyArray<Stored>) {
  const state: Replay = {
    hardState: undefined,
    configuration: undefined,
    entries: [],
    sequence: 0,
    last: undefined,
    lastAt: 0,
    position: Segment.headerBytes
  }
  let end = Segment.headerBytes
  for (const [i, { header, path }] of stored.entries()) {
    if (header.firstSequence !== state.sequence + 1) {
      const before = stored[i - 1]?.path ?? path
      return yield* Segment.corrupt(
        before,
        state.position,
        `records ${state.sequence + 1} to ${header.firstSequence - 1} are missing`
      )
    }
    const bytes = yield* Segment.readAll(path, header)
    const problem = yield* replaySegment(state, { header, path }, bytes)
    end = endOfContent(bytes, state.position)
    const later = Record.findLater(bytes, state.position, header.mark, state.sequence + 1)
    if (later !== -1) {
      const proof = `${problem}, yet a later record at byte ${later} proves that one was durable`
      return yield* Segment.corrupt(path, state.position, proof)
    }
    if (end > state.position && i < stored.length - 1) {
      return yield* Segment.corrupt(
        path,
        state.position,
        `${problem}, yet the next file proves that all here was durable`
      )
    }
  }
  const { header, path } = stored[stored.length - 1] ?? (yield* Effect.die(new Error("no segment to recover")))
  const segment = yield* Effect.acquireUseRelease(
    File.open(path, "r+"),
    (fd) => Effect.as(settle(fd, path, state, end), { path, fd, header } satisfies Segment.Segment),
    (fd, exit) => exit._tag === "Success" ? Effect.void : File.close(fd)
  )
  const { configuration, entries, hardState, position, sequence } = state
  return { hardState, configuration, entries, segment, position, sequence } satisfies Recovery
})
