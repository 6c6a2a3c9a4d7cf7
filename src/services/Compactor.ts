/**
 * The compact loop: snapshots of the state machine, taken while everything else goes on, and what they let the disk give up.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { Command } from "../domain/Command.ts"
import type { Event } from "../domain/Event.ts"
import { configurationAt, type NodeState } from "../domain/NodeState.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import type { Applier } from "./Applier.ts"
import { SnapshotFailed } from "./RaftErrors.ts"
import type { Storage, StorageError } from "./Storage.ts"

type Waiting = Deferred.Deferred<Snapshot, SnapshotFailed>

/** How long to wait before a full disk is tried again. */
const fullPauseMs = 5000

type Job =
  | Extract<Command, { readonly _tag: "TakeSnapshot" | "Compact" | "DiscardSnapshot" }>
  | { readonly _tag: "Take"; readonly taken: Waiting }
  | { readonly _tag: "Renew"; readonly taken: Waiting }

export interface Compactor {
  readonly offer: (job: Job) => void
  /** Takes a snapshot of what is applied by then, unless the latest one stands for all of that; gives the latest. */
  readonly take: Effect.Effect<Snapshot, SnapshotFailed>
  /** Takes one even where the latest stands for all that is applied: it is damaged. */
  readonly renew: Effect.Effect<Snapshot, SnapshotFailed>
  readonly run: Effect.Effect<never, StorageError>
}

interface Parts {
  readonly storage: Storage["Service"]
  readonly applier: Pick<Applier, "capture" | "lastApplied">
  readonly state: () => NodeState
  readonly offer: (event: Event) => void
}

/** A disk without room for a snapshot may have enough for the log: the node goes on, and tries again with what is applied next. */
const unlessFull = ({ offer, state }: Parts) => (error: StorageError): Effect.Effect<void, StorageError> => {
  if (error.reason !== "DiskFull") return Effect.fail(error)
  const line = Effect.annotateLogs(Effect.logError("no room for a snapshot: the log grows until there is"), {
    node: state().id,
    problem: error.message
  })
  return Effect.andThen(line, Effect.sleep(fullPauseMs)).pipe(
    Effect.ensuring(Effect.sync(() => offer({ _tag: "SnapshotFailed" })))
  )
}

/**
 * The state, and the configuration that was in force there; `undefined` where nobody knows that any more: a leader's snapshot, which stands for more,
 * has taken the log's place meanwhile. Then the content is read to its end, as whoever captures it relies on.
 */
const capture = Effect.fnUntraced(function*({ applier, state }: Parts) {
  const { content, last } = yield* applier.capture
  if (last.index >= state().log.prev.index) {
    return { content, last, configuration: configurationAt(state(), last.index) }
  }
  yield* Stream.runDrain(content)
  return undefined
})

/** Whoever waits hears what came of it. */
const answer = (
  parts: Parts,
  waiting: Waiting,
  taking: Effect.Effect<Snapshot, StorageError>
): Effect.Effect<unknown, StorageError> =>
  taking.pipe(
    Effect.tap((snapshot) => Deferred.succeed(waiting, snapshot)),
    Effect.catch((error) =>
      Effect.andThen(Deferred.fail(waiting, new SnapshotFailed({ message: error.message })), unlessFull(parts)(error))
    )
  )

export const make = Effect.fnUntraced(function*(parts: Parts) {
  const { applier, offer, state, storage } = parts
  const jobs = yield* Queue.unbounded<Job>()
  /** Asked for and not begun: whoever asks meanwhile gets the same one. */
  let wanted: Waiting | undefined
  /** The latest that was taken here, which the core may not have heard of. */
  let taken = state().snapshot

  const take = Effect.fnUntraced(function*(isDamaged: boolean) {
    const { id, snapshot } = state()
    const latest = snapshot.last.index < taken.last.index ? taken : snapshot
    // Before anything is captured: a view that nobody reads would stay open.
    const isNew = isDamaged || applier.lastApplied() > latest.last.index
    if (!isNew || applier.lastApplied() === 0) {
      offer({ _tag: "SnapshotFailed" })
      return latest
    }
    const captured = yield* capture(parts)
    if (captured === undefined) {
      offer({ _tag: "SnapshotFailed" })
      return state().snapshot
    }
    const { configuration, content, last } = captured
    taken = yield* storage.saveSnapshot({ last, configuration }, content)
    offer({ _tag: "SnapshotTaken", snapshot: taken })
    const fields = { node: id, index: taken.last.index, bytes: taken.sizeBytes }
    yield* Effect.annotateLogs(Effect.logInfo("took a snapshot"), fields)
    return taken
  })

  const perform = (job: Job): Effect.Effect<unknown, StorageError> => {
    switch (job._tag) {
      case "TakeSnapshot":
        return Effect.catch(take(false), unlessFull(parts))
      case "Take":
        wanted = undefined
        return answer(parts, job.taken, take(false))
      case "Renew":
        return answer(parts, job.taken, take(true))
      case "Compact":
        return storage.compact(job.start)
      case "DiscardSnapshot":
        return storage.discardSnapshot(job.last)
    }
  }

  const compactor: Compactor = {
    offer: (job) => void Queue.offerUnsafe(jobs, job),
    take: Effect.suspend(() => {
      if (wanted !== undefined) return Deferred.await(wanted)
      const waiting = Deferred.makeUnsafe<Snapshot, SnapshotFailed>()
      wanted = waiting
      Queue.offerUnsafe(jobs, { _tag: "Take", taken: waiting })
      return Deferred.await(waiting)
    }),
    renew: Effect.suspend(() => {
      const waiting: Waiting = Deferred.makeUnsafe()
      Queue.offerUnsafe(jobs, { _tag: "Renew", taken: waiting })
      return Deferred.await(waiting)
    }),
    run: Effect.forever(Effect.flatMap(Queue.take(jobs), perform), { disableYield: true })
  }
  return compactor
})
