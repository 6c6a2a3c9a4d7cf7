/**
 * `npm run simulate` as a process: what it prints, what it writes, and how it ends.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as History from "../../src/testing/History.ts"
import * as KeyValueModel from "../../src/testing/KeyValueModel.ts"
import * as Run from "../../src/testing/Run.ts"
import * as Swarm from "../../src/testing/Swarm.ts"
import { workload } from "./workload.ts"

const main = join(import.meta.dirname, "main.ts")

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const runNode = (args: ReadonlyArray<string>) =>
  Effect.callback<Ended>((resume) => {
    const child = spawn(process.execPath, args, { cwd: tmpdir(), stdio: ["ignore", "pipe", "pipe"] })
    const out = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => void (out[name] += text))
    }
    child.once("close", (code) => resume(Effect.succeed({ code, ...out })))
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

const simulate = (...args: ReadonlyArray<string>) => runNode([main, ...args])

/** The same with a core in which one vote wins an election. */
const simulateSpoiled = (...args: ReadonlyArray<string>) => {
  const hook = `
    import { registerHooks } from "node:module"
    registerHooks({
      load: (url, context, nextLoad) => {
        const loaded = nextLoad(url, context)
        if (!url.endsWith("/src/domain/Quorum.ts")) return loaded
        const text = String(loaded.source)
        if (!text.includes("granted >= needed")) throw new Error("Quorum.ts has changed")
        return { ...loaded, source: text.replace("granted >= needed", "granted >= 1") }
      }
    })`
  return runNode(["--import", `data:text/javascript,${encodeURIComponent(hook)}`, main, ...args])
}

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "titan-simulate-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

const lastLineOf = (text: string): string => text.trimEnd().split("\n").at(-1) ?? ""

const traced = (seed: number, overrides: Swarm.Overrides = {}) =>
  Run.run(Swarm.plan(seed, overrides), workload, { trace: true })

describe("a usage error", () => {
  const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
    [["--seed", "x"], /^--seed must be a whole number, but is "x"$/m],
    [["--seeds", "1.5"], /^--seeds must be a whole number, but is "1\.5"$/m],
    [["--seed", "1", "--keep", "1,b"], /^--keep must be a whole number, but is "b"$/m],
    [["--seed", "1", "--lines=-3"], /^--lines must be a whole number, but is "-3"$/m],
    [["--minutes", "0"], /^--minutes must be a number above 0$/m],
    [["--keep", "1"], /^--keep and --history need --seed$/m],
    [["--seeds", "2", "--history", "file"], /^--keep and --history need --seed$/m],
    [["--seed"], /--seed/],
    [["7"], /7/]
  ]

  it.live(
    "ends with 2, says what is wrong and how it is used, and runs nothing",
    () =>
      Effect.forEach(wrong, ([args, message]) =>
        Effect.map(simulate(...args), ({ code, stderr, stdout }) => {
          assert.strictEqual(code, 2, args.join(" "))
          assert.match(stderr, message)
          assert.match(lastLineOf(stderr), /^usage: npm run simulate -- \[--seed N/)
          assert.strictEqual(stdout, "")
        }), { concurrency: 2, discard: true }),
    60_000
  )
})

