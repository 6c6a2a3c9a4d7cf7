/**
 * Searches what the core can do within a bound: `node test/model/main.ts [--bound NAME] [--json]`.
 */
import { parseArgs } from "node:util"
import { type Bounds, budgets, custom, limits, problems, type Wish, wishes } from "./bound.ts"
import { byName, named } from "./bounds.ts"
import { always, type Sometimes, sometimes } from "./Properties.ts"
import { explore, isPassed, type Progressed, type Result } from "./Search.ts"

const usage = `Usage: node test/model/main.ts [options]

  --bound NAME         one of: ${named.map((bounds) => bounds.name).join(", ")}
  --nodes N --terms N --log N --messages N --depth N
                       the largest of each in a state
  --crashes N --drops N --duplicates N --proposals N --reads N
  --heartbeats N --timeouts N --losses N --snapshots N --damages N
  --asks N --repeats N --changes N --transfers N
                       how often each may happen on one path (timeouts: 7 is no limit)
  --learners N --newcomers N
                       how many of the nodes are learners, or belong to no cluster, at first
  --wish NAME          what may be asked of the configuration, if not all of: ${wishes.join(", ")}
  --led                begins where the first node leads
  --append-entries N --inflight N --log-tail N
                       appendEntriesMax, inflightMessagesMax and logTailEntriesMax
  --pre-vote           with pre-vote, check-quorum and leader stickiness
  --wait-for-disk      a server waits for its disk at every write
  --torn               a crash leaves any beginning of a write
  --minutes N          gives up after so long, and says so
  --json               prints the result as one JSON document, last
  --help

Without a bound and without any of its parts it searches those that npm test does.
`

class Misuse extends Error {}

const numbers = [
  ...budgets,
  ...limits,
  "learners",
  "newcomers",
  "append-entries",
  "inflight",
  "log-tail",
  "minutes"
] as const

const parse = (args: ReadonlyArray<string>) => {
  const flag = { type: "boolean" } as const
  const text = { type: "string" } as const
  try {
    return parseArgs({
      args: [...args],
      options: {
        bound: text,
        json: flag,
        help: flag,
        "pre-vote": flag,
        "wait-for-disk": flag,
        torn: flag,
        led: flag,
        wish: { type: "string", multiple: true } as const,
        ...Object.fromEntries(numbers.map((name) => [name, text] as const))
      }
    }).values
  } catch (error) {
    throw new Misuse(error instanceof Error ? error.message : String(error))
  }
}

type Given = Readonly<Record<string, string | boolean | ReadonlyArray<string> | undefined>>

const numberIn = (given: Given, name: string): number | undefined => {
  const value = given[name]
  if (value === undefined) return undefined
  if (typeof value !== "string" || !/^\d+(\.\d+)?$/.test(value)) {
    throw new Misuse(`--${name} wants a number, but got ${String(value)}`)
  }
  return Number(value)
}

const wishesIn = (asked: Given[string]): ReadonlyArray<Wish> => {
  const names = Array.isArray(asked) ? asked.map(String) : wishes
  return names.map((name) => {
    const wish = wishes.find((one) => one === name)
    if (wish === undefined) throw new Misuse(`no wish ${name}; there are ${wishes.join(", ")}`)
    return wish
  })
}

const overridesIn = (given: Given): Partial<Bounds> => {
  const found: Array<readonly [string, unknown]> = [...budgets, ...limits].map((name) => [name, numberIn(given, name)])
  found.push(
    ["appendEntriesMax", numberIn(given, "append-entries")],
    ["inflightMessagesMax", numberIn(given, "inflight")],
    ["logTailEntriesMax", numberIn(given, "log-tail")]
  )
  found.push(["learners", numberIn(given, "learners")], ["newcomers", numberIn(given, "newcomers")])
  if (given["led"] === true) found.push(["begins", "led"])
  if (given["changes"] !== undefined || given["wish"] !== undefined) found.push(["wishes", wishesIn(given["wish"])])
  if (given["pre-vote"] === true) found.push(["elections", "pre-vote"])
  if (given["wait-for-disk"] === true) found.push(["disks", "waited for"])
  if (given["torn"] === true) found.push(["torn", true])
  return Object.fromEntries(found.filter(([, value]) => value !== undefined))
}

