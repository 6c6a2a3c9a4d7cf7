/**
 * What watches the nodes of a test's cluster: the invariants of every step, and what must hold between nodes. A finding is kept, and is a
 * defect of the node that made it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import type { Command } from "../domain/Command.ts"
import type { Event } from "../domain/Event.ts"
import { broken, BrokenPromise, checkState, checkStep } from "../domain/Invariants.ts"
import * as Log from "../domain/Log.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { NodeState } from "../domain/NodeState.ts"
import type { Saved } from "../domain/Session.ts"
import { step } from "../domain/Step.ts"
import * as SessionContent from "../services/SessionContent.ts"
import { StateMachine } from "../services/StateMachine.ts"
import { Storage, type StorageError } from "../services/Storage.ts"
import { Transport } from "../services/Transport.ts"
import { type DiskOf, Figure3, Violation } from "./Figure3.ts"
import { MembershipRules } from "./MembershipRules.ts"
import { ProgressRules } from "./ProgressRules.ts"
import { ReadRules } from "./ReadRules.ts"
import { TimerRules } from "./TimerRules.ts"
import { TransferRules } from "./TransferRules.ts"
import { VoteRules } from "./VoteRules.ts"

/** `step`, checked: a property that does not hold is a defect that names it. */
export const checkedStep: typeof step = (state, event, nowMs) => {
  const stepped = step(state, event, nowMs)
  const found = [...checkState(stepped.state), ...checkStep(state, stepped.state, stepped.commands)]
  const [first, ...more] = new Set(found)
  if (first !== undefined) throw broken(first, [`${state.id} after ${event._tag}`, ...more].join("; "))
  return stepped
}

/** One step of one node. */
export interface Observed {
  readonly before: NodeState
  readonly event: Event
  readonly after: NodeState
  readonly commands: ReadonlyArray<Command>
  /** Of the node's own monotonic clock. */
  readonly nowMs: number
}

/** Everything that a cluster's nodes are watched by. */
export class Watch {
  readonly figure3: Figure3
  readonly #votes = new VoteRules()
  readonly #timers = new TimerRules()
  readonly #reads = new ReadRules()
  readonly #progress: ProgressRules
  readonly #membership: MembershipRules
  readonly #transfers: TransferRules
  violation: Violation | undefined
  readonly #observe: ((observed: Observed) => void) | undefined
  /** Nodes that are known to have stopped: each is a finding once. */
  readonly #halted = new WeakSet<object>()
  /** Nodes that have not stepped since they started: what they read from disk is to be seen first. */
  readonly #fresh = new Set<NodeId>()

  constructor(figure3: Figure3, diskOf: DiskOf, observe: ((observed: Observed) => void) | undefined) {
    this.figure3 = figure3
    this.#progress = new ProgressRules(diskOf)
    this.#membership = new MembershipRules(figure3, diskOf)
    this.#transfers = new TransferRules(diskOf)
    this.#observe = observe
  }

  /** `nowMs`: of the node's own monotonic clock. */
  started(id: NodeId, nowMs: number): void {
    this.#fresh.add(id)
    this.#votes.started(id, nowMs)
    for (const rules of [this.figure3, this.#timers, this.#reads, this.#transfers]) rules.started(id)
  }

  /** Forgets the violation, and tells what it was. */
  take(): Violation | undefined {
    const { violation } = this
    this.violation = undefined
    return violation
  }

  /** Runs a check; what it finds is kept, and is a defect of the node that was checked. */
  guard<A>(check: () => A): A {
    try {
      return check()
    } catch (error) {
      this.violation ??= error instanceof Violation
        ? error
        : error instanceof BrokenPromise
        ? new Violation(error.property, error.message)
        : new Violation("no defects", error instanceof Error ? error.stack ?? error.message : String(error))
      throw error
    }
  }

  /** A disk that fails is the test's doing; whatever else stops a node should not have happened. */
  halted(id: NodeId, node: object, cause: Cause.Cause<unknown>, misuse: StorageError | undefined): void {
    if (this.#halted.has(node)) return
    this.#halted.add(node)
    if (misuse !== undefined) {
      this.violation ??= new Violation("the contract of Storage is kept", `${id}: ${misuse.message}`)
    }
    if (Cause.hasDies(cause)) this.violation ??= new Violation("no defects", `${id}: ${Cause.pretty(cause)}`)
  }

  readonly step: typeof step = (before, event, nowMs) =>
    this.guard(() => {
      const { figure3 } = this
      if (this.#fresh.delete(before.id)) {
        const { log } = before
        figure3.sawStart(before)
        this.#membership.sawStart(before)
        figure3.sawEntries(before.id, log, Log.slice(log, { from: Log.firstIndex(log), to: log.lastIndex }))
      }
      if (event._tag === "Received" && event.from === before.id) {
        figure3.sawMessage(before.id, before.id, event.message)
      }
      const stepped = checkedStep(before, event, nowMs)
      figure3.sawStep(before, stepped.state, stepped.commands)
      const observed: Observed = { before, event, after: stepped.state, commands: stepped.commands, nowMs }
      for (
        const rules of [
          this.#votes,
          this.#timers,
          this.#progress,
          this.#reads,
          this.#membership,
          this.#transfers,
          figure3.sessions
        ]
      ) rules.saw(observed)
      this.#observe?.(observed)
      return stepped
    })

  readonly transport = (id: NodeId) => (inner: Transport["Service"]) =>
    Transport.of({
      ...inner,
      send: (to, message) =>
        Effect.suspend(() => {
          this.guard(() => this.figure3.sawMessage(id, to, message))
          return inner.send(to, message)
        })
    })

  /** Only the state machine reads the content of a snapshot. */
  readonly storage = (id: NodeId) => (inner: Storage["Service"]) =>
    Storage.of({
      ...inner,
      saveSnapshot: (of, content) => {
        const saw = (saved: Saved): void => this.guard(() => this.figure3.sessions.sawTable(id, of.last.index, saved))
        return inner.saveSnapshot(of, watched(content, saw))
      },
      openSnapshot: Effect.map(inner.openSnapshot, (reader) =>
        reader === undefined ? undefined : {
          ...reader,
          content: Stream.suspend(() => {
            this.guard(() => this.figure3.restored(id, reader.snapshot.last.index))
            return reader.content
          })
        })
    })

  readonly machine = (id: NodeId) => (inner: StateMachine["Service"]) =>
    StateMachine.of({
      ...inner,
      apply: (commands) =>
        Effect.suspend(() => {
          this.guard(() => {
            for (const applied of commands) this.figure3.sawApply(id, applied, applied.command)
          })
          return Effect.map(inner.apply(commands), (results) => {
            this.guard(() => {
              for (const [i, { index }] of commands.entries()) {
                const result = results[i]
                if (result !== undefined) this.figure3.sessions.sawResult(id, index, result)
              }
            })
            return results
          })
        })
    })
}

/** The content of a snapshot as it passes; `saw` is told of the sessions that it begins with, once all of them have passed. */
const watched = (content: Stream.Stream<Uint8Array>, saw: (saved: Saved) => void): Stream.Stream<Uint8Array> => {
  let early: ReadonlyArray<Uint8Array> | undefined = []
  return Stream.map(content, (piece) => {
    if (early === undefined) return piece
    early = [...early, piece]
    const saved = Effect.runSyncExit(SessionContent.read(Stream.fromIterable(early), Stream.runDrain))
    if (Exit.isSuccess(saved)) {
      early = undefined
      saw(saved.value)
    }
    return piece
  })
}
