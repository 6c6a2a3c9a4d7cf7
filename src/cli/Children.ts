/**
 * Child processes of `titan dev`: each a server with its output prefixed by its name. They do not outlive this process: it stops them when
 * it ends, and where it cannot, their channel to it closes and they stop by themselves (`--stop-with-parent`).
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import type { Readable } from "node:stream"

/** A server to start, with its command line. */
export interface Server {
  readonly id: string
  readonly args: ReadonlyArray<string>
}

export interface Child extends Server {
  /** Succeeds once the process is gone, with how it went. */
  readonly gone: Effect.Effect<string>
}

const killAfterMs = 5000
const colours = [36, 33, 35, 32, 34]

const prefixed = (id: string, position: number): string =>
  process.stdout.isTTY ? `\u001B[${colours[position % colours.length]}m${id}\u001B[0m | ` : `${id} | `

const forward = (from: Readable | null, to: NodeJS.WritableStream, prefix: string): void => {
  if (from === null) return
  createInterface({ input: from }).on("line", (line) => to.write(`${prefix}${line}\n`))
}

const goneOf = (child: ChildProcess): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const onExit = (code: number | null, signal: string | null) =>
      resume(Effect.succeed(signal === null ? `stopped with exit code ${code}` : `was stopped by ${signal}`))
    if (child.exitCode !== null || child.signalCode !== null) return onExit(child.exitCode, child.signalCode)
    child.once("exit", onExit)
    child.once("error", (error) => resume(Effect.succeed(`could not be started: ${error.message}`)))
    return Effect.sync(() => child.off("exit", onExit))
  })

/**
 * Its channel to this process closes, and the server stops without handing over its leadership: the others stop as well, and one would hand over
 * to the next.
 */
const stop = (child: ChildProcess): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (child.connected) child.disconnect()
    else child.kill("SIGTERM")
    return Effect.timeoutOrElse(goneOf(child), {
      duration: killAfterMs,
      orElse: () =>
        Effect.suspend(() => {
          child.kill("SIGKILL")
          return goneOf(child)
        })
    })
  }).pipe(Effect.asVoid)

const spawned = ({ args, id }: Server, position: number): ChildProcess => {
  const child = spawn(process.execPath, args, { detached: true, stdio: ["ignore", "pipe", "pipe", "ipc"] })
  const prefix = prefixed(id, position)
  forward(child.stdout, process.stdout, prefix)
  forward(child.stderr, process.stderr, prefix)
  child.on("error", (error) => process.stderr.write(`${prefix}${error.message}\n`))
  return child
}

/** Starts servers, each in a session of its own, so that Ctrl-C reaches them through this process alone. They end together, with the scope. */
export const start = (servers: ReadonlyArray<Server>): Effect.Effect<ReadonlyArray<Child>, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => servers.map((server, position) => ({ server, process: spawned(server, position) }))),
    (children) => Effect.forEach(children, (child) => stop(child.process), { concurrency: "unbounded", discard: true })
  ).pipe(
    Effect.map((children) =>
      children.map(({ process: child, server: { args, id } }) => ({ id, args, gone: goneOf(child) }))
    )
  )
