/**
 * Seeded simulation: many runs of a whole cluster, the real driver included, each with its own faults, all decided by its seed. While
 * faults last every safety property is checked; afterwards the cluster has to become whole (`Run.ts`). A failing run is repeated with
 * fewer faults as long as it fails in the same way, and printed.
 *
 * ```ts
 * it.effect("the counter survives whatever a network and a disk can do", () =>
 *   Simulation.check(Counter, {
 *     command: (draws) => ({ add: draws.between(1, 9) }),
 *     query: () => undefined
 *   }, { seeds: 100 }))
 * ```
 */
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Schema from "effect/Schema"
import type * as StateMachine from "../services/StateMachine.ts"
import * as Faults from "./Faults.ts"
import * as Operator from "./Operator.ts"
import { workloadOf, type WorkloadOptions } from "./ReducerWorkload.ts"
import * as Run from "./Run.ts"
import * as Swarm from "./Swarm.ts"
import * as Trace from "./Trace.ts"
import type { Workload } from "./Workload.ts"

/** A run that broke a property, with the fewest faults that were found to be enough. */
export interface Failure {
  readonly seed: number
  /** The property that does not hold, as `docs/PROOF.md` names it. */
  readonly property: string
  readonly detail: string
  /** The numbers of the faults and acts that matter, among those of the seed. */
  readonly keep: ReadonlyArray<number>
  readonly report: Run.Report
}

export interface Hunted {
  readonly runs: number
  /** Sums over all runs. */
  readonly totals: Run.Counts
  /** How often each kind of fault was planned. */
  readonly faults: { readonly [K in Faults.Kind]?: number }
  /** How often each kind of act of an operator was planned. */
  readonly acts: { readonly [K in Operator.ActKind]?: number }
  /** The slowest recovery, as a part of the bound: 1 would be a violation. */
  readonly slowestRecovery: number
  readonly failure: Failure | undefined
}

export interface HuntOptions {
  readonly seeds: Iterable<number>
  readonly overrides?: Swarm.Overrides
  /** Called after each run; false ends the hunt. */
  readonly onRun?: (hunted: Hunted) => boolean
  /** Whether a failure is worth repeating with fewer faults. Default true. */
  readonly shrink?: boolean
}

const none: Hunted = {
  runs: 0,
  totals: {
    simulatedMs: 0,
    steps: 0,
    messages: 0,
    leaders: 0,
    committed: 0,
    faults: 0,
    acts: 0,
    changed: 0,
    transferred: 0,
    sessions: 0,
    retried: 0,
    expired: 0,
    done: 0,
    notApplied: 0,
    unknown: 0,
    recoveredMs: 0
  },
  faults: {},
  acts: {},
  slowestRecovery: 0,
  failure: undefined
}

type Numbers = Readonly<Record<string, number>>

/** Adds up numbers by name. */
const sum = <T extends Partial<Numbers>>(a: T, b: T): T => {
  const total: Record<string, number> = {}
  for (const part of [a, b]) {
    for (const [name, count] of Object.entries(part)) total[name] = (total[name] ?? 0) + (count ?? 0)
  }
  return { ...a, ...total }
}

const join = (a: Hunted, b: Hunted): Hunted => ({
  runs: a.runs + b.runs,
  totals: sum(a.totals, b.totals),
  faults: sum(a.faults, b.faults),
  acts: sum(a.acts, b.acts),
  slowestRecovery: Math.max(a.slowestRecovery, b.slowestRecovery),
  failure: a.failure ?? b.failure
})

const huntOne = (workload: Workload, seed: number, options: Omit<HuntOptions, "seeds">): Hunted => {
  const plan = Swarm.plan(seed, options.overrides)
  const report = Run.run(plan, workload)
  const failing = options.shrink === false || report.violation === undefined ? report : shrink(report, workload)
  return {
    runs: 1,
    totals: report.counts,
    faults: plan.faults.reduce<Hunted["faults"]>((counts, { fault }) => sum(counts, { [fault._tag]: 1 }), {}),
    acts: (plan.operator?.acts ?? []).reduce<Hunted["acts"]>((counts, { kind }) => sum(counts, { [kind]: 1 }), {}),
    slowestRecovery: report.recovery,
    failure: report.violation === undefined ? undefined : failureOf(failing, workload)
  }
}

/** Runs one seed after the other until one fails. */
export const hunt = (workload: Workload, options: HuntOptions): Hunted => {
  let hunted = none
  for (const seed of options.seeds) {
    hunted = join(hunted, huntOne(workload, seed, options))
    const goesOn = options.onRun?.(hunted) ?? true
    if (!goesOn || hunted.failure !== undefined) break
  }
  return hunted
}

