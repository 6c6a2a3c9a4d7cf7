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

type Task =
  | { readonly _tag: "Apply"; readonly from: LogIndex; readonly to: LogIndex }
  | { readonly _tag: "Serve"; readonly requestIds: ReadonlyArray<RequestId>; readonly index: LogIndex }

/** Entries per call of `StateMachine.apply`: enough to amortise the call, few enough to let other work through between two. */
const batchEntriesMax = 1024

export interface Applier {
  readonly apply: (range: { readonly from: LogIndex; readonly to: LogIndex }) => void
  /** Answers the reads once `index` is applied. */
  readonly serve: (requestIds: ReadonlyArray<RequestId>, index: LogIndex) => void
  readonly run: Effect.Effect<never>
}

export const make = Effect.fnUntraced(function*(options: {
  readonly stateMachine: StateMachine["Service"]
  readonly requests: Requests
  readonly log: () => Log.Log
  readonly onApplied: (index: LogIndex) => void
}) {
  const { requests, stateMachine } = options
  const tasks = yield* Queue.unbounded<Task>()
  let lastApplied: LogIndex = 0
  let waitingReads: Array<Extract<Task, { _tag: "Serve" }>> = []

  const applyBatch = Effect.fnUntraced(function*(from: LogIndex, to: LogIndex) {
    const entries = Log.slice(options.log(), { from, to })
    const commands: Array<Committed> = []
    for (const { index, payload, term } of entries) {
      if (payload._tag === "Command") commands.push({ index, term, command: payload.bytes })
    }
    const results = commands.length === 0 ? [] : yield* stateMachine.apply(commands)
    let next = 0
    for (const entry of entries) requests.applied(entry, entry.payload._tag === "Command" ? results[next++] : undefined)
    lastApplied = to
  })

  const serveReads = Effect.fnUntraced(function*() {
    const ready = waitingReads.filter((read) => read.index <= lastApplied)
    waitingReads = waitingReads.filter((read) => read.index > lastApplied)
    for (const id of ready.flatMap((read) => read.requestIds)) {
      const query = requests.queryOf(id)
      if (query !== undefined) requests.answer(id, yield* stateMachine.query(query))
    }
  })

  const round = Effect.fnUntraced(function*() {
    for (const task of yield* Queue.takeAll(tasks)) {
      if (task._tag === "Serve") {
        waitingReads.push(task)
        continue
      }
      for (let from = task.from; from <= task.to; from += batchEntriesMax) {
        yield* applyBatch(from, Math.min(task.to, from + batchEntriesMax - 1))
        options.onApplied(lastApplied)
        // A node that starts again has its whole log to apply, and a leader to answer meanwhile.
        if (lastApplied < task.to) yield* Effect.yieldNow
      }
    }
    yield* serveReads()
  })

  const applier: Applier = {
    apply: ({ from, to }) => Queue.offerUnsafe(tasks, { _tag: "Apply", from, to }),
    serve: (requestIds, index) => Queue.offerUnsafe(tasks, { _tag: "Serve", requestIds, index }),
    run: Effect.forever(round(), { disableYield: true })
  }
  return applier
})
