/**
 * One server of a cluster, as its user holds it, and the layer that runs its loops: turn (`TurnLoop.ts`), persist (`Persister.ts`), apply
 * (`Applier.ts`) and compact (`Compactor.ts`); and the two ends of a snapshot's way to a follower (`SnapshotSender.ts`, `SnapshotReceiver.ts`).
 *
 * ```ts
 * const node = RaftNode.layer({ configuration: Configuration.ofVoters(["n1", "n2", "n3"]) })
 * // Layer<RaftNode, StorageError | SettingsError, Storage | Transport | StateMachine>
 * ```
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Configuration from "../domain/Configuration.ts"
import { entryOverheadBytes, type LogIndex, type Term } from "../domain/Entry.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as NodeState from "../domain/NodeState.ts"
import type { Progress } from "../domain/Progress.ts"
import * as Replication from "../domain/Replication.ts"
import type { Role } from "../domain/Role.ts"
import * as Settings from "../domain/Settings.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import * as Step from "../domain/Step.ts"
import * as Applier from "./Applier.ts"
import * as Compactor from "./Compactor.ts"
import { interpreter, type Parts, release } from "./Interpreter.ts"
import * as Persister from "./Persister.ts"
import {
  Behind,
  Overloaded,
  type ProposeError,
  type ReadError,
  SettingsError,
  type SnapshotFailed,
  type StaleReadError,
  Stopped,
  TooLarge
} from "./RaftErrors.ts"
import { type Answered, Requests } from "./Requests.ts"
import * as Slab from "./Slab.ts"
import * as SnapshotReceiver from "./SnapshotReceiver.ts"
import * as SnapshotSender from "./SnapshotSender.ts"
import { StateMachine } from "./StateMachine.ts"
import { Storage, StorageError } from "./Storage.ts"
import { type Inbound, Transport } from "./Transport.ts"
import * as TurnLoop from "./TurnLoop.ts"

export * from "./RaftErrors.ts"

export interface Status {
  readonly id: NodeId
  readonly clusterId: string
  readonly role: Role["_tag"]
  readonly term: Term
  readonly leaderId: NodeId | undefined
  readonly commitIndex: LogIndex
  readonly lastApplied: LogIndex
  /** The log holds what follows this entry; snapshots stand for what came before. */
  readonly prevLogIndex: LogIndex
  readonly lastLogIndex: LogIndex
  /** The latest snapshot on this server's disk; index 0 where there is none. */
  readonly snapshot: Snapshot
  readonly configuration: Configuration.Configuration
  /** Of a leader: how far each other member is. */
  readonly followers: ReadonlyArray<FollowerStatus>
  /** Snapshots on their way to followers, and the one that is coming in. */
  readonly sending: ReadonlyArray<SnapshotSender.Sending>
  readonly receiving: SnapshotReceiver.Receiving | undefined
}

export interface FollowerStatus {
  readonly id: NodeId
  readonly progress: Progress["_tag"]
  readonly matchIndex: LogIndex
}

/**
 * Who confirms that a read is linearizable. `linearizable`: the leader, by a round of heartbeats (ReadIndex, thesis §6.4). `lease`: the leader,
 * by its lease where `Settings.leaseReads` is on and the lease lasts, by a round otherwise (§6.4.1). `follower`: any server, which asks the
 * leader and answers from its own state.
 */
export type Consistency = "linearizable" | "lease" | "follower"

/** An answer that may be old. */
export interface StaleAnswer extends Answered {
  /** How long ago, in milliseconds, this server last heard a leader, or a leader a majority; `undefined`: never since it started. */
  readonly leaderContactAgeMs: number | undefined
}

export interface Options {
  /** The configuration of a cluster that starts for the first time; afterwards what is on disk counts. */
  readonly configuration: Configuration.Configuration
  readonly settings?: Partial<Settings.Settings>
  /** How long a request may wait, in milliseconds (default 5,000). */
  readonly requestTimeoutMs?: number
  /** Most requests that wait at a time (default 100,000); further ones are refused as `Overloaded`. */
  readonly waitingRequestsMax?: number
  /** Largest command, in bytes (default 8 MiB); larger ones are refused as `TooLarge`. */
  readonly commandBytesMax?: number
}

/** The core that a node runs. Tests put a checking one in its place; see `domain/Invariants.ts`. */
export const Core = Context.Reference<typeof Step.step>("titan/Core", { defaultValue: () => Step.step })

