/**
 * Three members of etcd on loopback with their defaults, an fsync before every acknowledgement included, and its own client in Go.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { execFile, spawn, spawnSync } from "node:child_process"
import { join, resolve } from "node:path"
import { promisify } from "node:util"
import * as LocalCluster from "../test/processes/LocalCluster.ts"

export class Missing extends Data.TaggedError("Missing")<{ readonly message: string }> {}

const needed = "--vs etcd needs the Debian packages etcd-server, golang-go and golang-etcd-server-dev: " +
  "apt-get install --no-install-recommends etcd-server golang-go golang-etcd-server-dev"

/** How a run of `etcd-load` ended. */
export interface Reading {
  readonly opsPerSecond: number
  readonly failed: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
}

const buildLoad = (directory: string): Effect.Effect<string, Missing> =>
  Effect.suspend(() => {
    const program = join(directory, "etcd-load")
    const built = spawnSync("go", ["build", "-o", program, resolve("bench/etcd-load/main.go")], {
      env: { ...process.env, GO111MODULE: "off", GOPATH: "/usr/share/gocode", GOCACHE: join(directory, "go-cache") },
      encoding: "utf8"
    })
    return built.status === 0
      ? Effect.succeed(program)
      : Effect.fail(new Missing({ message: `${needed}\n${built.error?.message ?? built.stderr}` }))
  })

const isHealthy = (url: string) =>
  Effect.tryPromise(async () => {
    const response = await fetch(`${url}/health`)
    if (!(await response.text()).includes("true")) throw new Error("not yet")
  })

/** Starts the members with their data below `directory`; they are killed when the scope closes. */
const startMembers = Effect.fnUntraced(function*(directory: string) {
  const first = yield* LocalCluster.freePorts(6)
  const members = [0, 1, 2].map((i) => ({
    name: `e${i + 1}`,
    client: `http://127.0.0.1:${first + i}`,
    peer: `http://127.0.0.1:${first + 3 + i}`
  }))
  const all = members.map(({ name, peer }) => `${name}=${peer}`).join(",")
  const processes = yield* Effect.forEach(members, ({ client, name, peer }) =>
    Effect.acquireRelease(
      Effect.sync(() =>
        spawn("etcd", [
          "--name",
          name,
          "--data-dir",
          join(directory, name),
          "--listen-client-urls",
          client,
          "--advertise-client-urls",
          client,
          "--listen-peer-urls",
          peer,
          "--initial-advertise-peer-urls",
          peer,
          "--initial-cluster",
          all,
          "--initial-cluster-state",
          "new"
        ], { stdio: "ignore" })
      ),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    ))
  const clients = members.map(({ client }) => client)
  yield* Effect.forEach(clients, isHealthy).pipe(
    Effect.retry({ schedule: Schedule.spaced(100), times: 200 }),
    Effect.mapError(() => new Missing({ message: "etcd did not start within 20 s" }))
  )
  return { clients, pids: processes.flatMap(({ pid }) => pid ?? []) }
})

/** A cluster of etcd, and a load on it. */
export const make = Effect.fnUntraced(function*(directory: string) {
  if (spawnSync("etcd", ["--version"]).status !== 0) return yield* new Missing({ message: needed })
  const program = yield* buildLoad(directory)
  const { clients, pids } = yield* startMembers(directory)
  const endpoints = clients.map((url) => url.replace("http://", "")).join(",")
  const load = (options: {
    readonly operation: "put" | "get"
    readonly inFlight: number
    readonly connections: number
    readonly total: number
  }) =>
    Effect.promise(async (): Promise<Reading> => {
      const { connections, inFlight, operation, total } = options
      const flags = { endpoints, op: operation, "in-flight": inFlight, connections, total }
      const args = Object.entries(flags).flatMap(([name, value]) => [`-${name}`, String(value)])
      const { stdout } = await promisify(execFile)(program, args)
      return JSON.parse(stdout)
    })
  return { load, pids }
})
