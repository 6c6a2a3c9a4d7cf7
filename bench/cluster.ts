/**
 * Three processes on loopback, each with its log on disk and a sync before every acknowledgement, loaded by this one through `RaftClient`.
 * Prints puts and linearizable gets per second with their latencies.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../src/layers/RaftClientHttp.ts"
import { RaftClient } from "../src/services/RaftClient.ts"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Directory from "./directory.ts"
import { closedLoop, type Load } from "./load.ts"

const valueBytes = 256
const keys = 10_000
const inFlights = [1, 16, 64, 256]

const keyOf = (n: number): string => `key-${(n * 7919) % keys}`

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

const measure = Effect.fnUntraced(function*(seconds: number) {
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

export const bench = Effect.fnUntraced(function*({ nodeOptions, seconds }: {
  readonly seconds: number
  readonly nodeOptions: ReadonlyArray<string>
}) {
  const cluster = yield* LocalCluster.make({ size: 3, root: yield* Directory.make, nodeOptions })
  yield* cluster.leader
  yield* Console.log(`three nodes, ${valueBytes}-byte values, ${keys} keys, ${seconds} s a row, sync on`)
  const rows = yield* measure(seconds).pipe(Effect.provide(RaftClientHttp.layer({ endpoints: cluster.urls })))
  return { valueBytes, keys, seconds, rows }
})
