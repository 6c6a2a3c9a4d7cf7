/**
 * A cluster of real processes on loopback, from `dist/`, with its logs on disk: what tests kill and benchmarks load.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:net"
import { join, resolve } from "node:path"

const main = resolve(import.meta.dirname, "../../dist/main.js")

export class NotReady extends Data.TaggedError("NotReady")<{ readonly message: string }> {}

export interface LocalNode {
  readonly id: string
  readonly url: string
  readonly dataDir: string
  /** Starts the process, with the same command each time. */
  readonly start: Effect.Effect<void>
  /** Sends the signal and waits for the process to end; its exit code, or null where the signal ended it. */
  readonly stop: (signal: NodeJS.Signals) => Effect.Effect<number | null>
  /** Waits for the process to end by itself; its exit code. */
  readonly ended: Effect.Effect<number | null>
  readonly isRunning: () => boolean
  readonly pid: () => number | undefined
  /** Everything it has printed so far. */
  readonly output: () => string
}

export interface LocalCluster {
  /** Grows with `join`. */
  readonly nodes: ReadonlyArray<LocalNode>
  readonly urls: ReadonlyArray<string>
  /** Starts another node, n(size + 1) and so on, that asks the others to be added; with more arguments for it alone. */
  readonly join: (...args: ReadonlyArray<string>) => Effect.Effect<LocalNode, never, Scope.Scope>
  /** Waits until a node that is up says who leads, and that one is up, too. */
  readonly leader: Effect.Effect<LocalNode, NotReady>
}

export interface Status {
  readonly id: string
  readonly role: string
  readonly term: number
  readonly leader: { readonly id: string; readonly url: string } | null
  readonly commitIndex: number
  readonly lastApplied: number
  readonly lastLogIndex: number
  readonly prevLogIndex: number
  readonly snapshotIndex: number
  readonly sending: ReadonlyArray<{ readonly to: string; readonly offset: number; readonly sizeBytes: number }>
}

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const server = createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

/**
 * The first of `count` ports in a row that were free a moment ago, below those that the system gives to outgoing connections: a server that is
 * killed finds its port free again.
 */
export const freePorts = (count: number): Effect.Effect<number> =>
  Effect.gen(function*() {
    for (;;) {
      const first = 20_000 + Math.floor(Math.random() * 10_000)
      const free = yield* Effect.forEach(Array.from({ length: count }, (_, i) => first + i), isFree)
      if (free.every(Boolean)) return first
    }
  })

export const status = (url: string): Effect.Effect<Status, NotReady> =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(`${url}/v1/status`, { signal })
      const body: Status = JSON.parse(await response.text())
      return body
    },
    catch: (cause) => new NotReady({ message: `${url}: ${String(cause)}` })
  }).pipe(Effect.timeoutOrElse({ duration: 1000, orElse: () => Effect.fail(new NotReady({ message: url })) }))

const stopped = (child: ChildProcess | undefined, signal?: NodeJS.Signals): Effect.Effect<number | null> =>
  Effect.promise(async () => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
    const exited = once(child, "exit")
    if (signal !== undefined) child.kill(signal)
    await exited
    return child.exitCode
  })

const makeNode = Effect.fnUntraced(function*(
  node: { readonly id: string; readonly url: string; readonly dataDir: string; readonly args: ReadonlyArray<string> },
  nodeOptions: ReadonlyArray<string>
) {
  let child: ChildProcess | undefined
  let output = ""
  const start = Effect.sync(() => {
    child = spawn(process.execPath, [...nodeOptions, main, "serve", ...node.args], {
      stdio: ["ignore", "pipe", "pipe"]
    })
    child.stdout?.on("data", (chunk) => void (output += String(chunk)))
    child.stderr?.on("data", (chunk) => void (output += String(chunk)))
  })
  yield* Effect.addFinalizer(() => stopped(child, "SIGKILL"))
  const running: LocalNode = {
    id: node.id,
    url: node.url,
    dataDir: node.dataDir,
    start,
    stop: (signal) => Effect.suspend(() => stopped(child, signal)),
    ended: Effect.suspend(() => stopped(child)),
    isRunning: () => child !== undefined && child.exitCode === null && child.signalCode === null,
    pid: () => child?.pid,
    output: () => output
  }
  return running
})

/** Makes the nodes n1 … n(size) with their data below `root`, and starts them. They are killed when the scope closes. */
export const make = Effect.fnUntraced(function*(options: {
  readonly size: number
  /** Most nodes there will be, those that join included; default `size`. */
  readonly sizeMax?: number
  readonly root: string
  readonly args?: ReadonlyArray<string>
  readonly nodeOptions?: ReadonlyArray<string>
}): Effect.fn.Return<LocalCluster, never, Scope.Scope> {
  const first = yield* freePorts(options.sizeMax ?? options.size)
  const memberAt = (i: number) => ({
    id: `n${i + 1}`,
    place: `127.0.0.1:${first + i}`,
    url: `http://127.0.0.1:${first + i}`
  })
  const nodeAt = (i: number, begins: ReadonlyArray<string>) => {
    const { id, place, url } = memberAt(i)
    const dataDir = join(options.root, id)
    const args = ["--id", id, "--listen", place, "--data-dir", dataDir, ...begins, ...options.args ?? []]
    return makeNode({ id, url, dataDir, args }, options.nodeOptions ?? [])
  }
  const members = Array.from({ length: options.size }, (_, i) => memberAt(i))
  const peers = members.flatMap(({ id, url }) => ["--peer", `${id}=${url}`])
  const nodes = yield* Effect.forEach(members, (_, i) => nodeAt(i, peers))
  yield* Effect.forEach(nodes, (node) => node.start)
  const up = Effect.suspend(() =>
    Effect.forEach(
      nodes.filter((node) => node.isRunning()),
      (node) => Effect.orElseSucceed(status(node.url), () => undefined),
      { concurrency: "unbounded" }
    )
  )
  const leader = up.pipe(
    Effect.flatMap((all) => {
      // Of two that know a leader the newer term is right; a server that was removed knows of none.
      const seen = all.filter((one) => one?.leader).toSorted((a, b) => (b?.term ?? 0) - (a?.term ?? 0))
      const led = nodes.find((node) => node.id === seen[0]?.leader?.id)
      return led?.isRunning() === true ? Effect.succeed(led) : Effect.fail(new NotReady({ message: "no leader yet" }))
    }),
    Effect.retry({ schedule: Schedule.spaced(25), times: 800 })
  )
  const joined = (...args: ReadonlyArray<string>) =>
    Effect.suspend(() => nodeAt(nodes.length, [...nodes.flatMap(({ url }) => ["--join", url]), ...args])).pipe(
      Effect.tap((node) => {
        nodes.push(node)
        return node.start
      })
    )
  return { nodes, urls: nodes.map((node) => node.url), leader, join: joined }
})
