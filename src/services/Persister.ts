/**
 * The persist loop: writes in order, everything that waits as one group, and after each group what its writers waited for. Turns go on
 * while the disk works, so a group is what came during the last sync.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { type Command, isEmptyWrite, mergeWrites, type Write } from "../domain/Command.ts"
import { sizeBytes } from "../domain/Entry.ts"
import type { Storage, StorageError } from "./Storage.ts"

/** What may happen only once a write, and all earlier ones, are durable. */
export type Released = Extract<Command, { readonly _tag: "Send" | "Apply" | "Restore" }>

interface Job {
  readonly write: Write
  readonly then: ReadonlyArray<Released>
}

export interface Persister {
  /** Hands a write over. An empty one is a barrier: where nothing is under way it is released at once. */
  readonly submit: (write: Write, then: ReadonlyArray<Released>) => Effect.Effect<void>
  /** Whether the disk has yet to finish something. */
  readonly isBusy: () => boolean
  readonly run: Effect.Effect<never, StorageError>
}

/** About the most bytes of one group: what a disk that was slow for long finds waiting is written in pieces. */
const groupBytesMax = 32 << 20

/** The jobs in order, cut where a group would become larger, and before each installed snapshot: a write holds one, before its entries. */
const groupsOf = (jobs: ReadonlyArray<Job>): ReadonlyArray<ReadonlyArray<Job>> => {
  const groups: Array<Array<Job>> = []
  let bytes = Infinity
  for (const job of jobs) {
    const size = job.write.entries.reduce((sum, entry) => sum + sizeBytes(entry), 0)
    if (bytes + size > groupBytesMax || job.write.install !== undefined) {
      groups.push([])
      bytes = 0
    }
    groups[groups.length - 1]?.push(job)
    bytes += size
  }
  return groups
}

export const make = Effect.fnUntraced(function*(
  storage: Storage["Service"],
  release: (command: Released) => Effect.Effect<void>,
  onIdle: () => void
) {
  const jobs = yield* Queue.unbounded<Job>()
  let outstanding = 0

  const releaseAll = Effect.fnUntraced(function*(then: ReadonlyArray<Released>) {
    for (const command of then) yield* release(command)
  })

  const submit: Persister["submit"] = (write, then) =>
    Effect.suspend(() => {
      if (outstanding === 0 && isEmptyWrite(write)) return releaseAll(then)
      outstanding++
      Queue.offerUnsafe(jobs, { write, then })
      return Effect.void
    })

  const groups = Effect.fnUntraced(function*() {
    for (const group of groupsOf(yield* Queue.takeAll(jobs))) {
      const write = mergeWrites(group.map((job) => job.write))
      if (!isEmptyWrite(write)) yield* storage.persist(write)
      for (const job of group) yield* releaseAll(job.then)
      // Only now may a barrier pass at once: what it would overtake has left.
      outstanding -= group.length
    }
    if (outstanding === 0) onIdle()
  })

  const persister: Persister = {
    submit,
    isBusy: () => outstanding > 0,
    run: Effect.forever(groups(), { disableYield: true })
  }
  return persister
})
