/**
 * What a server knows of the others and lets them know of itself when it calls or is called: where they are (`Addresses.ts`), which disk they
 * have (`Disks.ts`), and whether its own may take part (`Admission.ts`).
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Configuration from "../../domain/Configuration.ts"
import type { NodeId } from "../../domain/NodeId.ts"
import { type DiskId, type Identity, isDiskId, Storage, type StorageError } from "../../services/Storage.ts"
import * as PeerRpc from "../PeerRpc.ts"
import { Addresses } from "./Addresses.ts"
import { Admission } from "./Admission.ts"
import { Disks, lost, OtherDisk, told } from "./Disks.ts"

export interface Acquaintance {
  readonly id: NodeId
  readonly clusterId: string
  readonly addresses: Addresses
  /** Whether messages may be sent and delivered. */
  readonly isAdmitted: () => boolean
  /** What this server says when it calls `to`. */
  readonly helloTo: (to: NodeId) => PeerRpc.Greeting
  /** `peer` was called, and let this server in: ends once it may be sent to. */
  readonly onWelcome: (peer: NodeId, welcome: PeerRpc.Welcome) => Effect.Effect<void, PeerRpc.Refused>
  /** `peer` was called in vain. */
  readonly onFailure: (peer: NodeId, refusal: PeerRpc.Refused | undefined) => Effect.Effect<unknown>
  readonly greet: PeerRpc.PeerInbox["Service"]["greet"]
  readonly beforeHearing: PeerRpc.PeerInbox["Service"]["beforeHearing"]
  /** Returns at once; what is to be written down for it comes later. */
  readonly reconfigure: (
    next: Configuration.Configuration,
    committed: Configuration.Configuration
  ) => Effect.Effect<void>
  readonly diskRefused: PeerRpc.PeerInbox["Service"]["diskRefused"]
}

const refuse = (reason: PeerRpc.Refused["reason"], message: string) => new PeerRpc.Refused({ reason, message })

/** What could not be written down when this server was let in is tried again this much later. */
const retryMs = 1000

interface Options {
  readonly id: NodeId
  readonly urls: ReadonlyMap<NodeId, string>
  /** Called when this server takes part at last. */
  readonly onAdmitted: () => void
}

interface Known extends Options {
  readonly identity: Identity
  readonly addresses: Addresses
  readonly disks: Disks
  /** What it says of others: of members alone, since the name of one that was removed may be another server's by now. */
  readonly told: () => ReadonlyArray<readonly [NodeId, DiskId]>
  readonly admission: Admission
  readonly scope: Scope.Scope
  readonly refused: Deferred.Deferred<never, PeerRpc.DiskRefused>
}

const warn = ({ id }: Known, text: string, { message }: StorageError) =>
  Effect.annotateLogs(Effect.logWarning(text), { node: id, problem: message })

/** Takes part once that is written down, however long that takes. */
const admit = (known: Known): Effect.Effect<unknown> =>
  known.disks.admit.pipe(
    Effect.tapError((error) =>
      warn(known, "this server cannot write down that its disk takes part, and tries again", error)
    ),
    Effect.retry(Schedule.spaced(retryMs)),
    Effect.ignore,
    Effect.andThen(Effect.sync(() => {
      known.admission.open()
      known.onAdmitted()
    })),
    Effect.forkIn(known.scope)
  )

const onCalled = (known: Known, peer: NodeId, isLetIn: boolean): Effect.Effect<unknown> =>
  Effect.suspend(() => {
    known.admission.called(peer, isLetIn)
    return known.admission.isDue((one) => known.addresses.of(one) !== undefined) ? admit(known) : Effect.void
  })

/** Whether it counts what `peer` says of disks. One that was removed knows what was true then. */
const isHeeded = ({ addresses }: Known, peer: NodeId): boolean =>
  Configuration.isUnknown(addresses.configuration) || addresses.isMember(peer)

/** `peer` knows another disk of this server. */
const onOwnDiskRefused = (known: Known, peer: NodeId, message: string): void => {
  const { admission, refused } = known
  if (!admission.isFirstLife || !isHeeded(known, peer)) return
  admission.shut()
  Deferred.doneUnsafe(refused, Exit.fail(new PeerRpc.DiskRefused({ message })))
}

/** Ends once it is remembered which disk `peer` has, and what it said of others. */
const remember = (
  known: Known,
  peer: NodeId,
  diskId: DiskId,
  whose: "CallerDisk" | "CalledDisk",
  others?: ReadonlyMap<NodeId, DiskId>
): Effect.Effect<void, PeerRpc.Refused> =>
  Effect.mapError(
    known.disks.meet(peer, diskId, isHeeded(known, peer) ? others : undefined),
    (error) =>
      error instanceof OtherDisk
        ? refuse(whose, error.message)
        : refuse("NotRemembered", `${known.id} could not write down which disk ${peer} has: ${error.message}`)
  )