export class RaftNode extends Context.Service<RaftNode, {
  /**
   * Replicates a command; resolves with its result once it is committed and applied here. Only the leader takes it. The bytes are copied.
   * Interrupting it ends the wait, not the command.
   */
  readonly propose: (command: Uint8Array) => Effect.Effect<Uint8Array, ProposeError>
  /** Answers a query linearizably. Only the leader takes it, unless `consistency` is "follower". */
  readonly read: (
    query: Uint8Array,
    options?: { readonly consistency?: Consistency }
  ) => Effect.Effect<Uint8Array, ReadError>
  /**
   * Answers a query at once from what this server has applied, which may be old; with `minIndex`, once it has applied that much, such as the
   * index of the caller's own last write.
   */
  readonly readStale: (
    query: Uint8Array,
    options?: { readonly minIndex?: LogIndex }
  ) => Effect.Effect<StaleAnswer, StaleReadError>
  /** Snapshots what is applied, unless the latest snapshot stands for all of that, and gives the latest once it is durable. */
  readonly takeSnapshot: Effect.Effect<Snapshot, SnapshotFailed | Stopped>
  readonly status: Effect.Effect<Status>
  /** Never succeeds: fails when the disk did and the node has stopped, dies when a promise was broken. */
  readonly halted: Effect.Effect<never, StorageError>
}>()("titan/RaftNode") {}

/**
 * A node that runs until its scope closes. It is the server that its `Storage` belongs to; building it reads the log. Fails where the storage does,
 * and with `SettingsError` where `options` cannot work.
 */
export const layer = (
  options: Options
): Layer.Layer<RaftNode, StorageError | SettingsError, Storage | Transport | StateMachine> =>
  Layer.effect(RaftNode, make(options))

const defaults = { requestTimeoutMs: 5000, waitingRequestsMax: 100_000, commandBytesMax: 8 << 20 }

/** More than a message takes beyond its entries, on any transport. */
const messageHeaderBytes = 1024

const problemsOf = (options: Options & typeof defaults): ReadonlyArray<string> => {
  const entryBytes = options.commandBytesMax + entryOverheadBytes + messageHeaderBytes
  const configuration = Configuration.problem(options.configuration)
  return [
    ...(["requestTimeoutMs", "waitingRequestsMax", "commandBytesMax"] as const)
      .filter((name) => !(Number.isSafeInteger(options[name]) && options[name] > 0))
      .map((name) => `${name} must be a whole number above 0, but is ${options[name]}`),
    ...(entryBytes > Settings.messageBytesMax
      ? [`commandBytesMax (${options.commandBytesMax}) must leave room in a message (${Settings.messageBytesMax})`]
      : []),
    ...(configuration === undefined ? [] : [configuration])
  ]
}

const settingsOf = (options: Options & typeof defaults): Effect.Effect<Settings.Settings, SettingsError> => {
  const made = Settings.make(options.settings)
  const problems = [...("problems" in made ? made.problems : []), ...problemsOf(options)]
  return "settings" in made && problems.length === 0
    ? Effect.succeed(made.settings)
    : Effect.fail(new SettingsError({ message: problems.join("; ") }))
}

/** The state as the disk left it, and the state machine with what the latest snapshot says. */
const recover = Effect.fnUntraced(function*(options: Options, settings: Settings.Settings, now: () => number) {
  const [storage, stateMachine] = [yield* Storage, yield* StateMachine]
  const id = storage.identity.nodeId
  const recovered = yield* storage.recover(options.configuration)
  if (recovered.snapshot.last.index > 0) {
    yield* Applier.restoreLatest({ stateMachine, openSnapshot: storage.openSnapshot })
  }
  const random = yield* Random.nextIntBetween(0, 0xffff_ffff)
  // Only now: what was read took its time, and an election timeout is to begin here.
  const state = NodeState.make({ ...recovered, id, settings, random, nowMs: now() })
  if (recovered.damage === undefined || !NodeState.needsSnapshot(state)) return state
  if (NodeState.peersOf(state).length === 0) {
    const message = `${recovered.damage}. There is no other server to get it from: restore the directory from a copy`
    return yield* new StorageError({ reason: "Corrupt", path: id, message })
  }
  yield* Effect.annotateLogs(Effect.logWarning("this server has lost its state and waits for a leader's snapshot"), {
    node: id,
    problem: recovered.damage
  })
  return state
})

