/**
 * The compact loop: snapshots of the state machine, taken while everything else goes on, and what they let the disk give up.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Command } from "../domain/Command.ts"
import type { Event } from "../domain/Event.ts"
import { configurationAt, type NodeState } from "../domain/NodeState.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import type { Applier } from "./Applier.ts"
import type { Storage, StorageError } from "./Storage.ts"

type Job =
  | Extract<Command, { readonly _tag: "TakeSnapshot" | "Compact" | "DiscardSnapshot" }>
  | { readonly _tag: "Take"; readonly taken: Deferred.Deferred<Snapshot> }
  | { readonly _tag: "Renew"; readonly taken: Deferred.Deferred<Snapshot> }

export interface Compactor {
  readonly offer: (job: Job) => void
  /** Takes a snapshot of what is applied by then, unless the latest one stands for all of that; gives the latest. */
  readonly take: Effect.Effect<Snapshot>
  /** Takes one even where the latest stands for all that is applied: it is damaged. */
  readonly renew: Effect.Effect<Snapshot>
  readonly run: Effect.Effect<never, StorageError>
}

export const make = Effect.fnUntraced(function*(parts: {
  readonly storage: Storage["Service"]
  readonly applier: Pick<Applier, "capture">
  readonly state: () => NodeState
  readonly offer: (event: Event) => void
}) {
  const { applier, offer, state, storage } = parts
  const jobs = yield* Queue.unbounded<Job>()
  /** Asked for and not begun: whoever asks meanwhile gets the same one. */
  let wanted: Deferred.Deferred<Snapshot> | undefined

  const take = Effect.fnUntraced(function*(isDamaged: boolean) {
    const { content, last } = yield* applier.capture
    const { id, snapshot } = state()
    if (last.index < snapshot.last.index || (last.index === snapshot.last.index && !isDamaged)) {
      offer({ _tag: "SnapshotTaken", snapshot })
      return snapshot
    }
    const taken = yield* storage.saveSnapshot({ last, configuration: configurationAt(state(), last.index) }, content)
    offer({ _tag: "SnapshotTaken", snapshot: taken })
    yield* Effect.annotateLogs(Effect.logInfo("took a snapshot"), {
      node: id,
      index: taken.last.index,
      bytes: taken.sizeBytes
    })
    return taken
  })

  const perform = (job: Job): Effect.Effect<unknown, StorageError> => {
    switch (job._tag) {
      case "TakeSnapshot":
        return take(false)
      case "Take":
        wanted = undefined
        return Effect.flatMap(take(false), (snapshot) => Deferred.succeed(job.taken, snapshot))
      case "Renew":
        return Effect.flatMap(take(true), (snapshot) => Deferred.succeed(job.taken, snapshot))
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
      const taken = Deferred.makeUnsafe<Snapshot>()
      wanted = taken
      Queue.offerUnsafe(jobs, { _tag: "Take", taken })
      return Deferred.await(taken)
    }),
    renew: Effect.suspend(() => {
      const taken = Deferred.makeUnsafe<Snapshot>()
      Queue.offerUnsafe(jobs, { _tag: "Renew", taken })
      return Deferred.await(taken)
    }),
    run: Effect.forever(Effect.flatMap(Queue.take(jobs), perform), { disableYield: true })
  }
  return compactor
})
