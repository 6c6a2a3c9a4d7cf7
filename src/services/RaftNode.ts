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
import { entryOverheadBytes, origin, sessionOverheadBytes } from "../domain/Entry.ts"
import * as NodeState from "../domain/NodeState.ts"
import { Sessions } from "../domain/Session.ts"
import * as Settings from "../domain/Settings.ts"
import type { Snapshot } from "../domain/Snapshot.ts"
import * as Step from "../domain/Step.ts"
import * as Applier from "./Applier.ts"
import * as Compactor from "./Compactor.ts"
import * as Entrance from "./Entrance.ts"
import { interpreter, type Parts, release } from "./Interpreter.ts"
import { type Status, statusOf } from "./NodeStatus.ts"
import * as Persister from "./Persister.ts"
import { SettingsError, type SnapshotFailed, Stopped } from "./RaftErrors.ts"
import { Requests } from "./Requests.ts"
import * as SnapshotReceiver from "./SnapshotReceiver.ts"
import * as SnapshotSender from "./SnapshotSender.ts"
import { StateMachine } from "./StateMachine.ts"
import { Storage, StorageError } from "./Storage.ts"
import { type Inbound, Transport } from "./Transport.ts"
import * as TurnLoop from "./TurnLoop.ts"

export type { Asked, Consistency, StaleAnswer } from "./Entrance.ts"
export type { FollowerStatus, Status } from "./NodeStatus.ts"
export * from "./RaftErrors.ts"

export interface Options {
  /**
   * The configuration of a cluster that starts for the first time; afterwards what is on disk counts. `Configuration.unknown` is for a server that
   * is to be added to a cluster: it waits until that cluster's leader sends it what it needs.
   */
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

export interface Service extends Entrance.Entrance {
  /** Snapshots what is applied, unless the latest snapshot stands for all of that, and gives the latest once it is durable. */
  readonly takeSnapshot: Effect.Effect<Snapshot, SnapshotFailed | Stopped>
  readonly status: Effect.Effect<Status>
  /** Never succeeds: fails when the disk did and the node has stopped, dies when a promise was broken. */
  readonly halted: Effect.Effect<never, StorageError>
}

export class RaftNode extends Context.Service<RaftNode, Service>()("titan/RaftNode") {}

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
  const entryBytes = options.commandBytesMax + sessionOverheadBytes + entryOverheadBytes + messageHeaderBytes
  const configuration = Configuration.isSame(options.configuration, Configuration.unknown)
    ? undefined
    : Configuration.problem(options.configuration)
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
  const restored = recovered.snapshot.last.index > 0
    ? yield* Applier.restoreLatest({ stateMachine, openSnapshot: storage.openSnapshot })
    : { last: origin, sessions: new Sessions() }
  const random = yield* Random.nextIntBetween(0, 0xffff_ffff)
  // Only now: what was read took its time, and an election timeout is to begin here.
  const logTimeMs = restored.sessions.timeMs
  const state = NodeState.make({ ...recovered, id, settings, logTimeMs, random, nowMs: now() })
  if (recovered.damage === undefined || !NodeState.needsSnapshot(state)) return { state, restored }
  if (NodeState.peersOf(state).length === 0) {
    const message = `${recovered.damage}. There is no other server to get it from: restore the directory from a copy`
    return yield* new StorageError({ reason: "Corrupt", path: id, message })
  }
  yield* Effect.annotateLogs(Effect.logWarning("this server has lost its state and waits for a leader's snapshot"), {
    node: id,
    problem: recovered.damage
  })
  return { state, restored }
})

/** The loops of a node, wired to each other. */
const wire = Effect.fnUntraced(
  function*(
    options: Options & typeof defaults,
    now: () => number,
    { restored, state: initial }: { readonly state: NodeState.NodeState; readonly restored: Applier.Restored }
  ) {
    const [storage, transport, stateMachine, step] = [
      yield* Storage,
      yield* Transport,
      yield* StateMachine,
      yield* Core
    ]
    const requests = new Requests({ timeoutMs: options.requestTimeoutMs, waitingMax: options.waitingRequestsMax })
    const turns: TurnLoop.TurnLoop = yield* TurnLoop.make({
      initial,
      step,
      now,
      requests,
      isDiskBusy: () => persister.isBusy()
    })
    const { offer, state } = turns
    const applier = yield* Applier.make({
      stateMachine,
      requests,
      log: () => state().log,
      openSnapshot: storage.openSnapshot,
      restored,
      onApplied: (index, logTimeMs) => offer({ _tag: "Applied", index, logTimeMs })
    })
    const persister: Persister.Persister = yield* Persister.make(
      storage,
      release({ id: initial.id, transport, applier, offer }),
      turns.onDiskIdle
    )
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
  const { applier, compactor, inbound, loops, receiver, requests, sender, transport, turns } = yield* wire(
    options,
    now,
    initial
  )
  const started = turns.state()
  yield* transport.reconfigure(started.configuration.latest, NodeState.committedConfiguration(started).configuration)
  const halting = yield* supervise(loops, () => {
    turns.close()
    requests.close()
  })
  yield* inbound

  return RaftNode.of({
    ...Entrance.make({
      requests,
      turns,
      applier,
      now,
      isStopped: halting.isStopped,
      bytesMax: options.commandBytesMax
    }),
    takeSnapshot: Effect.raceFirst(compactor.take, Effect.flatMap(halting.stopped, () => Effect.fail(new Stopped()))),
    halted: halting.halted,
    status: Effect.sync(() => {
      const status = {
        ...statusOf(turns.state(), clusterId, now()),
        sending: sender.sending(),
        receiving: receiver.receiving()
      }
      // Whatever it was when it stopped, it leads nobody now.
      return halting.isStopped() ? { ...status, role: "Follower", leaderId: undefined, followers: [] } : status
    })
  })
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
  /** Whether this was the end: of several only the first is. */
  const end = (): boolean => {
    if (stopped) return false
    stopped = true
    onStop()
    Deferred.doneUnsafe(ended, Effect.void)
    return true
  }
  const stop = (cause: Cause.Cause<StorageError>) =>
    Effect.suspend(() => {
      if (!end() || Cause.hasInterruptsOnly(cause)) return Effect.void
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
  // And with the scope, which may close before any of them has begun.
  yield* Effect.addFinalizer(() => Effect.sync(end))
  yield* Effect.forkScoped(Effect.all(watched, { concurrency: "unbounded", discard: true }), { startImmediately: true })
  return { halted: Deferred.await(halted), isStopped: () => stopped, stopped: Deferred.await(ended) }
})