/** The loops of a node, wired to each other. */
const wire = Effect.fnUntraced(
  function*(options: Options & typeof defaults, now: () => number, initial: NodeState.NodeState) {
    const [storage, transport, stateMachine, step] = [
      yield* Storage,
      yield* Transport,
      yield* StateMachine,
      yield* Core
    ]
    const requests = new Requests({ timeoutMs: options.requestTimeoutMs, waitingMax: options.waitingRequestsMax })
    const turns = yield* TurnLoop.make({ initial, step, now, requests })
    const { offer, state } = turns
    const applier = yield* Applier.make({
      stateMachine,
      requests,
      log: () => state().log,
      openSnapshot: storage.openSnapshot,
      lastApplied: initial.snapshot.last,
      onApplied: (index) => offer({ _tag: "Applied", index })
    })
    const persister = yield* Persister.make(storage, release({ id: initial.id, transport, applier, offer }))
    const compactor = yield* Compactor.make({ storage, applier, state, offer })
    const sender = yield* SnapshotSender.make({
      storage,
      transport,
      state,
      offer,
      renew: Effect.ignore(compactor.renew)
    })
    const receiver = yield* SnapshotReceiver.make({ storage, transport, state, offer })
    const parts: Parts = { id: initial.id, transport, requests, applier, compactor, sender, offer }
    const loops = [
      turns.run(interpreter(parts, persister)),
      persister.run,
      applier.run,
      compactor.run,
      sender.run,
      receiver.run
    ]
    const deliver = (event: Inbound): void => {
      if (event._tag === "PeerLost") return offer(event)
      const { from, message } = event
      if (message._tag === "InstallSnapshot") receiver.onRequest(from, message)
      else if (message._tag === "InstallSnapshotResponse") sender.onResponse(from, message)
      else offer({ _tag: "Received", from, message })
    }
    return { ...parts, turns, receiver, loops, inbound: transport.inbound(deliver) }
  }
)

const make = Effect.fnUntraced(function*(given: Options) {
  const options = { ...defaults, ...given }
  const settings = yield* settingsOf(options)
  const clock = yield* Clock.Clock
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const { clusterId } = (yield* Storage).identity
  const initial = yield* recover(options, settings, now)
  const { applier, compactor, inbound, loops, receiver, requests, sender, turns } = yield* wire(options, now, initial)
  const halting = yield* supervise(loops, () => {
    turns.close()
    requests.close()
  })
  yield* inbound

  return RaftNode.of({
    ...entrance({ requests, turns, applier, now, isStopped: halting.isStopped, bytesMax: options.commandBytesMax }),
    takeSnapshot: Effect.raceFirst(compactor.take, Effect.flatMap(halting.stopped, () => Effect.fail(new Stopped()))),
    halted: halting.halted,
    status: Effect.sync(() => {
      const status = {
        ...statusOf(turns.state(), clusterId),
        sending: sender.sending(),
        receiving: receiver.receiving()
      }
      // Whatever it was when it stopped, it leads nobody now.
      return halting.isStopped() ? { ...status, role: "Follower", leaderId: undefined, followers: [] } : status
    })
  })
})

const statusOf = (state: NodeState.NodeState, clusterId: string): Omit<Status, "sending" | "receiving"> => ({
  id: state.id,
  clusterId,
  role: state.role._tag,
  term: state.term,
  leaderId: NodeState.leaderIdOf(state),
  commitIndex: state.commitIndex,
  lastApplied: state.lastApplied,
  prevLogIndex: state.log.prev.index,
  lastLogIndex: state.log.lastIndex,
  snapshot: state.snapshot,
  configuration: state.configuration,
  followers: state.role._tag !== "Leader" ? [] : Array.from(state.role.progress)
    .filter(([id]) => id !== state.id)
    .map(([id, { _tag, matchIndex }]) => ({ id, progress: _tag, matchIndex }))
})

