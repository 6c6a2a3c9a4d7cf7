/**
 * The apply loop: committed entries to the state machine, in order, each once; then the answers to whoever waits for them, and the reads
 * that may now be served.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { LogIndex } from "../domain/Entry.ts"
import type { RequestId } from "../domain/Event.ts"
import * as Log from "../domain/Log.ts"
import type { Requests } from "./Requests.ts"
import type { Committed, StateMachine } from "./StateMachine.ts"

interface Read {
  readonly _tag: "Read"
  readonly requestIds: ReadonlyArray<RequestId>
  readonly index: LogIndex
}

type Task = { readonly _tag: "Apply"; readonly to: LogIndex } | Read

/** Work between two yields: enough to amortise the calls, little enough that no heartbeat is late for it. */
const batch = { entriesMax: 1024, bytesMax: 1 << 20 }

export interface Applier {
  /** Applies everything up to `to`. */
  readonly apply: (to: LogIndex) => void
  /** Answers the reads once `index` is applied. */
  readonly serve: (requestIds: ReadonlyArray<RequestId>, index: LogIndex) => void
  readonly run: Effect.Effect<never>
}

interface Parts {
  readonly stateMachine: StateMachine["Service"]
  readonly requests: Requests
  readonly log: () => Log.Log
  readonly onApplied: (index: LogIndex) => void
}

/** Applies some of the entries `from`..`to`, and gives the index of the last one. */
const applyBatch = Effect.fnUntraced(function*(parts: Parts, from: LogIndex, to: LogIndex) {
  const { requests, stateMachine } = parts
  const entriesMax = Math.min(batch.entriesMax, to - from + 1)
  const entries = Log.entriesFrom(parts.log(), from, { entriesMax, bytesMax: batch.bytesMax })
  if (entries.length === 0) {
    return yield* Effect.die(new Error(`the log does not hold entry ${from}, which is committed`))
  }
  const commands: Array<Committed> = []
  for (const { index, payload, term } of entries) {
    if (payload._tag === "Command") commands.push({ index, term, command: payload.bytes })
  }
  const results = commands.length === 0 ? [] : yield* stateMachine.apply(commands)
  if (results.length !== commands.length) {
    const problem = `StateMachine.apply gave ${results.length} results for ${commands.length} commands`
    return yield* Effect.die(new Error(problem))
  }
  let next = 0
  for (const entry of entries) requests.applied(entry, entry.payload._tag === "Command" ? results[next++] : undefined)
  return from + entries.length - 1
})

const answerReads = Effect.fnUntraced(function*(parts: Parts, requestIds: ReadonlyArray<RequestId>) {
  let bytes = 0
  for (const id of requestIds) {
    const query = parts.requests.queryOf(id)
    if (query === undefined) continue
    // A query changes nothing, so one that dies is its caller's loss and nobody else's.
    const answer = yield* Effect.exit(Effect.suspend(() => parts.stateMachine.query(query)))
    parts.requests.answer(id, answer)
    bytes += answer._tag === "Success" ? answer.value.length : 0
    if (bytes < batch.bytesMax) continue
    bytes = 0
    yield* Effect.yieldNow
  }
})

export const make = Effect.fnUntraced(function*(parts: Parts) {
  const tasks = yield* Queue.unbounded<Task>()
  let lastApplied: LogIndex = 0
  let waitingReads: Array<Read> = []

  const applyUpTo = Effect.fnUntraced(function*(to: LogIndex) {
    while (lastApplied < to) {
      lastApplied = yield* applyBatch(parts, lastApplied + 1, to)
      parts.onApplied(lastApplied)
      // A node that starts again has its whole log to apply, and a leader to answer meanwhile.
      if (lastApplied < to) yield* Effect.yieldNow
    }
  })

  /** A disk that stalls holds entries back longer than anybody waits for them. */
  const isAwaited = (id: RequestId): boolean => parts.requests.queryOf(id) !== undefined

  const round = Effect.fnUntraced(function*() {
    for (const task of yield* Queue.takeAll(tasks)) {
      if (task._tag === "Read") waitingReads.push(task)
      else yield* applyUpTo(task.to)
    }
    const ready = waitingReads.filter((read) => read.index <= lastApplied)
    waitingReads = waitingReads.filter((read) => read.index > lastApplied && read.requestIds.some(isAwaited))
    yield* answerReads(parts, ready.flatMap((read) => read.requestIds))
  })

  const applier: Applier = {
    apply: (to) => Queue.offerUnsafe(tasks, { _tag: "Apply", to }),
    serve: (requestIds, index) => Queue.offerUnsafe(tasks, { _tag: "Read", requestIds, index }),
    run: Effect.forever(round(), { disableYield: true })
  }
  return applier
})
