/**
 * A cluster of processes under a load from processes of its own, both warm: machine code is made of what has run often enough, and what is
 * measured is a server that has run for a while.
 */
import * as Effect from "effect/Effect"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import type { Round } from "./client.ts"
import * as Clients from "./clients.ts"
import * as Cpu from "./cpu.ts"
import * as Directory from "./directory.ts"
import type { Percentiles } from "./load.ts"
import * as Writes from "./writes.ts"

/** One message for each operation, on so many connections from so many processes: how etcd's own client asks. */
const unaryConnections = 50
const unaryProcesses = 4

const settleSeconds = 1

export interface Loaded {
  readonly cluster: LocalCluster.LocalCluster
  readonly clients: ReadonlyArray<Clients.Client>
}

export type Load = Pick<Round, "shape" | "operation" | "inFlight" | "seconds" | "keys" | "valueBytes" | "rate">

/** What became of a load. CPU times are in microseconds for one operation, of each server and of all clients together. */
export interface Reading extends Percentiles {
  readonly perSecond: number
  readonly operations: number
  readonly clientCpuMicros: number
  readonly leaderCpuMicros: number
  /** Of one of them. */
  readonly followerCpuMicros: number
  /** Of the leader's log. */
  readonly syncsPerSecond: number
}

export const start = Effect.fnUntraced(function*(options: {
  readonly size: number
  readonly nodeOptions: ReadonlyArray<string>
  readonly args?: ReadonlyArray<string>
}) {
  const cluster = yield* LocalCluster.make({ ...options, root: yield* Directory.make })
  const clients = yield* Effect.forEach(
    Array.from({ length: unaryProcesses }),
    () => Clients.start(options.nodeOptions)
  )
  return { cluster, clients }
})

/** A round that a change of leaders has spoilt is repeated. */
export const measure = (loaded: Loaded, load: Load) => Effect.retry(measureOnce(loaded, load), { times: 3 })

const measureOnce = Effect.fnUntraced(function*({ clients, cluster }: Loaded, load: Load) {
  const leader = yield* cluster.leader
  const all = [leader, ...cluster.nodes.filter((node) => node !== leader && node.isRunning())]
  const before = Writes.count(leader.dataDir)
  const running = Clients.run(load.shape === "coalesced" ? clients.slice(0, 1) : clients, settleSeconds, {
    ...load,
    endpoints: cluster.urls,
    leader: leader.url,
    connections: Math.min(unaryConnections, load.inFlight)
  })
  const [reading, cpuMs] = yield* Cpu.during(all.flatMap((node) => node.pid() ?? []), running)
  const syncs = Writes.count(leader.dataDir) - before
  const seconds = load.seconds + settleSeconds
  // The load goes on for longer than it is measured.
  const operations = reading.operations * seconds / load.seconds
  const [leaderMs = 0, ...followersMs] = cpuMs
  return {
    ...reading,
    clientCpuMicros: reading.cpuMicros,
    leaderCpuMicros: 1000 * leaderMs / operations,
    followerCpuMicros: 1000 * followersMs.reduce((sum, ms) => sum + ms, 0) / Math.max(1, followersMs.length) /
      operations,
    syncsPerSecond: syncs / seconds
  } satisfies Reading
})

const warmUps = [["coalesced", "put", 8], ["coalesced", "get", 3], ["unary", "put", 8], ["unary", "get", 3]] as const

export const warmUp = Effect.fnUntraced(
  function*(loaded: Loaded, { keys, valueBytes }: Pick<Load, "keys" | "valueBytes">) {
    for (const [shape, operation, seconds] of warmUps) {
      yield* measure(loaded, { shape, operation, seconds, inFlight: 64, keys, valueBytes })
    }
  }
)
