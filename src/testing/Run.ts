/**
 * One simulated run: the real driver on memory layers, clients and faults as the plan says; then the faults end, and the cluster has to
 * become whole within a bound. Synchronous: simulated time costs no real time.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { members } from "../domain/Configuration.ts"
import * as Settings from "../domain/Settings.ts"
import * as Clients from "./Clients.ts"
import { Draws } from "./Draws.ts"
import { Injector } from "./Faults.ts"
import { Violation } from "./Figure3.ts"
import { Operator } from "./Operator.ts"
import { becomeWhole, patienceMs, recover, type Recovered, type Running } from "./Recovery.ts"
import { Deadlock, Livelock, Simulator } from "./Simulator.ts"
import type { Plan } from "./Swarm.ts"
import * as TestCluster from "./TestCluster.ts"
import * as Trace from "./Trace.ts"
import type { Observed } from "./Watch.ts"
import type { Workload } from "./Workload.ts"

export { recoveryMsMax } from "./Recovery.ts"

/** What happened in a run, in numbers. */
export type Counts = {
  readonly simulatedMs: number
  readonly steps: number
  readonly messages: number
  /** Terms that had a leader. */
  readonly leaders: number
  readonly committed: number
  readonly faults: number
  /** What the operator meant to do, and how many changes and transfers it saw done. */
  readonly acts: number
  readonly changed: number
  readonly transferred: number
  /** Sessions that were opened; of their commands, how often one was sent again, and how many ended with their session. */
  readonly sessions: number
  readonly retried: number
  readonly expired: number
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
  /** How long it took until all nodes agreed, as a part of how long it may take. */
  readonly recovery: number
  /** One line per event; empty unless asked for. */
  readonly trace: ReadonlyArray<string>
  /** What the clients saw, as JSON lines. */
  readonly history: string
}

/** Every client's last request ends: it is given up, or answered now that nothing is wrong any more. */
const answered = ({ plan }: Running, asking: Effect.Effect<void>): Effect.Effect<void, Violation> => {
  const duration = plan.clients.patienceMs + patienceMs(plan)
  const detail = `a client waits for an answer for ${duration} ms without faults`
  return Effect.timeoutOrElse(asking, { duration, orElse: () => Effect.fail(new Violation("Liveness", detail)) })
}

/** Far more than all waits of a run together may take: a run that goes on for longer does not end. */
const endMsOf = (plan: Plan): number => plan.faultyMs + plan.clients.patienceMs + endTimeouts * electionMsOf(plan)

const endTimeouts = 1000

const electionMsOf = ({ settings }: Plan): number =>
  settings.electionTimeoutMsMax ?? Settings.defaults.electionTimeoutMsMax

/** Clients and faults, then the recovery. Gives how long that took. */
const scenario = Effect.fnUntraced(function*(
  running: Running,
  injector: Injector,
  draws: Draws,
  note: (text: string) => void
) {
  const { cluster, operator, plan, session, sessions, simulator } = running
  const { clients, faults, faultyMs } = plan
  yield* Effect.forEach(cluster.ids, injector.watch, { discard: true })
  // Who asked last may still wait when the recovery begins.
  const asking = yield* Effect.forkChild(Clients.run(
    cluster,
    {
      ...clients,
      untilMs: faultyMs,
      nowMs: () => simulator.nowMs,
      untilAnsweredMs: endMsOf(plan),
      sessionCounts: sessions
    },
    draws.fork(),
    (client) => session.request(client, !client.isBurst && client.draws.happens(clients.readRatio))
  ))
  const happening = Effect.forEach(faults, injector.inject, { concurrency: "unbounded", discard: true })
  // An operator's last act may still be waited for.
  const operating = yield* Effect.forkChild(operator?.perform ?? Effect.void)
  yield* Effect.all([happening, Effect.sleep(faultyMs)], { concurrency: "unbounded", discard: true })
  operator?.end()
  yield* injector.calm
  note("the faults have ended")
  const recovered = yield* recover(running, Fiber.join(operating), draws.fork())
  yield* answered(running, Fiber.join(asking))
  const { leader } = yield* becomeWhole(running)
  for (const id of members(leader.configuration)) {
    const { lastApplied } = yield* cluster.node(id).status
    cluster.guard(() => cluster.figure3.sawEnd(id, lastApplied))
    // Then it is seen what its table of sessions holds.
    yield* Effect.ignore(cluster.node(id).takeSnapshot)
  }
  return recovered
})

interface Options {
  /** Whether to keep one line per event. */
  readonly trace?: boolean
}

/** What is noted of a run as it goes. */
class Notes {
  readonly trace: Array<string> = []
  /** Terms in which a leader has told another server to stand. */
  readonly handedOver = new Set<number>()
  steps = 0
  readonly #simulator: Simulator
  readonly #isTraced: boolean

