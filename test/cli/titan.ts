/** The built command line as a process: `node dist/main.js …`, as users run it. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const root = join(import.meta.dirname, "../..")
export const mainPath = join(root, "dist/main.js")
const node = join(root, "node_modules/.bin/node")

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Options {
  readonly env?: Record<string, string>
  readonly stdin?: string
  readonly cwd?: string
  readonly node?: string
}

export interface Running {
  readonly process: ChildProcess
  /** Resolves with everything printed so far once it matches. */
  readonly printed: (pattern: RegExp) => Effect.Effect<string>
  readonly ended: Effect.Effect<Ended>
}

const plainEnv = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TITAN_")))

/** Starts `titan` with `args`; killed with the scope if it still runs. */
export const start = (
  args: ReadonlyArray<string>,
  options: Options = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(options.node ?? node, [mainPath, ...args], {
        cwd: options.cwd ?? tmpdir(),
        env: { ...plainEnv, ...options.env },
        stdio: "pipe"
      })
      const out = { stdout: "", stderr: "" }
      for (const name of ["stdout", "stderr"] as const) {
        child[name].setEncoding("utf8").on("data", (text: string) => {
          out[name] += text
        })
      }
      child.stdin.on("error", () => undefined)
      child.stdin.end(options.stdin ?? "")
      let code: number | null | undefined
      child.once("close", (exitCode) => {
        code = exitCode
      })
      const ended = Effect.callback<Ended>((resume) => {
        const done = () => resume(Effect.succeed({ code: code ?? null, ...out }))
        if (code !== undefined) done()
        else child.once("close", done)
      })
      const printed = (pattern: RegExp) =>
        Effect.callback<string>((resume) => {
          const look = () => {
            if (pattern.test(out.stdout + out.stderr)) resume(Effect.succeed(out.stdout + out.stderr))
            else if (code !== undefined) resume(Effect.die(new Error(`ended with ${code}: ${out.stdout}${out.stderr}`)))
          }
          child.stdout.on("data", look)
          child.stderr.on("data", look)
          child.once("close", look)
          look()
        })
      return { process: child, printed, ended }
    }),
    ({ ended, process }) =>
      Effect.suspend(() => {
        process.kill("SIGKILL")
        return ended
      })
  )

/** Runs `titan` with `args` to its end. */
export const run = (args: ReadonlyArray<string>, options: Options = {}): Effect.Effect<Ended> =>
  Effect.scoped(Effect.flatMap(start(args, options), ({ ended }) => ended))

export const directory: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "titan-cli-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

export { freePorts } from "../processes/LocalCluster.ts"
