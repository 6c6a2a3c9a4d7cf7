/**
 * Appends records: one write and one sync each, into the last segment, or into a new one when it is full.
 *
 * The next segment is filled with zeros in the background once the current one is half full, so that a rotation costs
 * two syncs of a header and a directory, not of a whole file.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { Buffer } from "node:buffer"
import type { HardState, Start } from "../../domain/Command.ts"
import type { Entry, EntryId } from "../../domain/Entry.ts"
import { type Identity, StorageError } from "../../services/Storage.ts"
import * as File from "./File.ts"
import * as Record from "./Record.ts"
import type { Older, Recovery } from "./Recovery.ts"
import * as Segment from "./Segment.ts"

/** Records up to this size are gathered in one buffer that is used again and again. */
const gatherBytes = 1 << 18

/** What one record is to say: first where the log begins, then its entries. */
export interface Change {
  readonly hardState: HardState | undefined
  /** Where the log begins from now on; with `keepsLog`, what it holds past that stays. */
  readonly start: Start & { readonly keepsLog: boolean } | undefined
  readonly entries: ReadonlyArray<Entry>
}

export interface Writer {
  /**
   * Returns once a record of `change` is durable. After a failure, it and every later call fail with that failure. Not
   * for two at once.
   */
  readonly append: (change: Change) => Effect.Effect<void, StorageError>
  /** The log begins after it. */
  readonly prev: () => EntryId
  /** Fails, and with it every later call of `append`. */
  readonly fail: (error: StorageError) => Effect.Effect<never, StorageError>
  /** Deletes the segments that hold nothing but entries up to `prev`. Runs beside `append`, but not beside itself. */
  readonly deleteOld: Effect.Effect<void, StorageError>
  /** Fails once a call of `append` has; otherwise all of them so far are durable. */
  readonly barrier: Effect.Effect<void, StorageError>
  /** Marks a clean stop and closes the files; later calls of `append` fail. */
  readonly close: Effect.Effect<void>
}

interface Options {
  readonly directory: string
  readonly identity: Identity
  readonly segmentBytes: number
  readonly scope: Scope.Scope
}

interface State {
  segment: Segment.Segment
  position: number
  sequence: number
  prev: EntryId
  last: EntryId
  hardState: Record.Parts["hardState"]
  configuration: Record.Parts["configuration"]
  /** Segments that the current one can do without but for entries, oldest first. */
  older: Array<Older>
  /** Joins them once the first record of the current segment is durable. */
  previous: Older | undefined
  blanks: number
  next: Fiber.Fiber<Segment.Blank, StorageError> | undefined
  failed: StorageError | undefined
}

const refused = (path: string, problem: string): StorageError =>
  new StorageError({ reason: "Failed", path, message: `${problem}. Nothing was written; the node must stop` })

/** What is wrong with a change of this log: recovery would refuse one that has a gap, or begins past its end. */
const misfit = ({ last, prev, segment }: State, { entries, start }: Change): StorageError | undefined => {
  const begin = start?.prev.index ?? prev.index
  const end = start?.keepsLog === false ? begin : last.index
  if (begin < prev.index || begin > end) {
    return refused(segment.path, `a log from ${prev.index} to ${last.index} cannot begin after ${begin}`)
  }
  const index = entries[0]?.index ?? end + 1
  return index > begin && index <= end + 1
    ? undefined
    : refused(
      segment.path,
      `entries from index ${index} do not follow a log that begins after ${begin} and ends at ${end}`
    )
}

/** Notes that the record of `parts` is durable. */
const advance = (state: State, record: Record.Unplaced, { configuration, entries, hardState, start }: Record.Parts) => {
  state.position += record.bytes
  state.sequence++
  if (state.previous !== undefined) state.older.push(state.previous)
  state.previous = undefined
  state.hardState = hardState ?? state.hardState
  state.configuration = configuration ?? state.configuration
  state.prev = start?.prev ?? state.prev
  if (start?.keepsLog === false) {
    state.last = start.prev
    state.older = state.older.map(({ path }) => ({ path, lastIndex: start.prev.index }))
  }
  const last = entries[entries.length - 1]
  // Not the entry itself, which would keep its block in memory.
  if (last !== undefined) state.last = { term: last.term, index: last.index }
}

const isHalfFull = ({ position, segment: { header } }: State): boolean =>
  position - Segment.headerBytes > header.sizeBytes - position

/** Makes the next segment current, one that has room for `record`. */
const rotate = Effect.fnUntraced(function*(options: Options, state: State, record: Record.Unplaced) {
  const sizeBytes = Segment.sizeFor(record.bytes)
  let blank: Segment.Blank
  if (sizeBytes > options.segmentBytes) {
    blank = yield* Segment.makeBlank(options.directory, ++state.blanks, sizeBytes)
  } else if (state.next === undefined) {
    blank = yield* Segment.makeBlank(options.directory, ++state.blanks, options.segmentBytes)
  } else {
    blank = yield* Fiber.join(state.next)
    state.next = undefined
  }
  const segment = yield* Segment.open(blank, options.identity, state.sequence + 1).pipe(
    Effect.onError(() => File.close(blank.fd))
  )
  yield* File.close(state.segment.fd)
  // A segment that never got a record had the name that the new one has now.
  if (state.position > Segment.headerBytes) state.previous = { path: state.segment.path, lastIndex: state.last.index }
  state.segment = segment
  state.position = Segment.headerBytes
})

