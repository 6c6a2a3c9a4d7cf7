/**
 * One server of a cluster, as its user holds it, and the layer that runs its three loops: turn (`TurnLoop.ts`), persist (`Persister.ts`)
 * and apply (`Applier.ts`).
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
import type { Role } from "../domain/Role.ts"
import * as Settings from "../domain/Settings.ts"
import * as Step from "../domain/Step.ts"
import * as Applier from "./Applier.ts"
import { interpreter, type Parts, release } from "./Interpreter.ts"
import * as Persister from "./Persister.ts"
import { Overloaded, type ProposeError, type ReadError, SettingsError, Stopped, TooLarge } from "./RaftErrors.ts"
import { Requests } from "./Requests.ts"
import { StateMachine } from "./StateMachine.ts"
import { Storage, type StorageError } from "./Storage.ts"
import { Transport } from "./Transport.ts"
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
  readonly lastLogIndex: LogIndex
  readonly snapshotIndex: LogIndex
  readonly configuration: Configuration.Configuration
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
  /** Answers a query linearizably (ReadIndex, thesis §6.4). Only the leader takes it. */
  readonly read: (query: Uint8Array) => Effect.Effect<Uint8Array, ReadError>
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

const make = Effect.fnUntraced(function*(given: Options) {
  const options = { ...defaults, ...given }
  const settings = yield* settingsOf(options)
  const [storage, transport, stateMachine] = [yield* Storage, yield* Transport, yield* StateMachine]
  const [clock, step] = [yield* Clock.Clock, yield* Core]
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const { clusterId, nodeId } = storage.identity
  const recovered = yield* storage.recover(options.configuration)
  const random = yield* Random.nextIntBetween(0, 0xffff_ffff)
  const initial = NodeState.make({ ...recovered, id: nodeId, settings, random, nowMs: now() })

  const requests = new Requests({ timeoutMs: options.requestTimeoutMs, waitingMax: options.waitingRequestsMax })
  const turns = yield* TurnLoop.make({ initial, step, now, requests })
  const applier = yield* Applier.make({
    stateMachine,
    requests,
    log: () => turns.state().log,
    onApplied: (index) => turns.offer({ _tag: "Applied", index })
  })
  const parts: Parts = { id: nodeId, transport, requests, applier, offer: turns.offer }
  const persister = yield* Persister.make(storage, release(parts))

  const halting = yield* supervise([turns.run(interpreter(parts, persister)), persister.run, applier.run], () => {
    turns.close()
    requests.close()
  })
  yield* transport.inbound(turns.offer)

  return RaftNode.of({
    ...entrance({ requests, turns, now, isStopped: halting.isStopped, bytesMax: options.commandBytesMax }),
    halted: halting.halted,
    status: Effect.sync(() => {
      const status = statusOf(turns.state(), clusterId)
      // Whatever it was when it stopped, it leads nobody now.
      return halting.isStopped() ? { ...status, role: "Follower", leaderId: undefined } : status
    })
  })
})

const statusOf = (state: NodeState.NodeState, clusterId: string): Status => ({
  id: state.id,
  clusterId,
  role: state.role._tag,
  term: state.term,
  leaderId: NodeState.leaderIdOf(state),
  commitIndex: state.commitIndex,
  lastApplied: state.lastApplied,
  lastLogIndex: state.log.lastIndex,
  snapshotIndex: state.log.prev.index,
  configuration: state.configuration
})

/** Runs the loops until the scope closes or one of them ends: then all end, nobody is left waiting, and `halted` says why. */
const supervise = Effect.fnUntraced(function*(
  loops: ReadonlyArray<Effect.Effect<never, StorageError>>,
  onStop: () => void
): Effect.fn.Return<
  { readonly halted: Effect.Effect<never, StorageError>; readonly isStopped: () => boolean },
  never,
  Scope.Scope
> {
  const halted = yield* Deferred.make<never, StorageError>()
  let stopped = false
  const stop = (cause: Cause.Cause<StorageError>) =>
    Effect.suspend(() => {
      if (stopped) return Effect.void
      stopped = true
      onStop()
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
  return { halted: Deferred.await(halted), isStopped: () => stopped }
})

/** Where requests come in. They wait in `requests` until the apply loop, a refusal or their deadline answers them. */
const entrance = (options: {
  readonly requests: Requests
  readonly turns: TurnLoop.TurnLoop
  readonly now: () => number
  readonly isStopped: () => boolean
  readonly bytesMax: number
}): Pick<RaftNode["Service"], "propose" | "read"> => {
  const { bytesMax, isStopped, now, requests, turns: { offer } } = options
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
        offer({ _tag: "Propose", proposals: [{ requestId, bytes: new Uint8Array(bytes) }] })
        return Effect.sync(() => requests.cancel(requestId))
      }),
    read: (query) =>
      Effect.callback((resume) => {
        if (isStopped()) return resume(Effect.fail(new Stopped()))
        if (requests.isFull) return resume(Effect.fail(new Overloaded()))
        const requestId = requests.read(now(), query, resume)
        offer({ _tag: "Read", requestIds: [requestId] })
        return Effect.sync(() => requests.cancel(requestId))
      })
  }
}
