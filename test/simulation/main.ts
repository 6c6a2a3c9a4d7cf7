/**
 * `npm run simulate -- --seeds 1000`: seeded simulation of the key-value store on the real driver.
 *
 * - `--seed N` replays one seed with its trace; `--keep 3,9` only with these of its faults and acts; `--history FILE` writes what clients saw
 * - `--seeds N` runs N seeds, `--minutes M` as many as fit; from `--first N` (default 1)
 * - `--rate` measures how much faster than real time five nodes are simulated, without faults
 * - `--lines N` how many events a failure prints (default 60); `--json` prints the figures as one JSON document last
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { healthy } from "../../src/layers/TransportMemory.ts"
import { actKinds } from "../../src/testing/Operator.ts"
import * as Run from "../../src/testing/Run.ts"
import * as Simulation from "../../src/testing/Simulation.ts"
import * as Swarm from "../../src/testing/Swarm.ts"
import { workload } from "./workload.ts"

const usage =
  "usage: npm run simulate -- [--seed N [--keep 1,2] [--history FILE] | --seeds N | --minutes M | --rate] " +
  "[--first N] [--lines N] [--json]"

class UsageError extends Error {}

const wholeNumber = (name: string, text: string): number => {
  const number = Number(text)
  if (text.trim() === "" || !Number.isSafeInteger(number) || number < 0) {
    throw new UsageError(`--${name} must be a whole number, but is ${JSON.stringify(text)}`)
  }
  return number
}

const readFlags = () => {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      seeds: { type: "string" },
      minutes: { type: "string" },
      first: { type: "string", default: "1" },
      keep: { type: "string" },
      history: { type: "string" },
      lines: { type: "string" },
      rate: { type: "boolean", default: false },
      json: { type: "boolean", default: false }
    }
  })
  if (values.seed === undefined && (values.keep !== undefined || values.history !== undefined)) {
    throw new UsageError("--keep and --history need --seed")
  }
  const minutes = values.minutes === undefined ? undefined : Number(values.minutes)
  if (minutes !== undefined && !(minutes > 0)) throw new UsageError("--minutes must be a number above 0")
  const optional = (name: "seed" | "lines") => {
    const text = values[name]
    return text === undefined ? undefined : wholeNumber(name, text)
  }
  return {
    seed: optional("seed"),
    seeds: values.seeds === undefined ? (minutes === undefined ? 100 : Infinity) : wholeNumber("seeds", values.seeds),
    minutes: minutes ?? Infinity,
    first: wholeNumber("first", values.first),
    keep: values.keep?.split(",").filter((text) => text !== "").map((text) => wholeNumber("keep", text)),
    history: values.history,
    lines: optional("lines"),
    rate: values.rate,
    json: values.json
  }
}

type Flags = ReturnType<typeof readFlags>

const print = (text: string): void => void process.stdout.write(`${text}\n`)

const replayOf = ({ keep, seed }: Simulation.Failure): string =>
  `npm run simulate -- --seed ${seed} --keep ${keep.join(",") || "0"}`

const printFailure = (failure: Simulation.Failure, { lines }: Flags): void => {
  print("")
  print(Simulation.format(failure, { replay: replayOf(failure), ...(lines === undefined ? {} : { lines }) }))
}

const write = (file: string, text: string): void => {
  try {
    writeFileSync(file, text)
  } catch (error) {
    throw new UsageError(`--history cannot be written: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** One seed, as it was, with its trace. */
const replay = (seed: number, flags: Flags): number => {
  const plan = Swarm.plan(seed, flags.keep === undefined ? {} : { keep: flags.keep })
  const report = Run.run(plan, workload, { trace: true })
  if (flags.history !== undefined) write(flags.history, report.history)
  const { violation } = report
  const failure: Simulation.Failure = {
    seed,
    property: violation?.property ?? "nothing",
    detail: violation?.detail ?? "every property holds",
    keep: flags.keep ?? Swarm.numbersOf(plan),
    report
  }
  printFailure(failure, flags)
  if (flags.json) {
    const { counts } = report
    print(JSON.stringify({ simulate: "replay", seed, keep: failure.keep, violation: violation ?? null, counts }))
  }
  return violation === undefined ? 0 : 1
}

