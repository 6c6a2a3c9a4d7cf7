/**
 * Which disk each server of the cluster has, and whether this server's own may take part.
 *
 * A server's promises, its votes and acknowledgements, are on its disk. One that comes back under its name with another disk does not know what it
 * promised, and could help to elect a leader that lacks what it once acknowledged. So each server remembers, durably and before any message of it
 * counts, which disk it first met under the name of each member, and talks to no other (`docs/decisions/0007-lost-disks.md`).
 *
 * Only members are remembered: nothing that anybody else says is counted. Who leaves the configuration for good is forgotten, and may be added again.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { isNodeId, type NodeId } from "../../domain/NodeId.ts"
import { type DiskId, isDiskId, type KnownDisks, type Storage, type StorageError } from "../../services/Storage.ts"

/** A server has another disk than the one it was known with. `message` says what that means and what to do. */
export class OtherDisk extends Data.TaggedError("OtherDisk")<{ readonly message: string }> {}

/** Why `id` is not talked to, where `by` has met it with another disk. */
export const lost = (id: NodeId, by: NodeId): string =>
  `${by} knows ${id} with another disk: that one was lost, replaced or emptied. ${id} may have promised what it no longer knows, so it may not ` +
  `come back under the same id. Run titan member replace ${id} NEW=URL, with a new server under a new id`

/** More servers than any cluster has. */
const toldMax = 1024

/** What another server says about disks, as far as it makes sense. */
export const told = (disks: ReadonlyArray<readonly [NodeId, DiskId]> = []): ReadonlyMap<NodeId, DiskId> =>
  new Map(disks.slice(0, toldMax).filter(([id, diskId]) => isNodeId(id) && isDiskId(diskId)))

export class Disks {
  readonly #id: NodeId
  readonly #isMember: (id: NodeId) => boolean
  readonly #rememberDisks: Storage["Service"]["rememberDisks"]
  readonly #writing = Semaphore.makeUnsafe(1)
  #known: KnownDisks

  constructor(id: NodeId, storage: Storage["Service"], isMember: (id: NodeId) => boolean) {
    this.#id = id
    this.#isMember = isMember
    this.#rememberDisks = storage.rememberDisks
    this.#known = storage.knownDisks
  }

  get isAdmitted(): boolean {
    return this.#known.isAdmitted
  }

  get known(): ReadonlyMap<NodeId, DiskId> {
    return this.#known.disks
  }

  /** Whether a message of `id` on this disk may count as it is. */
  isSettled(id: NodeId, diskId: DiskId): boolean {
    return this.known.get(id) === diskId || !this.#isMember(id)
  }

  /**
   * Ends once it is remembered that `id` has this disk, if it is a member, and what it says of other members that are not known yet. Fails
   * where `id` is known with another one.
   */
  meet(
    id: NodeId,
    diskId: DiskId,
    others: ReadonlyMap<NodeId, DiskId> = new Map()
  ): Effect.Effect<void, OtherDisk | StorageError> {
    return this.#oneByOne((): Effect.Effect<void, OtherDisk | StorageError> => {
      const before = this.known.get(id)
      if (before !== undefined && before !== diskId && this.#isMember(id)) {
        return Effect.fail(new OtherDisk({ message: lost(id, this.#id) }))
      }
      const disks = new Map(this.known)
      for (const [one, its] of [[id, diskId] as const, ...others]) {
        if (one !== this.#id && this.#isMember(one) && !disks.has(one)) disks.set(one, its)
      }
      return disks.size === this.known.size ? Effect.void : this.#remember({ ...this.#known, disks })
    })
  }

  /** Ends once it is remembered that this server's disk takes part. */
  readonly admit: Effect.Effect<void, StorageError> = Effect.suspend(() =>
    this.#oneByOne(() => this.isAdmitted ? Effect.void : this.#remember({ ...this.#known, isAdmitted: true }))
  )

  /** Forgets who is not to be `kept`. What could not be written down is known again after a start, unless the name is gone for good by then. */
  forget(isKept: (id: NodeId) => boolean): Effect.Effect<void, StorageError> {
    return this.#oneByOne(() => {
      const disks = new Map([...this.known].filter(([id]) => isKept(id)))
      if (disks.size === this.known.size) return Effect.void
      this.#known = { ...this.#known, disks }
      return this.#remember(this.#known)
    })
  }

  #oneByOne<A, E>(change: () => Effect.Effect<A, E>): Effect.Effect<A, E> {
    return this.#writing.withPermit(Effect.suspend(change))
  }

  /** It is known here once it is durable. Who is interrupted in between has let nobody in. */
  #remember(next: KnownDisks): Effect.Effect<void, StorageError> {
    return Effect.andThen(this.#rememberDisks(next), Effect.sync(() => void (this.#known = next)))
  }
}
