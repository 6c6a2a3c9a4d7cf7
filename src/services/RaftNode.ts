/**
 * One server of a cluster, as its user holds it, and its turn loop: take everything that waits, read the clock once, fold `step` over it, hand
 * out the commands. The persist and apply loops run beside it (`Persister.ts`, `Applier.ts`).
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
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Configuration from "../domain/Configuration.ts"
import type { LogIndex, Term } from "../domain/Entry.ts"
import { type Event, type Proposal, ticked } from "../domain/Event.ts"
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
  /** Replicates a command; resolves with its result once it is committed and applied here. Only the leader takes it. */
  readonly propose: (command: Uint8Array) => Effect.Effect<Uint8Array, ProposeError>
  /** Answers a query linearizably (ReadIndex, thesis §6.4). Only the leader takes it. */
  readonly read: (query: Uint8Array) => Effect.Effect<Uint8Array, ReadError>
  readonly status: Effect.Effect<Status>
  /** Never succeeds: fails when the disk did and the node has stopped, dies when a promise was broken. */
  readonly halted: Effect.Effect<never, StorageError>
}>()("titan/RaftNode") {
  static readonly layer = (
    options: Options
  ): Layer.Layer<RaftNode, StorageError | SettingsError, Storage | Transport | StateMachine> =>
    Layer.effect(RaftNode, make(options))
}

/** The layer of one node; the same as `RaftNode.layer` of the service. */
export const layer = RaftNode.layer

/** What waits, as the core should see it: messages in the order they came, then one batch of each kind of request, then the time. */
const gather = (events: ReadonlyArray<Event>): ReadonlyArray<Event> => {
  if (events.length === 1) return events
  const first: Array<Event> = []
  const proposals: Array<Proposal> = []
  const requestIds: Array<number> = []
  let isDue = false
  for (const event of events) {
    if (event._tag === "Propose") proposals.push(...event.proposals)
    else if (event._tag === "Read") requestIds.push(...event.requestIds)
    else if (event._tag === "Ticked") isDue = true
    else first.push(event)
  }
  if (proposals.length > 0) first.push({ _tag: "Propose", proposals })
  if (requestIds.length > 0) first.push({ _tag: "Read", requestIds })
  // Time comes last: after a pause, what arrived meanwhile may show that nothing is overdue.
  if (isDue) first.push(ticked)
  return first
}

const settingsOf = (options: Options): Effect.Effect<Settings.Settings, SettingsError> => {
  const problem = Configuration.problem(options.configuration)
  const made = Settings.make(options.settings)
  const problems = [...("problems" in made ? made.problems : []), ...(problem === undefined ? [] : [problem])]
  return "settings" in made && problems.length === 0
    ? Effect.succeed(made.settings)
    : Effect.fail(new SettingsError({ message: problems.join("; ") }))
}

/** Offers `Ticked` whenever the deadline has come. `arm` moves the deadline; a sleep that would end too late is cut short. */
const makeTimer = Effect.fnUntraced(function*(now: () => number, onDue: () => void) {
  const armed = yield* Latch.make(false)
  let deadlineMs = Infinity
  let sleepingUntilMs = Infinity
  const arm = (nextMs: number): void => {
    deadlineMs = nextMs
    if (nextMs < sleepingUntilMs) armed.openUnsafe()
  }
  const run = Effect.gen(function*() {
    while (true) {
      armed.closeUnsafe()
      sleepingUntilMs = deadlineMs
      const leftMs = deadlineMs - now()
      if (leftMs > 0) {
        const sleep = leftMs === Infinity ? Effect.never : Effect.sleep(Math.ceil(leftMs))
        yield* Effect.raceFirst(sleep, armed.await)
      }
      const lateMs = now() - deadlineMs
      if (lateMs < 0) continue
      // So late, the process was held up: give what arrived meanwhile the time to be heard first.
      if (lateMs > 20) yield* Effect.sleep(1)
      deadlineMs = Infinity
      onDue()
    }
  })
  return { arm, run }
})