describe("--seed", () => {
  it.live("replays the run of that seed: its faults, and its events as lines in columns", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* simulate("--seed", "3", "--lines", "100000")
      const { plan, trace } = traced(3)
      assert.strictEqual(code, 0)
      assert.include(stdout, "seed 3 breaks: nothing\nevery property holds\n")
      assert.include(stdout, `faults that matter (${plan.faults.length}):`)
      assert.include(stdout, trace.join("\n"))
      const lines = stdout.split("\n")
      const header = lines.findIndex((line) => line.startsWith("    time ms node role         term event"))
      assert.isAbove(header, 0)
      const step = /^ *\d+\.\d{3} n\d {3}(?:Follower|PreCandidate|Candidate|Leader) +\d+ \S.*$/
      const note = /^ *\d+\.\d{3} {24}\S.*$/
      for (const line of lines.slice(header + 1, header + 1 + trace.length)) {
        assert.isTrue(step.test(line) || note.test(line), line)
        assert.strictEqual(line.slice(0, 11).trimStart(), Number(line.slice(0, 11)).toFixed(3))
      }
    }))

  it.live("prints the last of the events, as many as --lines says, and how to see it again", () =>
    Effect.gen(function*() {
      const { stdout } = yield* simulate("--seed", "3", "--lines", "5", "--keep", "2,1")
      const { trace } = traced(3, { keep: [1, 2] })
      assert.include(stdout, `the last 5 of ${trace.length} events:`)
      assert.include(stdout, "again: npm run simulate -- --seed 3 --keep 2,1")
      const lines = stdout.trimEnd().split("\n")
      assert.deepStrictEqual(lines.slice(-7, -2), trace.slice(-5))
    }))

  it.live("--keep runs it with those of its faults alone, and without any for a number that none has", () =>
    Effect.gen(function*() {
      const { faults } = Swarm.plan(3)
      assert.isAbove(faults.length, 7)
      const [some, none] = yield* Effect.all([
        simulate("--seed", "3", "--keep", "2,7"),
        simulate("--seed", "3", "--keep", "0")
      ], { concurrency: 2 })
      const kept = [...some.stdout.matchAll(/^ +(\d+) +\d+ to +\d+ ms {2}/gm)].map((match) => Number(match[1]))
      assert.deepStrictEqual(kept, [2, 7])
      assert.include(none.stdout, "faults that matter (0):")
      assert.deepStrictEqual([some.code, none.code], [0, 0])
    }))

  it.live("--history writes what the clients saw, one record a line, which the checker takes", () =>
    Effect.gen(function*() {
      const file = join(yield* directory, "history.jsonl")
      const { code } = yield* simulate("--seed", "7", "--history", file)
      assert.strictEqual(code, 0)
      const text = readFileSync(file, "utf8")
      assert.strictEqual(text, traced(7).history)
      const history = Result.getOrThrow(History.parseJsonLines(text))
      assert.isAbove(history.length, 50)
      assert.strictEqual(history.length, text.trimEnd().split("\n").length)
      assert.deepStrictEqual(KeyValueModel.check(history), [])
    }))

  it.live("--json prints one document last: the seed, what broke, and the counts", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* simulate("--seed", "3", "--json", "--keep", "1")
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(JSON.parse(lastLineOf(stdout)), {
        simulate: "replay",
        seed: 3,
        keep: [1],
        violation: null,
        counts: traced(3, { keep: [1] }).counts
      })
    }))
})

describe("--seeds", () => {
  it.live("runs as many from --first on, says that every property held, and ends with 0", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* simulate("--seeds", "3", "--first", "2")
      assert.strictEqual(code, 0)
      assert.match(
        stdout,
        /^3 seeds from 2: every property held; the slowest recovery took \d+ % of its bound\n$/
      )
      assert.match(lastLineOf(stderr), /^3 seeds, \d+ s simulated in \d+ s \(\d+x\), [\d,]+ steps, \d+ leaders, /)
    }))

  it.live("--json prints one document last: the figures of all runs", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* simulate("--seeds", "2", "--first", "2", "--json")
      assert.strictEqual(code, 0)
      const figures: Record<string, unknown> = JSON.parse(lastLineOf(stdout))
      const counts = [2, 3].map((seed) => Run.run(Swarm.plan(seed), workload).counts)
      const sum = (name: keyof Run.Counts) => counts.reduce((total, each) => total + each[name], 0)
      assert.deepInclude(figures, {
        simulate: "campaign",
        first: 2,
        runs: 2,
        failure: null,
        problems: []
      })
      assert.deepNestedInclude(figures, { "totals.steps": sum("steps"), "totals.done": sum("done") })
      assert.strictEqual(stdout.trimEnd().split("\n").length, 2)
    }))

  it.live("--minutes ends when the time is over, after a run at least", () =>
    Effect.gen(function*() {
      const { code, stdout } = yield* simulate("--minutes", "0.0001")
      assert.strictEqual(code, 0)
      assert.match(stdout, /^\d+ seeds from 1: every property held/)
    }))
})

describe("a property that does not hold", () => {
  it.live(
    "ends a campaign with 1: what broke, the faults that matter, the last events, and how to see it again",
    () =>
      Effect.gen(function*() {
        const { code, stdout } = yield* simulateSpoiled("--seeds", "30", "--lines", "4", "--json")
        assert.strictEqual(code, 1, stdout)
        const { failure, runs }: {
          readonly runs: number
          readonly failure: { readonly seed: number; readonly property: string; readonly replay: string }
        } = JSON.parse(lastLineOf(stdout))
        assert.strictEqual(failure.seed, runs)
        assert.include(stdout, `seed ${failure.seed} breaks: ${failure.property}\n${failure.property}: `)
        assert.match(stdout, /^faults that matter \(\d+\):$/m)
        assert.match(stdout, /^the last 4 of \d+ events:$/m)
        assert.include(stdout, `again: ${failure.replay}\n`)
        assert.notInclude(stdout, "every property held")

        const args = failure.replay.replace("npm run simulate -- ", "").split(" ")
        const again = yield* simulateSpoiled(...args, "--json")
        assert.strictEqual(again.code, 1)
        const { violation }: { readonly violation: { readonly property: string } } = JSON.parse(
          lastLineOf(again.stdout)
        )
        assert.strictEqual(violation.property, failure.property)
        // The core as it is has no such run.
        assert.strictEqual((yield* simulate(...args)).code, 0)
      }),
    60_000
  )
})
