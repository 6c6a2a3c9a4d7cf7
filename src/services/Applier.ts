/**
 * The apply loop, the only one that touches the state machine: committed entries in order, each once; then the answers to whoever waits for
 * them, and the reads that may now be served; and between entries, snapshots of the state and received ones in its place.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Stream from "effect/Stream"
import type { Entry, EntryId, LogIndex } from "../domain/Entry.ts"
import type { RequestId } from "../domain/Event.ts"
import * as Log from "../domain/Log.ts"
import { type Admitted, type Answer, Sessions, trimEvery } from "../domain/Session.ts"
import type { Outcome, Requests } from "./Requests.ts"
import * as SessionContent from "./SessionContent.ts"
import type { Committed, StateMachine } from "./StateMachine.ts"
import type { Storage, StorageError } from "./Storage.ts"

interface Read {
  readonly _tag: "Read"
  readonly requestIds: ReadonlyArray<RequestId>
  readonly index: LogIndex
}

/** A copy of the state as it was when `last` had been applied. */
export interface Captured {
  readonly last: EntryId
  readonly content: Stream.Stream<Uint8Array>
}

type Task =
  | { readonly _tag: "Apply"; readonly to: LogIndex }
  | { readonly _tag: "Restore"; readonly last: EntryId }
  | { readonly _tag: "Capture"; readonly captured: Deferred.Deferred<Captured> }
  | Read

/** Work between two yields: enough to amortise the calls, little enough that no heartbeat is late for it. */
const batchBytesMax = 1 << 20

export interface Applier {
  /** Applies everything up to `to`. */
  readonly apply: (to: LogIndex) => void
  /** Puts the latest snapshot, which ends at `last`, in the place of the state. */
  readonly restore: (last: EntryId) => void
  /** Answers the reads once `index` is applied. */
  readonly serve: (requestIds: ReadonlyArray<RequestId>, index: LogIndex) => void
  readonly capture: Effect.Effect<Captured>
  readonly lastApplied: () => LogIndex
  readonly run: Effect.Effect<never, StorageError>
}

interface Parts {
  readonly stateMachine: StateMachine["Service"]
  readonly requests: Requests
  readonly log: () => Log.Log
  readonly openSnapshot: Storage["Service"]["openSnapshot"]
  readonly sessions: () => Sessions
  readonly onApplied: (index: LogIndex, logTimeMs: number) => void
}

/** What an entry of a batch comes to: the result of the command at a position, what its session says, or nothing for anybody. */
type Result = number | Admitted | undefined

/** Which commands of a batch are executed, and what each of its entries comes to. A retry is not executed again (rule R4). */
class Batch {
  readonly commands: Array<Committed> = []
  readonly #sessions: Sessions
  readonly #results: Array<Result> = []
  readonly #answers: Array<{ readonly position: number; readonly answer: Answer }> = []
  #executed: ReadonlyArray<Uint8Array> = []

  constructor(sessions: Sessions) {
    this.#sessions = sessions
  }

  add(entry: Entry): void {
    this.#results.push(this.#admit(entry))
  }

  #admit(entry: Entry): Result {
    const { payload } = entry
    switch (payload._tag) {
      case "Command":
        return this.#execute(entry, payload.bytes)
      case "SessionCommand": {
        const admitted = this.#sessions.admit(payload.sequenced, payload.timeMs)
        if (admitted._tag === "Execute") {
          this.#answers.push({ position: this.#execute(entry, payload.bytes), answer: admitted.answer })
        }
        return admitted
      }
      case "OpenSession":
        this.#sessions.open(entry.index, payload)
        return undefined
      case "Noop":
      case "Configuration":
        return undefined
      default:
        return payload satisfies never
    }
  }

  #execute({ index, term }: Entry, command: Uint8Array): number {
    return this.commands.push({ index, term, command }) - 1
  }

  /** The state machine has executed `commands`. What is kept is a copy: a result may be a view on something large. */
  executed(results: ReadonlyArray<Uint8Array>): void {
    this.#executed = results
    for (const { answer, position } of this.#answers) {
      this.#sessions.keep(answer, new Uint8Array(results[position] ?? noBytes))
    }
  }

  /** Of the entry that was added as number `i`. */
  outcome(i: number): Outcome {
    const result = this.#results[i]
    if (result === undefined) return undefined
    if (typeof result === "number") return this.#executed[result]
    return result._tag === "Expired" ? "SessionExpired" : result.answer.result
  }
}

/** Applies some of the entries after `last`, up to `to`, and gives the last one; `undefined` where a snapshot has taken their place. */
const applyBatch = Effect.fnUntraced(function*(parts: Parts, last: EntryId, to: LogIndex) {
  const { requests, stateMachine } = parts
  const from = last.index + 1
  const sessions = parts.sessions()
  const entriesMax = Math.min(to - last.index, trimEvery - last.index % trimEvery)
  const log = parts.log()
  // An install has replaced the log; its `Restore` is in line behind this task.
  if (from <= log.prev.index) return undefined
  const entries = Log.entriesFrom(log, from, { entriesMax, bytesMax: batchBytesMax })
  const end = entries[entries.length - 1]
  if (end === undefined) return yield* Effect.die(new Error(`the log does not hold entry ${from}, which is committed`))
  const some = new Batch(sessions)
  for (const entry of entries) some.add(entry)
  const { commands } = some
  const results = commands.length === 0 ? [] : yield* stateMachine.apply(commands)
  if (results.length !== commands.length) {
    const problem = `StateMachine.apply gave ${results.length} results for ${commands.length} commands`
    return yield* Effect.die(new Error(problem))
  }
  some.executed(results)
  if (end.index % trimEvery === 0) sessions.trim()
  for (const [i, entry] of entries.entries()) requests.applied(entry, some.outcome(i))
  return { term: end.term, index: end.index }
})

