/**
 * Processes on loopback, each with its log on disk and a sync before every acknowledgement, under puts and linearizable gets from processes of
 * their own: in one `RaftClient`, where what is asked at the same time travels together, and as one message for each operation (`unary`).
 *
 * With `rate` the load is an open loop: so many operations a second, whatever becomes of them, and latencies from when each was due.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Loaded from "./loaded.ts"
import * as Table from "./table.ts"

export interface Options {
  readonly seconds: number
  readonly nodes: number
  readonly keys: number
  readonly valueBytes: number
  readonly inFlight: ReadonlyArray<number>
  readonly rate: number | undefined
  readonly nodeOptions: ReadonlyArray<string>
}

type Row = Pick<Loaded.Load, "shape" | "operation" | "inFlight">

const heading =
  "row                 per s   p50 ms      p99    p99.9  clients us  leader us  follower us  syncs/s   batch"

const text = ({ inFlight, operation, shape }: Row, reading: Loaded.Reading): string =>
  [
    `${shape === "unary" ? "unary-" : ""}${operation}-${inFlight}`.padEnd(15),
    Table.cell(reading.perSecond, 9),
    Table.cell(reading.p50Ms, 8, 2),
    Table.cell(reading.p99Ms, 8, 2),
    Table.cell(reading.p999Ms, 8, 2),
    Table.cell(reading.clientCpuMicros, 11),
    Table.cell(reading.leaderCpuMicros, 10),
    Table.cell(reading.followerCpuMicros, 12),
    Table.cell(reading.syncsPerSecond, 8),
    operation === "put" ? Table.cell(reading.perSecond / Math.max(1, reading.syncsPerSecond), 7, 1) : "       -"
  ].join(" ")

/** So that every key is there: as many puts as there are keys. */
const fill = Effect.fnUntraced(function*(loaded: Loaded.Loaded, { keys, valueBytes }: Options) {
  for (let done = 0; done < keys;) {
    const load = { shape: "coalesced", operation: "put", inFlight: 1000, seconds: 4, keys, valueBytes } as const
    done += (yield* Loaded.measure(loaded, load)).operations
    yield* Table.progress(`${done} of ${keys} keys`)
  }
})

export const bench = Effect.fnUntraced(function*(options: Options) {
  const { inFlight: inFlights, keys, nodeOptions, nodes, rate, seconds, valueBytes } = options
  const loaded = yield* Loaded.start({ size: nodes, nodeOptions })
  yield* Table.progress("warming up")
  yield* Loaded.warmUp(loaded, options)
  yield* fill(loaded, options)
  const how = rate === undefined ? "" : `, ${rate} operations a second`
  yield* Table.progress("")
  yield* Console.log(`${nodes} nodes, ${valueBytes}-byte values, ${keys} keys, ${seconds} s a row, sync on${how}`)
  yield* Console.log(heading)
  const rows: Array<Row & Loaded.Reading> = []
  for (const shape of ["coalesced", "unary"] as const) {
    for (const operation of ["put", "get"] as const) {
      for (const inFlight of inFlights) {
        const row = { shape, operation, inFlight }
        const load = { ...row, seconds, keys, valueBytes, ...(rate === undefined ? {} : { rate }) }
        const reading = yield* Loaded.measure(loaded, load)
        rows.push({ ...row, ...reading })
        yield* Console.log(text(row, reading))
      }
    }
  }
  return { ...options, rows }
})