  constructor(simulator: Simulator, isTraced: boolean) {
    this.#simulator = simulator
    this.#isTraced = isTraced
  }

  readonly note = (text: string): void => {
    if (this.#isTraced) this.trace.push(Trace.noteText(this.#simulator.nowMs, text))
  }

  readonly observe = (observed: Observed): void => {
    this.steps++
    for (const command of observed.commands) {
      if (command._tag === "Send" && command.message._tag === "TimeoutNow") this.handedOver.add(command.message.term)
    }
    if (!this.#isTraced) return
    this.trace.push(Trace.stepText(this.#simulator.nowMs, observed))
    const changed = Trace.configurationText(observed)
    if (changed !== undefined) this.note(changed)
  }
}

/** The cluster of a run, and who changes it. */
const makeRunning = Effect.fnUntraced(function*(
  { plan, session, simulator }: Pick<Running, "plan" | "session" | "simulator">,
  seed: number,
  notes: Notes
) {
  const cluster = yield* TestCluster.make({
    size: plan.size,
    spares: plan.operator?.spares ?? 0,
    stateMachine: session.stateMachine,
    seed,
    settings: plan.settings,
    requestTimeoutMs: plan.requestTimeoutMs,
    waitingRequestsMax: plan.waitingRequestsMax,
    network: { ...plan.calm.network, after: (delayMs, arrive) => void simulator.after(delayMs, arrive) },
    observe: notes.observe
  })
  const { handedOver, note } = notes
  const injector = new Injector(cluster, plan.calm, note)
  const operator = plan.operator === undefined
    ? undefined
    : new Operator({ cluster, injector, tell: note }, plan.operator)
  const sessions = { opened: 0, retried: 0, expired: 0 }
  return { plan, simulator, cluster, injector, session, sessions, operator, handedOver }
})

/** Runs `plan` to its end, at once. */
export const run = (plan: Plan, workload: Workload, options: Options = {}): Report => {
  const draws = new Draws(Math.imul(plan.seed, 0x85ebca6b) ^ 0x5bd1e995)
  const simulator = new Simulator({ seed: draws.below(2 ** 32), yieldEveryOps: plan.yieldEveryOps })
  const notes = new Notes(simulator, options.trace === true)
  let lastNs = 0
  const nowNs = () => lastNs = Math.max(lastNs + 1, Math.round(simulator.nowMs * 1e6))
  const session = workload.start({ draws: draws.fork(), nowNs })
  let running: Running | undefined

  const program = Effect.gen(function*() {
    // Never closed: what is left over ends with the run.
    const scope = yield* Scope.make()
    const made = yield* Scope.provide(makeRunning({ plan, session, simulator }, draws.below(2 ** 32), notes), scope)
    running = made
    return yield* scenario(made, made.injector, draws, notes.note)
  })

  const endMs = endMsOf(plan)
  const violated = () =>
    running?.cluster.violation()
      ?? (simulator.nowMs > endMs ? new Violation("Liveness", `the run has not ended after ${endMs} ms`) : undefined)
  const outcome = withoutStacks(options.trace !== true, () => ended(simulator, program, violated))
  const violation = outcome instanceof Violation ? outcome : undefined
  const [finding] = violation === undefined ? session.findings() : []
  return {
    plan,
    trace: notes.trace,
    history: session.history(),
    recovery: outcome instanceof Violation ? 0 : outcome.tookMs / outcome.withinMs,
    violation: violation !== undefined
      ? { property: violation.property, detail: violation.message }
      : finding !== undefined
      ? { property: finding.split(":", 1)[0] ?? finding, detail: finding }
      : undefined,
    counts: {
      simulatedMs: simulator.nowMs,
      steps: notes.steps,
      recoveredMs: outcome instanceof Violation ? 0 : outcome.tookMs,
      ...countsOf(plan, running),
      ...session.counts()
    }
  }
}

const countsOf = (plan: Plan, running: Running | undefined) => ({
  messages: running?.cluster.network.delivered() ?? 0,
  leaders: running?.cluster.figure3.leaders.size ?? 0,
  committed: running?.cluster.figure3.committed.length ?? 0,
  faults: plan.faults.length,
  acts: plan.operator?.acts.length ?? 0,
  changed: running?.operator?.counts.changed ?? 0,
  transferred: running?.operator?.counts.transferred ?? 0,
  sessions: running?.sessions.opened ?? 0,
  retried: running?.sessions.retried ?? 0,
  expired: running?.sessions.expired ?? 0
})

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
  program: Effect.Effect<Recovered, Violation>,
  violated: () => Violation | undefined
): Recovered | Violation => {
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
