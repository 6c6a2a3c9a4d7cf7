/**
 * One simulated run: the real driver on memory layers, clients and faults as the plan says; then the faults end, and the cluster has to
 * become whole within a bound. Synchronous: simulated time costs no real time.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { NodeId } from "../domain/NodeId.ts"
import * as Settings from "../domain/Settings.ts"
import * as Clients from "./Clients.ts"
import { Draws } from "./Draws.ts"
import { Injector } from "./Faults.ts"
import { Violation } from "./Figure3.ts"
import { Deadlock, Livelock, Simulator } from "./Simulator.ts"
import type { Plan } from "./Swarm.ts"
import * as TestCluster from "./TestCluster.ts"
import * as Trace from "./Trace.ts"
import type { Session, Workload } from "./Workload.ts"

/** What happened in a run, in numbers. */
export type Counts = {
  readonly simulatedMs: number
  readonly steps: number
  readonly messages: number
  /** Terms that had a leader. */
  readonly leaders: number
  readonly committed: number
  readonly faults: number
  readonly done: number
  readonly notApplied: number
  readonly unknown: number
  /** How long it took from the end of the faults until all nodes agreed. */
  readonly recoveredMs: number
}

export interface Report {
  readonly plan: Plan
  readonly counts: Counts
  readonly violation: { readonly property: string; readonly detail: string } | undefined
  /** One line per event; empty unless asked for. */
  readonly trace: ReadonlyArray<string>
  /** What the clients saw, as JSON lines. */
  readonly history: string
}

/**
 * The bound on liveness, in milliseconds: after the last fault, within this long one node leads, all logs and state machines are equal, and
 * a write and a read succeed. Thirty of the longest election timeouts: elections may fail a few times, a deposed leader may take one
 * to notice, and a follower that was away has its whole log to catch up on, in the smallest of messages.
 */
export const recoveryMsMax = (plan: Plan): number => {
  const { electionTimeoutMsMax } = { ...Settings.defaults, ...plan.settings }
  return 30 * electionTimeoutMsMax
}

type Whole =
  | { readonly _tag: "Whole"; readonly leader: NodeId }
  | { readonly _tag: "Not"; readonly problem: string }

const not = (problem: string): Whole => ({ _tag: "Not", problem })

/** Who leads a cluster whose nodes all agree; otherwise the first way in which they do not. */
const wholeness = Effect.fnUntraced(function*(cluster: TestCluster.TestCluster, session: Session) {
  const { ids } = cluster
  const down = ids.filter((id) => !cluster.running().includes(id))
  if (down.length > 0) return not(`${down.join(", ")} down`)
  const statuses = yield* cluster.statuses
  const [leader, ...others] = statuses.filter((status) => status.role === "Leader")
  if (leader === undefined || others.length > 0) {
    return not(`${leader === undefined ? "no" : "more than one"} node leads`)
  }
  for (const { commitIndex, id, lastApplied, lastLogIndex, term } of statuses) {
    if (term !== leader.term) return not(`${id} is in term ${term}, the leader in ${leader.term}`)
    if (lastLogIndex !== leader.lastLogIndex || commitIndex !== lastLogIndex || lastApplied !== lastLogIndex) {
      return not(`${id} has applied ${lastApplied} of ${lastLogIndex} entries, the leader has ${leader.lastLogIndex}`)
    }
  }
  const contents = yield* Effect.forEach(ids, (id) => session.contents(cluster.machine(id)))
  const other = ids[contents.findIndex((text) => text !== contents[0])]
  const whole: Whole = { _tag: "Whole", leader: leader.id }
  return other === undefined ? whole : not(`the state machines of ${ids[0]} and ${other} differ`)
})

/** One run under way. */
interface Running {
  readonly plan: Plan
  readonly simulator: Simulator
  readonly cluster: TestCluster.TestCluster
  readonly session: Session
}

/** Waits until the cluster is whole, until `untilMs` at most. */
const becomeWhole = Effect.fnUntraced(function*({ cluster, plan, session, simulator }: Running, untilMs: number) {
  for (;;) {
    const found = yield* wholeness(cluster, session)
    if (found._tag === "Whole") return found.leader
    if (simulator.nowMs > untilMs) {
      const detail = `${recoveryMsMax(plan)} ms after the last fault ${found.problem}`
      return yield* Effect.fail(new Violation("Liveness", detail))
    }
    yield* Effect.sleep(10)
  }
})

/** One request at whoever leads that must be answered; what certainly had no effect is asked again. The history judges the answer. */
const mustAnswer = Effect.fnUntraced(function*(running: Running, draws: Draws, isRead: boolean) {
  const { cluster, plan, session, simulator } = running
  const untilMs = simulator.nowMs + recoveryMsMax(plan)
  for (;;) {
    // A deposed leader may have looked like the only one for a moment.
    const leader = yield* cluster.leader
    const ask = Clients.askNode(cluster, leader, recoveryMsMax(plan))
    const outcome = yield* session.request({ number: 0, draws, isBurst: false, ask }, isRead)
    if (outcome._tag === "Done") return
    if (outcome._tag === "Unknown" || simulator.nowMs > untilMs) {
      const detail = `no ${isRead ? "read" : "write"} is answered in ${recoveryMsMax(plan)} ms without faults`
      return yield* Effect.fail(new Violation("Liveness", detail))
    }
    yield* Effect.sleep(10)
  }
})

/** The faults have ended: one leader, equal logs and states; then a write and a read. Each within the bound. */
const recover = Effect.fnUntraced(function*(running: Running, draws: Draws) {
  const { plan, simulator } = running
  yield* becomeWhole(running, plan.faultyMs + recoveryMsMax(plan))
  const recoveredMs = simulator.nowMs - plan.faultyMs
  yield* mustAnswer(running, draws, false)
  yield* mustAnswer(running, draws, true)
  return recoveredMs
})

