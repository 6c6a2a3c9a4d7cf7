/**
 * Runs one check, with the bug of `TITAN_CANARY` in place where that is set, and prints what it found as one line of JSON.
 *
 * ```sh
 * node --import ./test/canaries/substitute.ts test/canaries/hunt.ts tests test/domain/votes.test.ts
 * ```
 */
import { join } from "node:path"
import type { TestModule } from "vitest/node"
import { root, wasLoaded } from "./substitute.ts"

export interface Finding {
  /** The property that does not hold, or the title of the test that fails. */
  readonly property: string
  readonly detail: string
}

export interface Report {
  /** Seeds run or states visited up to the first finding; of tests, all that were run. */
  readonly runs: number
  readonly findings: ReadonlyArray<Finding>
  /** Whether the bug was in place; of no meaning in a run without one. */
  readonly isLoaded: boolean
}

type Found = Pick<Report, "runs" | "findings">

const detailOf = (errors: ReadonlyArray<{ readonly name?: string; readonly message: string }>): string =>
  errors.map(({ message, name }) => `${name ?? "Error"}: ${message.split("\n")[0]}`).join("; ")

const findingsOf = (module: TestModule): ReadonlyArray<Finding> => [
  // A file that cannot even be loaded has run no test.
  ...module.errors().map((error) => ({ property: module.moduleId, detail: `cannot be loaded: ${detailOf([error])}` })),
  ...[...module.children.allTests("failed")].map((test) => ({
    property: test.fullName,
    detail: detailOf(test.result().errors ?? [])
  }))
]

const tests = async (files: ReadonlyArray<string>): Promise<Found> => {
  const { startVitest } = await import("vitest/node")
  // In this very process, so that it is known whether the bug was put in place.
  const vitest = await startVitest([...files], {
    config: join(root, "test/canaries/vitest.config.ts"),
    watch: false,
    reporters: [{}]
  })
  const modules = vitest.state.getTestModules()
  const unhandled = vitest.state.getUnhandledErrors()
  return {
    runs: modules.reduce((sum, module) => sum + [...module.children.allTests()].length, 0),
    findings: [
      ...modules.flatMap(findingsOf),
      ...unhandled.map((error) => ({ property: "nothing is thrown outside of tests", detail: String(error) }))
    ]
  }
}

const simulation = async (seeds: string | undefined): Promise<Found> => {
  const { hunt } = await import("../simulation/hunt.ts")
  const { found, runs } = hunt({ firstSeed: 1, seeds: Number(seeds) })
  return { runs, findings: found === undefined ? [] : [{ ...found, detail: `seed ${found.seed}: ${found.detail}` }] }
}

const model = async (bound: string | undefined): Promise<Found> => {
  const [{ byName }, { explore }] = [await import("../model/bounds.ts"), await import("../model/Search.ts")]
  const bounds = byName(bound ?? "")
  if (bounds === undefined) throw new Error(`there is no bound ${bound}`)
  const { states, violation } = explore(bounds)
  if (violation === undefined) return { runs: states, findings: [] }
  const { detail, property, trace } = violation
  return { runs: states, findings: [{ property, detail: `after ${trace.length - 1} actions: ${detail}` }] }
}

const run = async (check: string | undefined, names: ReadonlyArray<string>): Promise<Found> => {
  switch (check) {
    case "tests":
      return await tests(names)
    case "simulation":
      return await simulation(names[0])
    case "model":
      return await model(names[0])
    default:
      throw new Error(`there is no check ${check}`)
  }
}

const [check, ...names] = process.argv.slice(2)
const report: Report = { ...await run(check, names), isLoaded: wasLoaded() }
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0))