const greet = (known: Known): Acquaintance["greet"] =>
  Effect.fnUntraced(function*(hello, diskId) {
    const { addresses, id, identity } = known
    const { from } = hello
    const others = told(hello.disks)
    yield* remember(known, from, diskId, "CallerDisk", others)
    if ((others.get(id) ?? identity.diskId) !== identity.diskId) {
      onOwnDiskRefused(known, from, lost(id, from))
      return yield* refuse("CalledDisk", lost(id, from))
    }
    addresses.say(from, hello.url)
    const isMember = Configuration.isUnknown(addresses.configuration) ? {} : { isMember: addresses.isMember(from) }
    return { diskId: identity.diskId, disks: known.told(), ...isMember }
  })

const onWelcome = (known: Known): Acquaintance["onWelcome"] =>
  Effect.fnUntraced(function*(peer, { diskId = "", disks }) {
    if (!isDiskId(diskId)) return yield* refuse("Malformed", `${peer} did not say which disk it has`)
    yield* remember(known, peer, diskId, "CalledDisk", told(disks))
    yield* onCalled(known, peer, true)
  })

const onFailure = (known: Known): Acquaintance["onFailure"] => (peer, refusal) =>
  Effect.suspend(() => {
    if (refusal?.reason === "CallerDisk") onOwnDiskRefused(known, peer, refusal.message)
    return onCalled(known, peer, false)
  })

/** Configurations, one after the other: the one that was in force, the one that is, and the latest that is known to stay. */
interface Changed {
  readonly before: Configuration.Configuration
  readonly next: Configuration.Configuration
  readonly committed: Configuration.Configuration
}

/**
 * Whether a server is the one that was known by its name: not removed for good, and not added since (its removal was committed before). Where it is
 * at another address it was removed and added in between.
 */
const isSame = (one: NodeId, { before, committed, next }: Changed): boolean => {
  const [address, latest] = [before.addresses.get(one), next.addresses.get(one)]
  if (address !== undefined && latest !== undefined && address !== latest) return false
  const wasThere = Configuration.isUnknown(before) || Configuration.isMember(before, one)
  return Configuration.isMember(committed, one) || (wasThere && Configuration.isMember(next, one))
}

const forgetGone = (known: Known, changed: Changed) =>
  Effect.catch(
    known.disks.forget((one) => isSame(one, changed)),
    (error) => warn(known, "this server cannot write down that it forgets the disk of a removed server", error)
  )

const reconfigure = (known: Known): Acquaintance["reconfigure"] => {
  const { addresses, admission } = known
  let hasBegun = false
  return Effect.fnUntraced(function*(next, committed) {
    const { configuration: before } = addresses
    addresses.reconfigure(next)
    // Not waited for: the node's turns go on while its disk is slow. What is met after this is written after it.
    yield* Effect.forkIn(forgetGone(known, { before, next, committed }), known.scope, { startImmediately: true })
    if (hasBegun) return
    hasBegun = true
    admission.begin(next)
    if (admission.isOpen) yield* admit(known)
  })
}

const helloTo = ({ addresses, id, identity, told }: Known): Acquaintance["helloTo"] => (to) => {
  const url = addresses.own()
  return {
    protocolVersion: PeerRpc.protocolVersion,
    clusterId: identity.clusterId,
    from: id,
    to,
    ...(url === undefined ? {} : { url }),
    diskId: identity.diskId,
    disks: told()
  }
}

export const make = Effect.fnUntraced(function*(options: Options) {
  const storage = yield* Storage
  const { id, urls } = options
  const addresses = new Addresses(id, urls)
  const disks = new Disks(id, storage, (one) => addresses.isMember(one))
  const known: Known = {
    ...options,
    told: () => [...disks.known].filter(([one]) => addresses.isMember(one)),
    identity: storage.identity,
    addresses,
    disks,
    admission: new Admission(id, disks.isAdmitted),
    scope: yield* Effect.scope,
    refused: Deferred.makeUnsafe()
  }
  return {
    id,
    clusterId: storage.identity.clusterId,
    addresses,
    isAdmitted: () => known.admission.isOpen,
    helloTo: helloTo(known),
    onWelcome: onWelcome(known),
    onFailure: onFailure(known),
    greet: greet(known),
    beforeHearing: (from, diskId) =>
      disks.isSettled(from, diskId) ? undefined : remember(known, from, diskId, "CallerDisk"),
    reconfigure: reconfigure(known),
    diskRefused: Deferred.await(known.refused)
  } satisfies Acquaintance
})
