/**
 * `npm run bench [-- --seconds N] [-- --json]`: three processes on loopback, each with its log on disk and a sync before every
 * acknowledgement, loaded by this one through `RaftClient`. Prints puts and linearizable gets per second with their latencies.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { randomBytes } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { cpus } from "node:os"
import { join, resolve } from "node:path"
import { parseArgs } from "node:util"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../src/layers/RaftClientHttp.ts"
import { RaftClient } from "../src/services/RaftClient.ts"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import { closedLoop, type Load } from "./load.ts"

const { values: flags } = parseArgs({
  options: { json: { type: "boolean", default: false }, seconds: { type: "string", default: "4" } }
})
const seconds = Number(flags.seconds)
const valueBytes = 256
const keys = 10_000
const inFlights = [1, 16, 64, 256]

const keyOf = (n: number): string => `key-${(n * 7919) % keys}`

/** The same disk as the checkout: a temporary directory may be in memory, where a sync costs nothing. */
const root = Effect.acquireRelease(
  Effect.sync(() => {
    const parent = resolve(".titan")
    mkdirSync(parent, { recursive: true })
    return mkdtempSync(join(parent, "bench-"))
  }),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

interface Row extends Load {
  readonly operation: "put" | "get"
}

const rowText = (row: Row): string =>
  [
    row.operation.padEnd(5),
    String(row.inFlight).padStart(9),
    Math.round(row.perSecond).toLocaleString("en").padStart(12),
    row.p50Ms.toFixed(2).padStart(10),
    row.p99Ms.toFixed(2).padStart(10)
  ].join(" ")

const measure = Effect.gen(function*() {
  const store = Protocol.wire.on(yield* RaftClient)
  const values = Array.from({ length: 64 }, () => new Uint8Array(randomBytes(valueBytes)))
  const put = (n: number) =>
    store.propose({ _tag: "Put", key: keyOf(n), value: values[n % values.length] ?? new Uint8Array() })
  const get = (n: number) => store.read({ _tag: "Get", key: keyOf(n) })
  yield* closedLoop({ inFlight: 64, seconds: Math.min(2, seconds), operation: put })
  yield* closedLoop({ inFlight: 64, seconds: Math.min(1, seconds), operation: get })
  yield* Console.log("op    in flight   per second     p50 ms     p99 ms")
  const rows: Array<Row> = []
  for (const [operation, call] of [["put", put], ["get", get]] as const) {
    for (const inFlight of inFlights) {
      const row: Row = { operation, ...yield* closedLoop({ inFlight, seconds, operation: call }) }
      rows.push(row)
      yield* Console.log(rowText(row))
    }
  }
  return rows
})

const program = Effect.scoped(Effect.gen(function*() {
  const cluster = yield* LocalCluster.make({
    size: 3,
    root: yield* root,
    nodeOptions: ["--max-semi-space-size=8"]
  })
  yield* cluster.leader
  const machine = { cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, node: process.version }
  yield* Console.log(
    `three nodes, ${valueBytes}-byte values, ${keys} keys, ${seconds} s a row, sync on; ` +
      `${machine.cores} x ${machine.cpu}, Node ${machine.node}`
  )
  const rows = yield* measure.pipe(Effect.provide(RaftClientHttp.layer({ endpoints: cluster.urls })))
  if (flags.json) yield* Console.log(JSON.stringify({ bench: "cluster", machine, valueBytes, keys, seconds, rows }))
})).pipe(Effect.provideService(References.MinimumLogLevel, "Warn"))

NodeRuntime.runMain(program)