/** Runs the loops until the scope closes or one of them ends: then all end, nobody is left waiting, and `halted` says why. */
const supervise = Effect.fnUntraced(function*(
  loops: ReadonlyArray<Effect.Effect<never, StorageError>>,
  onStop: () => void
): Effect.fn.Return<
  {
    readonly halted: Effect.Effect<never, StorageError>
    readonly isStopped: () => boolean
    readonly stopped: Effect.Effect<void>
  },
  never,
  Scope.Scope
> {
  const ended = yield* Deferred.make<void>()
  const halted = yield* Deferred.make<never, StorageError>()
  let stopped = false
  const stop = (cause: Cause.Cause<StorageError>) =>
    Effect.suspend(() => {
      if (stopped) return Effect.void
      stopped = true
      onStop()
      Deferred.doneUnsafe(ended, Effect.void)
      if (Cause.hasInterruptsOnly(cause)) return Effect.void
      return Effect.andThen(
        // A disk's failure says all in its message; whatever else stops a node is a defect, and its trace is needed.
        Cause.hasDies(cause) ? Effect.logError("the node has stopped", cause) : Effect.logError("the node has stopped"),
        Deferred.failCause(halted, cause)
      )
    })
  // With the first loop that ends: another may sit in a write that the disk never finishes, and callers must not wait for that.
  const watched = loops.map((loop) =>
    Effect.onExit(loop, (exit) => exit._tag === "Failure" ? stop(exit.cause) : Effect.void)
  )
  // At once: a scope that closes before a deferred start would never run `stop`.
  yield* Effect.forkScoped(Effect.all(watched, { concurrency: "unbounded", discard: true }), { startImmediately: true })
  return { halted: Deferred.await(halted), isStopped: () => stopped, stopped: Deferred.await(ended) }
})

const readBy = { linearizable: "Round", lease: "Lease", follower: "Leader" } as const

/** How old, in milliseconds, what this server knows of the leader may be. */
const contactAgeMs = (state: NodeState.NodeState, nowMs: number): number | undefined => {
  const contactMs = NodeState.isLeader(state) ? Replication.quorumContactMs(state, nowMs) : state.leaderContactMs
  return contactMs === undefined ? undefined : Math.max(0, nowMs - contactMs)
}

/** Where requests come in. They wait in `requests` until the apply loop, a refusal or their deadline answers them. */
const entrance = (options: {
  readonly requests: Requests
  readonly turns: TurnLoop.TurnLoop
  readonly applier: Applier.Applier
  readonly now: () => number
  readonly isStopped: () => boolean
  readonly bytesMax: number
}): Pick<RaftNode["Service"], "propose" | "read" | "readStale"> => {
  const { applier, bytesMax, isStopped, now, requests, turns: { offer, state } } = options
  const copy = Slab.make()
  const read = (query: Uint8Array, submit: (requestId: number) => void): Effect.Effect<Answered, ReadError> =>
    Effect.callback((resume) => {
      if (isStopped()) return resume(Effect.fail(new Stopped()))
      if (requests.isFull) return resume(Effect.fail(new Overloaded()))
      const requestId = requests.read(now(), query, resume)
      submit(requestId)
      return Effect.sync(() => requests.cancel(requestId))
    })
  return {
    propose: (bytes) =>
      Effect.callback((resume) => {
        if (isStopped()) return resume(Effect.fail(new Stopped()))
        if (bytes.length > bytesMax) {
          return resume(Effect.fail(new TooLarge({ sizeBytes: bytes.length, limitBytes: bytesMax })))
        }
        if (requests.isFull) return resume(Effect.fail(new Overloaded()))
        const requestId = requests.proposal(now(), resume)
        // A copy: the log keeps it, and sends it again, long after the caller has used its buffer for something else.
        offer({ _tag: "Propose", proposals: [{ requestId, bytes: copy(bytes) }] })
        return Effect.sync(() => requests.cancel(requestId))
      }),
    read: (query, { consistency = "linearizable" } = {}) =>
      Effect.map(
        read(query, (requestId) => offer({ _tag: "Read", requestIds: [requestId], by: readBy[consistency] })),
        ({ answer }) => answer
      ),
    readStale: (query, { minIndex = 0 } = {}) =>
      Effect.suspend(() => {
        // A server that has lost its state has nothing to answer from until a snapshot has come.
        const index = Math.max(minIndex, state().log.prev.index)
        return read(query, (requestId) => applier.serve([requestId], index)).pipe(
          Effect.map((answered) => ({ ...answered, leaderContactAgeMs: contactAgeMs(state(), now()) })),
          Effect.mapError((error) =>
            error._tag === "ReadUnconfirmed" || error._tag === "NotLeader" ? new Behind({ minIndex: index }) : error
          )
        )
      })
  }
}
