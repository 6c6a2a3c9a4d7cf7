/**
 * Titan and etcd side by side: three processes each, on the same disk, with a sync on every node before an acknowledgement, 256-byte values and 10,000
 * keys, loaded from processes of their own. Each row is measured in rounds that take turns, etcd first; the ratio is that of the medians.
 *
 * What one client that coalesces reaches is not what one message for each operation does, which is how etcd's own client asks. So both are
 * printed: `unary` rows are etcd's shape.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { resolve } from "node:path"
import { promisify } from "node:util"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import type { Options as ClientOptions } from "./client.ts"
import * as Directory from "./directory.ts"
import * as Etcd from "./etcd.ts"
import type { Load } from "./load.ts"

const keys = 10_000
const valueBytes = 256

/** `total`: how many operations a round of etcd is; Titan's is as long as `seconds`. */
interface Row {
  readonly name: string
  readonly shape: ClientOptions["shape"]
  readonly operation: "put" | "get"
  readonly inFlight: number
  readonly total: number
}

const row = (shape: Row["shape"], operation: Row["operation"], inFlight: number, total: number): Row => ({
  name: `${shape === "unary" ? "unary-" : ""}${operation}-${inFlight}`,
  shape,
  operation,
  inFlight,
  total
})

const rows: ReadonlyArray<Row> = [
  row("coalesced", "put", 1, 2000),
  row("coalesced", "put", 16, 8000),
  row("coalesced", "put", 64, 16_000),
  row("coalesced", "put", 256, 24_000),
  row("coalesced", "put", 1000, 30_000),
  row("coalesced", "get", 64, 20_000),
  row("coalesced", "get", 256, 24_000),
  row("unary", "put", 1, 2000),
  row("unary", "put", 16, 8000),
  row("unary", "put", 64, 16_000),
  row("unary", "put", 256, 24_000),
  row("unary", "put", 1000, 30_000),
  row("unary", "get", 64, 20_000),
  row("unary", "get", 256, 24_000)
]

const unaryConnections = 50
const unaryProcesses = 4

interface Reading {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const share = (count: number, of: number, i: number): number => Math.floor(count / of) + (i < count % of ? 1 : 0)

const runClient = (options: ClientOptions, nodeOptions: ReadonlyArray<string>): Effect.Effect<Load> =>
  Effect.promise(async () => {
    const args = [...nodeOptions, resolve("bench/client.ts"), JSON.stringify(options)]
    const { stdout } = await promisify(execFile)(process.execPath, args)
    return JSON.parse(stdout)
  })

/** The worst of several processes' percentiles is no percentile of all, and never better than it. */
const together = (loads: ReadonlyArray<Load>): Reading => ({
  perSecond: loads.reduce((sum, load) => sum + load.perSecond, 0),
  p50Ms: Math.max(...loads.map((load) => load.p50Ms)),
  p99Ms: Math.max(...loads.map((load) => load.p99Ms))
})

const titan = Effect.fnUntraced(function*(
  { inFlight, operation, shape }: Row,
  cluster: LocalCluster.LocalCluster,
  given: Options
) {
  const { url: leader } = yield* cluster.leader
  const processes = shape === "coalesced" ? 1 : Math.min(unaryProcesses, inFlight)
  const connections = Math.min(unaryConnections, inFlight)
  const loads = yield* Effect.all(
    Array.from({ length: processes }, (_, i) =>
      runClient({
        shape,
        operation,
        endpoints: cluster.urls,
        leader,
        connections: share(connections, processes, i),
        inFlight: share(inFlight, processes, i),
        warmupSeconds: 1,
        seconds: given.seconds,
        keys,
        valueBytes
      }, given.nodeOptions)),
    { concurrency: "unbounded" }
  )
  return together(loads)
})

const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0

const medians = (readings: ReadonlyArray<Reading>): Reading => ({
  perSecond: median(readings.map((reading) => reading.perSecond)),
  p50Ms: median(readings.map((reading) => reading.p50Ms)),
  p99Ms: median(readings.map((reading) => reading.p99Ms))
})

const cell = (value: number, width: number, digits = 0): string =>
  value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits }).padStart(width)

const rowText = (name: string, etcd: Reading, ours: Reading): string =>
  [
    name.padEnd(15),
    cell(etcd.perSecond, 10),
    cell(etcd.p50Ms, 8, 2),
    cell(etcd.p99Ms, 8, 2),
    cell(ours.perSecond, 12),
    cell(ours.p50Ms, 8, 2),
    cell(ours.p99Ms, 8, 2),
    cell(ours.perSecond / etcd.perSecond, 8, 2)
  ].join(" ")

export interface Options {
  readonly seconds: number
  readonly rounds: number
  readonly nodeOptions: ReadonlyArray<string>
}

export const bench = Effect.fnUntraced(function*(options: Options) {
  const etcd = yield* Etcd.make(yield* Directory.make)
  const cluster = yield* LocalCluster.make({
    size: 3,
    root: yield* Directory.make,
    nodeOptions: options.nodeOptions
  })
  yield* cluster.leader
  yield* Console.log(`${options.rounds} rounds, ${options.seconds} s each for Titan, ${valueBytes}-byte values`)
  yield* Console.log("row                etcd/s   p50 ms   p99 ms      Titan/s   p50 ms   p99 ms    ratio")
  const ratios: Record<string, number> = {}
  const measured: Array<{ readonly name: string; readonly etcd: Reading; readonly titan: Reading }> = []
  for (const each of rows) {
    const theirs: Array<Reading> = []
    const ours: Array<Reading> = []
    for (let round = 0; round < options.rounds; round++) {
      const connections = Math.min(unaryConnections, each.inFlight)
      const { opsPerSecond: perSecond, ...latencies } = yield* etcd.load({ ...each, connections })
      theirs.push({ perSecond, ...latencies })
      ours.push(yield* titan(each, cluster, options))
    }
    const [a, b] = [medians(theirs), medians(ours)]
    ratios[each.name] = Math.round(100 * b.perSecond / a.perSecond) / 100
    measured.push({ name: each.name, etcd: a, titan: b })
    yield* Console.log(rowText(each.name, a, b))
  }
  return { valueBytes, keys, ...options, ratios, rows: measured }
})