const boundsIn = (given: Given): ReadonlyArray<Bounds> => {
  const overrides = overridesIn(given)
  const isChanged = Object.keys(overrides).length > 0
  if (given["bound"] === undefined) return isChanged ? [custom(overrides)] : named.filter((bounds) => bounds.inTests)
  const bounds = byName(String(given["bound"]))
  if (bounds === undefined) {
    throw new Misuse(`no bound ${String(given["bound"])}; there are ${named.map(({ name }) => name).join(", ")}`)
  }
  return [isChanged ? { ...bounds, ...overrides, name: `${bounds.name}, changed` } : bounds]
}

const out = (text: string): void => void process.stdout.write(`${text}\n`)

const count = (value: number): string => value.toLocaleString("en-US").padStart(15)

const printBounds = (bounds: Bounds): void => {
  out(`\n${bounds.name}: ${bounds.about}`)
  out(`  at most     ${limits.map((name) => `${name} ${bounds[name]}`).join(", ")}`)
  const spent = budgets.filter((name) => bounds[name] > 0)
  out(`  on a path   ${spent.map((name) => `${name} ${bounds[name] === 7 ? "any" : bounds[name]}`).join(", ")}`)
  out(
    `  with        ${bounds.elections} elections, disks ${bounds.disks}, ${bounds.torn ? "torn" : "whole"} writes, `
      + `appendEntriesMax ${bounds.appendEntriesMax}, inflightMessagesMax ${bounds.inflightMessagesMax}, `
      + `logTailEntriesMax ${bounds.logTailEntriesMax}`
  )
  if (bounds.wishes.length === 0 && bounds.begins === "new") return
  const first = bounds.begins === "led" ? "a leader" : "all new"
  const others = `${bounds.learners} learners, ${bounds.newcomers} newcomers`
  out(`  begins with ${first}, ${others}; may be asked to ${bounds.wishes.join(", ") || "change nothing"}`)
}

const printProgress = ({ frontier, level, ms, states }: Progressed): void => {
  const rate = Math.round(states / ms * 1000)
  process.stderr.write(
    `  level ${level}, ${states.toLocaleString("en-US")} states, frontier ${frontier.toLocaleString("en-US")}, ${
      rate.toLocaleString("en-US")
    } states/s\n`
  )
}

const printResult = (bounds: Bounds, result: Result): void => {
  out("  always")
  for (const name of always) out(`${count(result.always[name])}  ${name}`)
  out("  sometimes")
  for (const name of sometimes) out(`${count(result.sometimes[name])}  ${name}${noteOn(bounds, result, name)}`)
  const cut = Object.entries(result.cut).filter(([, times]) => times > 0)
  out(
    `  cut at the bound: ${
      cut.map(([name, times]) => `${name} ${times.toLocaleString("en-US")}`).join(", ") || "nothing"
    }`
  )
  out(
    `  ${result.states.toLocaleString("en-US")} states, ${
      result.transitions.toLocaleString("en-US")
    } transitions, depth ${result.depth}, ${(result.ms / 1000).toFixed(1)} s, ${
      Math.round(result.states / result.ms * 1000).toLocaleString("en-US")
    } states/s`
  )
  out(`  two of them taken for one with odds of ${result.collisionOdds.toExponential(1)} (64-bit fingerprints)`)
  const { violation } = result
  if (violation !== undefined) {
    out(`\n  VIOLATION of "${violation.property}": ${violation.detail}\n`)
    for (const line of violation.trace) out(`  ${line}`)
  } else if (!result.exhausted) out("  time is up: not everything within the bound was explored")
  if (result.missing.length > 0) out(`  NOT REACHED: ${result.missing.join("; ")}`)
}

const noteOn = (bounds: Bounds, result: Result, name: Sometimes): string =>
  bounds.sometimes.includes(name) ? (result.sometimes[name] > 0 ? "" : "   <- must be reached") : "   (not asked here)"

const run = (): number => {
  const given: Given = parse(process.argv.slice(2))
  if (given["help"] === true) {
    process.stdout.write(usage)
    return 0
  }
  const all = boundsIn(given)
  const wrong = all.flatMap(problems)
  if (wrong.length > 0) throw new Misuse(wrong.join("; "))
  const minutes = numberIn(given, "minutes")
  const results = all.map((bounds) => {
    printBounds(bounds)
    const result = explore(bounds, { progress: printProgress, ...(minutes === undefined ? {} : { minutes }) })
    printResult(bounds, result)
    return { bounds, result }
  })
  if (given["json"] === true) out(JSON.stringify(results.length === 1 ? results[0] : results))
  return results.every(({ result }) => isPassed(result)) ? 0 : 1
}

try {
  process.exitCode = run()
} catch (error) {
  if (!(error instanceof Misuse)) throw error
  process.stderr.write(`${error.message}\nTry --help.\n`)
  process.exitCode = 2
}