/** Five nodes with default settings on a calm network, for ten simulated minutes. */
const rate = (flags: Flags): number => {
  const drawn = Swarm.plan(1)
  const calm = { ...drawn.calm, syncDelayMs: 0, clockRates: new Map(), network: { ...healthy, delayMsMax: 2 } }
  const base: Swarm.Plan = {
    ...drawn,
    size: 5,
    settings: {},
    yieldEveryOps: 0,
    calm,
    faults: [],
    operator: undefined
  }
  const rows = [0, 1, 4].map((count) => {
    const clients = { ...drawn.clients, count, pauseMsMax: 200, burstRatio: 0 }
    Run.run({ ...base, clients, faultyMs: 20_000 }, workload)
    const startMs = performance.now()
    const { counts } = Run.run({ ...base, clients, faultyMs: 600_000 }, workload)
    const wallMs = performance.now() - startMs
    const row = {
      clients: count,
      requests: counts.done,
      timesRealTime: counts.simulatedMs / wallMs,
      stepsPerSecond: counts.steps / wallMs * 1000
    }
    print(
      `5 nodes, ${count} clients (${row.requests} requests): ${round(row.timesRealTime)} times real time, ` +
        `${round(row.stepsPerSecond)} checked steps a second`
    )
    return row
  })
  if (flags.json) print(JSON.stringify({ simulate: "rate", rows }))
  return 0
}

function* seedsFrom(first: number, count: number) {
  for (let i = 0; i < count; i++) yield first + i
}

const round = (value: number): string => Math.round(value).toLocaleString("en")

/** Many seeds, with progress. */
const campaign = (flags: Flags): number => {
  const startMs = performance.now()
  let toldMs = startMs
  const elapsedMs = () => performance.now() - startMs
  const tell = ({ runs, totals }: Simulation.Hunted): void => {
    const rate = totals.simulatedMs / elapsedMs()
    process.stderr.write(
      `${runs} seeds, ${round(totals.simulatedMs / 1000)} s simulated in ${round(elapsedMs() / 1000)} s (${
        round(rate)
      }x), ` +
        `${round(totals.steps)} steps, ${round(totals.leaders)} leaders, ${
          round(totals.committed)
        } entries committed, ${round(totals.changed)} changes, ${round(totals.transferred)} transfers, ${
          round(totals.sessions)
        } sessions, ${round(totals.retried)} retries, ${round(totals.expired)} expired\n`
    )
  }
  const hunted = Simulation.hunt(workload, {
    seeds: seedsFrom(flags.first, flags.seeds),
    onRun: (soFar) => {
      if (performance.now() - toldMs > 2000) {
        toldMs = performance.now()
        tell(soFar)
      }
      return elapsedMs() < flags.minutes * 60_000
    }
  })
  tell(hunted)
  const { acts, failure, faults, runs, slowestRecovery, totals } = hunted
  const missing = [
    ...Swarm.kinds.filter((kind) => faults[kind] === undefined),
    ...actKinds.filter((kind) => acts[kind] === undefined)
  ]
  // A campaign in which something never happens says nothing about it.
  const problems = runs < 100 || failure !== undefined ? [] : [
    ...missing.map((kind) => `no run had a ${kind}`),
    ...([
      "leaders",
      "committed",
      "done",
      "unknown",
      "notApplied",
      "changed",
      "transferred",
      "retried",
      "expired"
    ] as const)
      .filter((name) => totals[name] === 0)
      .map((name) => `nothing was ${name}`)
  ]
  if (failure !== undefined) printFailure(failure, flags)
  for (const problem of problems) print(problem)
  if (failure === undefined && problems.length === 0) {
    print(
      `${runs} seeds from ${flags.first}: every property held; the slowest recovery took ${
        Math.round(slowestRecovery * 100)
      } % of its bound`
    )
  }
  if (flags.json) {
    const found = failure === undefined
      ? null
      : { seed: failure.seed, property: failure.property, detail: failure.detail, replay: replayOf(failure) }
    const wallMs = Math.round(elapsedMs())
    print(JSON.stringify({
      simulate: "campaign",
      first: flags.first,
      runs,
      wallMs,
      timesRealTime: totals.simulatedMs / elapsedMs(),
      totals,
      faults,
      acts,
      slowestRecovery,
      failure: found,
      problems
    }))
  }
  return failure === undefined && problems.length === 0 ? 0 : 1
}

try {
  const flags = readFlags()
  process.exitCode = flags.rate ? rate(flags) : flags.seed === undefined ? campaign(flags) : replay(flags.seed, flags)
} catch (error) {
  const isUsage = error instanceof UsageError || (error instanceof TypeError && "code" in error)
  if (!isUsage) throw error
  process.stderr.write(`${error.message}\n${usage}\n`)
  process.exitCode = 2
}