/** The failing run again, with its trace. */
const failureOf = ({ plan, violation }: Run.Report, workload: Workload): Failure => {
  const report = Run.run(plan, workload, { trace: true })
  const isSame = report.violation !== undefined && report.violation.property === violation?.property
  const { detail, property } = isSame
    ? report.violation
    : {
      property: "the same seed gives the same run",
      detail: `was ${violation?.detail}; is ${report.violation?.detail}`
    }
  return { seed: plan.seed, property, detail, keep: Swarm.numbersOf(plan), report }
}

/** Most runs that shrinking one failure may take. */
const shrinkRunsMax = 200

/**
 * The same failure with fewer faults and acts: halves are left out first, then quarters, down to single ones (delta debugging; Zeller 1999).
 */
export const shrink = (failing: Run.Report, workload: Workload): Run.Report => {
  let best = failing
  let numbers = Swarm.numbersOf(failing.plan)
  let runs = 0
  for (let size = Math.ceil(numbers.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < numbers.length && runs < shrinkRunsMax; runs++) {
      const fewer = numbers.toSpliced(at, size)
      const report = Run.run(Swarm.keeping(failing.plan, fewer), workload)
      if (report.violation?.property === failing.violation?.property) [best, numbers] = [report, fewer]
      else at += size
    }
  }
  return best
}

const actLines = ({ operator, size }: Swarm.Plan): ReadonlyArray<string> =>
  operator === undefined ? [] : [
    `an operator with ${operator.spares} nodes beyond n${size}; acts that matter (${operator.acts.length}):`,
    ...operator.acts.map((act) =>
      `${String(act.number).padStart(6)} ${act.atMs.toFixed(0).padStart(7)} ms  ${Operator.describe(act)}`
    )
  ]

/** The failure for people: what broke, the faults that matter, the last events, and how to see it again. */
export const format = (
  { detail, property, report, seed }: Failure,
  options: { readonly replay: string; readonly lines?: number }
): string => {
  const { plan, trace } = report
  const lines = options.lines ?? 60
  return [
    `seed ${seed} breaks: ${property}`,
    detail,
    "",
    `${plan.size} nodes; settings ${JSON.stringify(plan.settings)}; ${plan.clients.count} clients`,
    `faults that matter (${plan.faults.length}):`,
    ...plan.faults.map(({ fault, fromMs, number, toMs }) =>
      `${String(number).padStart(6)} ${fromMs.toFixed(0).padStart(7)} to ${toMs.toFixed(0).padStart(7)} ms  ${
        Faults.describe(fault)
      }`
    ),
    ...actLines(plan),
    "",
    trace.length > lines ? `the last ${lines} of ${trace.length} events:` : "all events:",
    Trace.header,
    ...trace.slice(-lines),
    "",
    `again: ${options.replay}`
  ].join("\n")
}

/** A seed broke a property; `message` is the whole report. */
export class SimulationFailed extends Schema.TaggedError<SimulationFailed>()("SimulationFailed", {
  seed: Schema.Int,
  property: Schema.String,
  /** Give it back as the option `keep`, to run the seed with only the faults that matter. */
  keep: Schema.Array(Schema.Int),
  message: Schema.String
}) {}

export interface CheckOptions extends Swarm.Overrides {
  /** How many seeds, default 50; the first is `firstSeed`, default 1. */
  readonly seeds?: number
  readonly firstSeed?: number
}

/**
 * Runs clusters of your state machine under faults, one seed after the other. Fails with the first seed whose run broke a property; its
 * message says which, shows the last events, and how to run that seed alone.
 */
export const check = <S, C, R, Q, A>(
  machine: StateMachine.Machine<S, C, R, Q, A>,
  workload: WorkloadOptions<C, R, Q, A>,
  options: CheckOptions = {}
): Effect.Effect<Hunted, SimulationFailed> =>
  Effect.gen(function*() {
    const { firstSeed = 1, seeds = 50, ...overrides } = options
    const made = workloadOf(machine, workload)
    let hunted = none
    for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
      hunted = join(hunted, huntOne(made, seed, { overrides }))
      const { failure } = hunted
      if (failure !== undefined) {
        const again = Formatter.format({ ...overrides, firstSeed: seed, seeds: 1, keep: failure.keep })
        const replay = `Simulation.check(machine, workload, ${again})`
        const message = format(failure, { replay })
        return yield* new SimulationFailed({ seed, property: failure.property, keep: failure.keep, message })
      }
      // Tests time out and are interrupted between runs.
      yield* Effect.yieldNow
    }
    return hunted
  })
