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
import { type Identity, StorageError } from "../../services/Storage.ts"
import * as File from "./File.ts"
import * as Record from "./Record.ts"
import type { Recovery } from "./Recovery.ts"
import * as Segment from "./Segment.ts"

/** Records up to this size are gathered in one buffer that is used again and again. */
const gatherBytes = 1 << 18

export interface Writer {
  /**
   * Returns once a record of `parts` is durable. After a failure, it and every later call fail with that failure. Not
   * for two at once.
   */
  readonly append: (parts: Record.Parts) => Effect.Effect<void, StorageError>
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
  lastIndex: number
  hardState: Record.Parts["hardState"]
  configuration: Record.Parts["configuration"]
  blanks: number
  next: Fiber.Fiber<Segment.Blank, StorageError> | undefined
  failed: StorageError | undefined
}

const refused = (path: string, problem: string): StorageError =>
  new StorageError({ reason: "Failed", path, message: `${problem}. Nothing was written; the node must stop` })

/**
 * What is wrong with appending `entries` to a log that ends at `lastIndex`: recovery would refuse a log with a gap.
 */
const gap = (path: string, lastIndex: number, { entries }: Record.Parts): StorageError | undefined => {
  const index = entries[0]?.index ?? 1
  return index >= 1 && index <= lastIndex + 1
    ? undefined
    : refused(path, `entries from index ${index} do not follow a log that ends at ${lastIndex}`)
}

/** Notes that the record of `parts` is durable. */
const advance = (state: State, record: Record.Unplaced, parts: Record.Parts): void => {
  state.position += record.bytes
  state.sequence++
  state.lastIndex = parts.entries[parts.entries.length - 1]?.index ?? state.lastIndex
  state.hardState = parts.hardState ?? state.hardState
  state.configuration ??= parts.configuration
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
  state.segment = segment
  state.position = Segment.headerBytes
})

/** A writer that goes on where `recovery` ended. The caller closes it. */
export const make = (options: Options, recovery: Recovery): Writer => {
  const { configuration, entries, hardState, position, segment, sequence } = recovery
  const gather = Buffer.allocUnsafeSlow(gatherBytes)
  const state: State = {
    segment,
    position,
    sequence,
    lastIndex: entries.length,
    hardState,
    configuration,
    blanks: 0,
    next: undefined,
    failed: undefined
  }

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
    const whole: Record.Parts = {
      hardState: parts.hardState ?? state.hardState,
      configuration: state.configuration ?? parts.configuration,
      entries: parts.entries
    }
    const record = Record.make(whole)
    return record === undefined
      ? fail(refused(state.segment.path, "the write is larger than a record may be"))
      : Effect.andThen(Effect.catch(rotate(options, state, record), fail), writeRecord(record, whole))
  }

  const append = (parts: Record.Parts) =>
    Effect.uninterruptible(Effect.suspend(() => {
      if (state.failed !== undefined) return Effect.fail(state.failed)
      const problem = gap(state.segment.path, state.lastIndex, parts)
      if (problem !== undefined) return fail(problem)
      const record = Record.make(parts)
      const fits = record !== undefined && state.position + record.bytes <= state.segment.header.sizeBytes
      return fits ? writeRecord(record, parts) : appendRotated(parts)
    }))

  const barrier = Effect.suspend(() => state.failed === undefined ? Effect.void : Effect.fail(state.failed))

  return { append, barrier, close: Effect.suspend(() => close(options, state, append)) }
}

/** The mark of a clean stop, where there is room for it: a record without parts. */
const stopMark: Record.Parts = { hardState: undefined, configuration: undefined, entries: [] }

const close = Effect.fnUntraced(function*(options: Options, state: State, append: Writer["append"]) {
  const room = state.segment.header.sizeBytes - state.position - (Record.make(stopMark)?.bytes ?? 0)
  if (state.failed === undefined && room >= 0) {
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