/** Clients and faults, then the recovery. Gives how long that took. */
const scenario = Effect.fnUntraced(function*(running: Running, draws: Draws, note: (text: string) => void) {
  const { cluster, plan, session, simulator } = running
  const { calm, clients, faults, faultyMs } = plan
  const injector = new Injector(cluster, calm, note)
  yield* Effect.forEach(cluster.ids, injector.watch, { discard: true })
  // Who asked last may still wait when the recovery begins.
  const asking = yield* Effect.forkChild(Clients.run(
    cluster,
    { ...clients, untilMs: faultyMs, nowMs: () => simulator.nowMs },
    draws.fork(),
    (client) => session.request(client, !client.isBurst && client.draws.happens(clients.readRatio))
  ))
  const happening = Effect.forEach(faults, injector.inject, { concurrency: "unbounded", discard: true })
  yield* Effect.all([happening, Effect.sleep(faultyMs)], { concurrency: "unbounded", discard: true })
  yield* injector.calm
  note("the faults have ended")
  const recoveredMs = yield* recover(running, draws.fork())
  yield* Fiber.join(asking)
  yield* becomeWhole(running, simulator.nowMs + recoveryMsMax(plan))
  for (const id of cluster.ids) cluster.figure3.sawEnd(id)
  return recoveredMs
})

interface Options {
  /** Whether to keep one line per event. */
  readonly trace?: boolean
}

/** Runs `plan` to its end, at once. */
export const run = (plan: Plan, workload: Workload, options: Options = {}): Report => {
  const draws = new Draws(Math.imul(plan.seed, 0x85ebca6b) ^ 0x5bd1e995)
  const simulator = new Simulator({ seed: draws.below(2 ** 32), yieldEveryOps: plan.yieldEveryOps })
  const trace: Array<string> = []
  const note = (text: string): void => {
    if (options.trace === true) trace.push(Trace.noteText(simulator.nowMs, text))
  }
  let steps = 0
  let lastNs = 0
  const nowNs = () => lastNs = Math.max(lastNs + 1, Math.round(simulator.nowMs * 1e6))
  const session = workload.start({ draws: draws.fork(), nowNs })
  let cluster: TestCluster.TestCluster | undefined

  const program = Effect.gen(function*() {
    // Never closed: what is left over ends with the run.
    const scope = yield* Scope.make()
    const made = yield* TestCluster.make({
      size: plan.size,
      stateMachine: session.stateMachine,
      seed: draws.below(2 ** 32),
      settings: plan.settings,
      requestTimeoutMs: plan.requestTimeoutMs,
      waitingRequestsMax: plan.waitingRequestsMax,
      network: { ...plan.calm.network, after: (delayMs, arrive) => void simulator.after(delayMs, arrive) },
      observe: (observed) => {
        steps++
        if (options.trace === true) trace.push(Trace.stepText(simulator.nowMs, observed))
      }
    }).pipe(Scope.provide(scope))
    cluster = made
    const running = { plan, simulator, cluster: made, session }
    return yield* scenario(running, draws, note)
  })

  // Every wait below has a bound; all of them together, and the clients' last requests, take less than this.
  const endMs = plan.faultyMs + plan.clients.patienceMs + 5 * recoveryMsMax(plan)
  const violated = () =>
    cluster?.violation()
      ?? (simulator.nowMs > endMs ? new Violation("Liveness", `the run has not ended after ${endMs} ms`) : undefined)
  const outcome = withoutStacks(options.trace !== true, () => ended(simulator, program, violated))
  const violation = outcome instanceof Violation ? outcome : undefined
  const [finding] = violation === undefined ? session.findings() : []
  return {
    plan,
    trace,
    history: session.history(),
    violation: violation !== undefined
      ? { property: violation.property, detail: violation.message }
      : finding !== undefined
      ? { property: finding.split(":", 1)[0] ?? finding, detail: finding }
      : undefined,
    counts: {
      simulatedMs: simulator.nowMs,
      steps,
      messages: cluster?.network.delivered() ?? 0,
      leaders: cluster?.figure3.leaders.size ?? 0,
      committed: cluster?.figure3.committed.length ?? 0,
      faults: plan.faults.length,
      recoveredMs: typeof outcome === "number" ? outcome : 0,
      ...session.counts()
    }
  }
}

/** A refusal is an error, and most of its cost is a stack trace that nobody reads. */
const withoutStacks = <A>(isWanted: boolean, f: () => A): A => {
  const limit = Error.stackTraceLimit
  if (isWanted) Error.stackTraceLimit = 0
  try {
    return f()
  } finally {
    Error.stackTraceLimit = limit
  }
}

/** What the program gave, or the property that did not hold: then it is not run any further, what comes after says nothing. */
const ended = (
  simulator: Simulator,
  program: Effect.Effect<number, Violation>,
  violated: () => Violation | undefined
): number | Violation => {
  try {
    const exit = simulator.run(program, { until: () => violated() !== undefined })
    const violation = violated()
    if (violation !== undefined || exit === undefined) {
      return violation ?? new Violation("the run", "stopped for no reason")
    }
    if (Exit.isSuccess(exit)) return exit.value
    const error = Cause.squash(exit.cause)
    return error instanceof Violation ? error : new Violation("no defects", Cause.pretty(exit.cause))
  } catch (error) {
    if (error instanceof Deadlock || error instanceof Livelock) return new Violation("Liveness", error.message)
    // Thrown where no fiber runs: where a message arrives.
    return new Violation("no defects", error instanceof Error ? error.stack ?? error.message : String(error))
  }
}