const answerReads = Effect.fnUntraced(function*(parts: Parts, requestIds: ReadonlyArray<RequestId>, index: LogIndex) {
  let bytes = 0
  for (const id of requestIds) {
    const query = parts.requests.queryOf(id)
    if (query === undefined) continue
    // A query changes nothing, so one that dies is its caller's loss and nobody else's.
    const answer = yield* Effect.exit(Effect.suspend(() => parts.stateMachine.query(query)))
    parts.requests.answer(id, answer, index)
    bytes += answer._tag === "Success" ? answer.value.length : 0
    if (bytes < batchBytesMax) continue
    bytes = 0
    yield* Effect.yieldNow
  }
})

/**
 * Reads that must see more than is applied. Many may wait for what is far off, so they are looked at only when one of them is due, or when
 * they have doubled: a disk that stalls holds entries back longer than anybody waits for them.
 */
class WaitingReads {
  #reads: Array<Read> = []
  #lowest: LogIndex = Infinity
  #lookAgainAt = 100
  readonly #isAwaited: (id: RequestId) => boolean

  constructor(isAwaited: (id: RequestId) => boolean) {
    this.#isAwaited = isAwaited
  }

  add(read: Read): void {
    this.#reads.push(read)
    this.#lowest = Math.min(this.#lowest, read.index)
  }

  /** Those that `lastApplied` is enough for. */
  takeReady(lastApplied: LogIndex): ReadonlyArray<RequestId> {
    if (this.#lowest > lastApplied && this.#reads.length < this.#lookAgainAt) return []
    const ready = this.#reads.filter((read) => read.index <= lastApplied)
    this.#reads = this.#reads.filter((read) => read.index > lastApplied && read.requestIds.some(this.#isAwaited))
    this.#lowest = this.#reads.reduce((lowest, read) => Math.min(lowest, read.index), Infinity)
    this.#lookAgainAt = 2 * this.#reads.length + 100
    return ready.flatMap((read) => read.requestIds)
  }
}

export interface Restored {
  readonly last: EntryId
  readonly sessions: Sessions
}

/** Puts the latest snapshot in the place of the state. */
export const restoreLatest = (
  parts: Pick<Parts, "stateMachine" | "openSnapshot">
): Effect.Effect<Restored, StorageError> =>
  Effect.scoped(Effect.gen(function*() {
    const reader = yield* parts.openSnapshot
    if (reader === undefined) return yield* Effect.die(new Error("the snapshot to restore is not there"))
    const saved = yield* SessionContent.read(reader.content, parts.stateMachine.restore)
    return { last: reader.snapshot.last, sessions: new Sessions(saved) }
  }))

export const make = Effect.fnUntraced(function*(given: Omit<Parts, "sessions"> & { readonly restored: Restored }) {
  const tasks = yield* Queue.unbounded<Task>()
  let { last, sessions } = given.restored
  const parts: Parts = { ...given, sessions: () => sessions }
  const waiting = new WaitingReads((id) => parts.requests.queryOf(id) !== undefined)

  const applyUpTo = Effect.fnUntraced(function*(to: LogIndex) {
    while (last.index < to) {
      const applied = yield* applyBatch(parts, last, to)
      if (applied === undefined) return
      last = applied
      parts.onApplied(last.index, sessions.timeMs)
      // A node that starts again has its whole log to apply, and a leader to answer meanwhile.
      if (last.index < to) yield* Effect.yieldNow
    }
  })

  const restore = Effect.fnUntraced(function*(to: EntryId) {
    // The latest snapshot may be later than the one that was asked for, whose place it took: then this is done for both.
    if (to.index <= last.index) return
    const restored = yield* restoreLatest(parts)
    last = restored.last
    sessions = restored.sessions
    parts.requests.restored(last.index)
    parts.onApplied(last.index, sessions.timeMs)
  })

  const capture = Effect.fnUntraced(function*(captured: Deferred.Deferred<Captured>) {
    const content = SessionContent.write(sessions.capture(), yield* parts.stateMachine.snapshot)
    Deferred.doneUnsafe(captured, Effect.succeed({ last, content }))
  })

  const perform = (task: Exclude<Task, Read>): Effect.Effect<void, StorageError> => {
    switch (task._tag) {
      case "Apply":
        return applyUpTo(task.to)
      case "Restore":
        return restore(task.last)
      case "Capture":
        return capture(task.captured)
    }
  }

  const round = Effect.fnUntraced(function*() {
    for (const task of yield* Queue.takeAll(tasks)) {
      if (task._tag === "Read") waiting.add(task)
      else yield* perform(task)
    }
    const requestIds = waiting.takeReady(last.index)
    if (requestIds.length > 0) yield* answerReads(parts, requestIds, last.index)
  })

  const applier: Applier = {
    apply: (to) => Queue.offerUnsafe(tasks, { _tag: "Apply", to }),
    restore: (to) => Queue.offerUnsafe(tasks, { _tag: "Restore", last: to }),
    serve: (requestIds, index) => Queue.offerUnsafe(tasks, { _tag: "Read", requestIds, index }),
    lastApplied: () => last.index,
    capture: Effect.suspend(() => {
      const captured = Deferred.makeUnsafe<Captured>()
      Queue.offerUnsafe(tasks, { _tag: "Capture", captured })
      return Deferred.await(captured)
    }),
    run: Effect.forever(round(), { disableYield: true })
  }
  return applier
})

const noBytes = new Uint8Array(0)
