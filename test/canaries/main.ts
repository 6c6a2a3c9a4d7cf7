/**
 * `npm run canaries [-- --only V1,L2a] [-- --jobs N] [-- --json]`: every canary in a process of its own, after every check was seen to be
 * clean without any. Fails where one survives, is stale, or is found only by something else than it should be.
 */
import { spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { canaries, type Canary, type Check, innocent, seedsMax } from "./canaries.ts"
import { occurrences, root } from "./substitute.ts"
import { type Outcome, problemOf, type Verdict, verdict } from "./verdict.ts"

const usage = "usage: npm run canaries [-- --only V1,L2a] [--jobs N] [--json]"

const isNamed = (canary: Canary, names: ReadonlyArray<string>): boolean =>
  names.includes(canary.id) || names.includes(canary.rule)

const flags = (() => {
  try {
    const { values } = parseArgs({
      options: {
        only: { type: "string" },
        jobs: { type: "string", default: "2" },
        json: { type: "boolean", default: false }
      }
    })
    const jobs = Number(values.jobs)
    if (!Number.isInteger(jobs) || jobs < 1) {
      throw new Error(`--jobs must be a whole number above 0, but is ${values.jobs}`)
    }
    const names = values.only?.split(",") ?? []
    const unknown = names.filter((name) => ![...canaries, innocent].some((canary) => isNamed(canary, [name])))
    if (unknown.length > 0) throw new Error(`--only names what is no canary and no rule: ${unknown.join(", ")}`)
    const chosen = names.length === 0 ? canaries : [...canaries, innocent].filter((canary) => isNamed(canary, names))
    return { chosen, jobs, json: values.json }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}\n`)
    process.exit(2)
  }
})()

const childMsMax = 900_000

/** What the child program is asked to run. */
const namesOf = (check: Check): ReadonlyArray<string> => {
  switch (check.caughtBy) {
    case "simulation":
      return ["simulation", String(seedsMax)]
    case "model":
      return ["model", check.bound]
    case "tests":
      return ["tests", ...check.tests]
    default:
      return check satisfies never
  }
}

const isReport = (line: string): boolean => line.startsWith(`{"runs":`)

/** Runs one check in a process of its own, with the bug of `canary` where there is one. */
const hunt = (names: ReadonlyArray<string>, canary?: Canary): Promise<Outcome> =>
  new Promise((done) => {
    const child = spawn(
      process.execPath,
      ["--import", join(root, "test/canaries/substitute.ts"), join(root, "test/canaries/hunt.ts"), ...names],
      {
        cwd: root,
        env: { ...process.env, NO_COLOR: "1", ...(canary === undefined ? {} : { TITAN_CANARY: canary.id }) },
        stdio: ["ignore", "pipe", "pipe"],
        timeout: childMsMax,
        killSignal: "SIGKILL"
      }
    )
    let [output, errors] = ["", ""]
    child.stdout.on("data", (bytes) => output += String(bytes))
    child.stderr.on("data", (bytes) => errors += String(bytes))
    child.on("close", (code, signal) => {
      const line = output.trimEnd().split("\n").findLast(isReport)
      if (signal === "SIGKILL") done({ _tag: "TimedOut", afterMs: childMsMax })
      else if (code === 0 && line !== undefined) done({ _tag: "Reported", report: JSON.parse(line) })
      else done({ _tag: "Crashed", detail: errors.trim().split("\n").slice(0, 3).join(" ") || `exit code ${code}` })
    })
  })

/** `work` on every item, `flags.jobs` at a time; `onDone` in the order of the items. */
const inParallel = async <A, B>(
  items: ReadonlyArray<A>,
  work: (item: A) => Promise<B>,
  onDone: (done: B) => void
): Promise<ReadonlyArray<B>> => {
  const results: Array<B | undefined> = items.map(() => undefined)
  let [next, told] = [0, 0]
  const worker = async () => {
    for (let at = next++; at < items.length; at = next++) {
      const item = items[at]
      if (item === undefined) continue
      results[at] = await work(item)
      for (let result = results[told]; result !== undefined; result = results[++told]) onDone(result)
    }
  }
  await Promise.all(Array.from({ length: flags.jobs }, worker))
  return results.flatMap((result) => result === undefined ? [] : [result])
}

const timed = async <A>(run: () => Promise<A>): Promise<readonly [A, number]> => {
  const start = performance.now()
  const value = await run()
  return [value, Math.round((performance.now() - start) / 100) / 10]
}

const print = (text: string): void => void process.stdout.write(`${text}\n`)

interface Control {
  readonly check: string
  readonly problem: string | undefined
  readonly seconds: number
}

/** Each check that some canary relies on, once: the longest simulation, every bound, every file of tests. */
const controls = (chosen: ReadonlyArray<Canary>): ReadonlyArray<ReadonlyArray<string>> => {
  const isSimulated = chosen.some((canary) => canary.caughtBy === "simulation")
  const bounds = new Set(chosen.flatMap((canary) => canary.caughtBy === "model" ? [canary.bound] : []))
  const tests = new Set(chosen.flatMap((canary) => canary.caughtBy === "tests" ? canary.tests : []))
  return [
    ...(isSimulated ? [["simulation", String(seedsMax)]] : []),
    ...[...bounds].map((bound) => ["model", bound]),
    ...(tests.size > 0 ? [["tests", ...tests]] : [])
  ]
}

const control = async (names: ReadonlyArray<string>): Promise<Control> => {
  const [outcome, seconds] = await timed(() => hunt(names))
  return {
    check: names[0] === "tests" ? `tests (${names.length - 1} files)` : names.join(" "),
    problem: problemOf(outcome),
    seconds
  }
}

interface Row extends Verdict {
  readonly canary: Canary
  readonly seconds: number
}

const release = async (canary: Canary): Promise<Row> => {
  const count = occurrences(canary, readFileSync(join(root, canary.file), "utf8"))
  const [outcome, seconds] = count === 1
    ? await timed(() => hunt(namesOf(canary), canary))
    : [{ _tag: "Stale", occurrences: count } as const, 0]
  return { canary, seconds, ...verdict(canary, outcome) }
}

const rowText = ({ canary, found, isCaught, needed, seconds }: Row): string =>
  [
    `${isCaught ? "caught" : "MISSED"}  ${canary.rule.padEnd(8)} ${canary.id.padEnd(9)} ${canary.bug}`,
    `${" ".repeat(27)}${canary.caughtBy}: ${found} [${needed === "" ? "" : `${needed}, `}${seconds.toFixed(1)} s]`
  ].join("\n")

const document = (control: ReadonlyArray<Control>, rows: ReadonlyArray<Row>) => ({
  canaries: rows.length,
  caught: rows.filter((row) => row.isCaught).length,
  control: control.map(({ check, problem, seconds }) => ({ check, isClean: problem === undefined, problem, seconds })),
  rows: rows.map(({ canary: { bug, caughtBy, id, rule }, found, isCaught, needed, seconds }) => ({
    rule,
    canary: id,
    bug,
    isCaught,
    caughtBy,
    found,
    needed,
    seconds
  }))
})

const { chosen, json } = flags
const clean = await inParallel(
  controls(chosen),
  control,
  ({ check, problem, seconds }) =>
    print(
      `${problem === undefined ? "clean " : "BROKEN"}  ${check}${problem === undefined ? "" : `: ${problem}`} [${
        seconds.toFixed(1)
      } s]`
    )
)
// What finds something where nothing is broken says nothing about a bug.
const rows = clean.every(({ problem }) => problem === undefined)
  ? await inParallel(chosen, release, (row) => print(rowText(row)))
  : []
const caught = rows.filter((row) => row.isCaught).length
print(`${caught} of ${chosen.length} canaries are caught`)
if (json) print(JSON.stringify(document(clean, rows)))
process.exit(caught === chosen.length ? 0 : 1)