const make = Effect.fnUntraced(function*(options: Options) {
  const settings = yield* settingsOf(options)
  const [storage, transport, stateMachine] = [yield* Storage, yield* Transport, yield* StateMachine]
  const [clock, step] = [yield* Clock.Clock, yield* Core]
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const { clusterId, nodeId } = storage.identity
  const recovered = yield* storage.recover(options.configuration)
  let state = NodeState.make({
    ...recovered,
    id: nodeId,
    settings,
    random: yield* Random.nextIntBetween(0, 0xffff_ffff),
    nowMs: now()
  })

  const inbox = yield* Queue.unbounded<Event>()
  const offer = (event: Event) => void Queue.offerUnsafe(inbox, event)
  const requests = new Requests({
    timeoutMs: options.requestTimeoutMs ?? 5000,
    waitingMax: options.waitingRequestsMax ?? 100_000
  })
  const applier = yield* Applier.make({
    stateMachine,
    requests,
    log: () => state.log,
    onApplied: (index) => offer({ _tag: "Applied", index })
  })
  const parts: Parts = { id: nodeId, transport, requests, applier, offer }
  const persister = yield* Persister.make(storage, release(parts))
  const interpret = interpreter(parts, persister)
  const timer = yield* makeTimer(now, () => offer(ticked))
  const arm = () => timer.arm(Math.min(Step.nextDeadlineMs(state), requests.nextDeadlineMs()))

  const turn = Effect.fnUntraced(function*() {
    const events = gather(yield* Queue.takeAll(inbox))
    const nowMs = now()
    for (const event of events) {
      const stepped = step(state, event, nowMs)
      state = stepped.state
      for (const command of stepped.commands) yield* interpret(command)
    }
    requests.expire(nowMs)
    arm()
  })

  const halting = yield* supervise([
    Effect.forever(turn(), { disableYield: true }),
    persister.run,
    applier.run,
    timer.run
  ], requests)
  yield* transport.inbound(offer)
  arm()

  return RaftNode.of({
    ...entrance({ requests, offer, now, isStopped: halting.isStopped, bytesMax: options.commandBytesMax ?? 8 << 20 }),
    halted: halting.halted,
    status: Effect.sync(() => statusOf(state, clusterId))
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
  requests: Requests
): Effect.fn.Return<
  { readonly halted: Effect.Effect<never, StorageError>; readonly isStopped: () => boolean },
  never,
  Scope.Scope
> {
  const halted = yield* Deferred.make<never, StorageError>()
  let stopped = false
  const stop = (cause: Cause.Cause<StorageError>) =>
    Effect.suspend(() => {
      stopped = true
      requests.close()
      if (Cause.hasInterruptsOnly(cause)) return Effect.void
      return Effect.andThen(
        Effect.logError("the node has stopped", cause),
        Deferred.failCause(halted, cause)
      )
    })
  yield* Effect.forkScoped(Effect.onExit(
    Effect.all(loops, { concurrency: "unbounded", discard: true }),
    (exit) => exit._tag === "Failure" ? stop(exit.cause) : Effect.void
  ))
  return { halted: Deferred.await(halted), isStopped: () => stopped }
})

/** Where requests come in. They wait in `requests` until the apply loop, a refusal or their deadline answers them. */
const entrance = (options: {
  readonly requests: Requests
  readonly offer: (event: Event) => void
  readonly now: () => number
  readonly isStopped: () => boolean
  readonly bytesMax: number
}): Pick<RaftNode["Service"], "propose" | "read"> => {
  const { bytesMax, isStopped, now, offer, requests } = options
  return {
    propose: (bytes) =>
      Effect.callback((resume) => {
        if (isStopped()) return resume(Effect.fail(new Stopped()))
        if (bytes.length > bytesMax) {
          return resume(Effect.fail(new TooLarge({ sizeBytes: bytes.length, limitBytes: bytesMax })))
        }
        if (requests.isFull) return resume(Effect.fail(new Overloaded()))
        const requestId = requests.proposal(now(), resume)
        offer({ _tag: "Propose", proposals: [{ requestId, bytes }] })
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