/** The state of a writer that goes on where `recovery` ended. */
const resume = (recovery: Recovery): State => {
  const { configuration, entries, hardState, position, prev, segment, sequence } = recovery
  const last = entries[entries.length - 1] ?? prev
  const older = [...recovery.older]
  return {
    segment,
    position,
    sequence,
    prev,
    last: { term: last.term, index: last.index },
    hardState,
    configuration,
    previous: position === Segment.headerBytes ? older.pop() : undefined,
    older,
    blanks: 0,
    next: undefined,
    failed: undefined
  }
}

/** All that a record can say of this log after `change`: what the first record of a segment says. */
const wholeOf = ({ configuration, hardState, last, prev }: State, change: Change): Record.Parts => ({
  hardState: change.hardState ?? hardState,
  configuration: change.start?.configuration ?? configuration,
  start: { prev: change.start?.prev ?? prev, last, keepsLog: change.start?.keepsLog ?? true },
  entries: change.entries
})

const partsOf = ({ last }: State, { entries, hardState, start }: Change): Record.Parts => ({
  hardState,
  configuration: start?.configuration,
  start: start === undefined ? undefined : { prev: start.prev, last, keepsLog: start.keepsLog },
  entries
})

/** Deletes old segments. After each, the directory is synced: no crash leaves a later one deleted and an earlier one not. */
const deleteOld = Effect.fnUntraced(function*(directory: string, state: State) {
  for (let oldest = state.older[0]; oldest !== undefined; oldest = state.older[0]) {
    if (oldest.lastIndex > state.prev.index) return
    const deleted = Effect.andThen(File.unlink(oldest.path), File.syncDirectory(directory))
    yield* Effect.uninterruptible(Effect.andThen(deleted, Effect.sync(() => state.older.shift())))
  }
})

/** A writer that goes on where `recovery` ended. The caller closes it. */
export const make = (options: Options, recovery: Recovery): Writer => {
  const gather = Buffer.allocUnsafeSlow(gatherBytes)
  const state = resume(recovery)

  const fail = (error: StorageError) => {
    state.failed = error
    return Effect.fail(error)
  }

  const writeRecord = (record: Record.Unplaced, parts: Record.Parts) =>
    Effect.callback<void, StorageError>((resume) => {
      const { fd, header, path } = state.segment
      const into = record.bytes <= gatherBytes ? gather : Buffer.allocUnsafeSlow(record.bytes)
      const bytes = Record.encode(record, header.mark, state.sequence + 1, into)
      File.writeDurablyThen(fd, bytes, state.position, (error) => {
        if (error !== null) return resume(fail(File.failure("write to", path, error)))
        advance(state, record, parts)
        resume(state.next === undefined && isHalfFull(state) ? prepareNext : Effect.void)
      })
    })

  const prepareNext = Effect.suspend(() =>
    Segment.makeBlank(options.directory, ++state.blanks, options.segmentBytes).pipe(
      Effect.forkIn(options.scope),
      Effect.map((fiber) => {
        state.next = fiber
      })
    )
  )

  const appendRotated = (parts: Record.Parts) => {
    const record = Record.make(parts)
    return record === undefined
      ? fail(refused(state.segment.path, "the write is larger than a record may be"))
      : Effect.andThen(Effect.catch(rotate(options, state, record), fail), writeRecord(record, parts))
  }

  const append = (change: Change) =>
    Effect.uninterruptible(Effect.suspend(() => {
      if (state.failed !== undefined) return Effect.fail(state.failed)
      const problem = misfit(state, change)
      if (problem !== undefined) return fail(problem)
      const isFirst = state.position === Segment.headerBytes
      const parts = isFirst ? wholeOf(state, change) : partsOf(state, change)
      const record = Record.make(parts)
      const fits = record !== undefined && state.position + record.bytes <= state.segment.header.sizeBytes
      return fits ? writeRecord(record, parts) : appendRotated(wholeOf(state, change))
    }))

  const barrier = Effect.suspend(() => state.failed === undefined ? Effect.void : Effect.fail(state.failed))

  return {
    append,
    barrier,
    fail,
    prev: () => state.prev,
    deleteOld: Effect.suspend(() => deleteOld(options.directory, state)),
    close: Effect.suspend(() => close(options, state, append))
  }
}

/** The mark of a clean stop, where there is room for it: a record without parts. */
const stopMark: Change = { hardState: undefined, start: undefined, entries: [] }
const stopMarkBytes =
  Record.make({ hardState: undefined, configuration: undefined, start: undefined, entries: [] })?.bytes ?? 0

const close = Effect.fnUntraced(function*(options: Options, state: State, append: Writer["append"]) {
  const room = state.segment.header.sizeBytes - state.position - stopMarkBytes
  if (state.failed === undefined && room >= 0 && state.position > Segment.headerBytes) {
    yield* Effect.catch(append(stopMark), (error) => Effect.logWarning(`No mark of a clean stop: ${error.message}`))
  }
  state.failed ??= new StorageError({
    reason: "Failed",
    path: options.directory,
    message: `${options.directory} is closed`
  })
  yield* File.close(state.segment.fd)
  if (state.next === undefined) return
  yield* Fiber.interrupt(state.next)
  const exit = yield* Fiber.await(state.next)
  if (Exit.isSuccess(exit)) yield* Segment.discard(exit.value)
})
