/**
 * Titan and etcd side by side: three processes each, on the same disk, with a sync on every node before an acknowledgement, 256-byte values and 10,000
 * keys, loaded from processes of their own. Each row is measured in rounds that take turns, etcd first; the ratio is that of the medians.
 *
 * What one client that coalesces reaches is not what one message for each operation does, which is how etcd's own client asks. So both are
 * printed: `unary` rows are etcd's shape.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { writeFileSync } from "node:fs"
import type { Round } from "./client.ts"
import * as Cpu from "./cpu.ts"
import * as Directory from "./directory.ts"
import * as Etcd from "./etcd.ts"
import type { Percentiles } from "./load.ts"
import * as Loaded from "./loaded.ts"
import * as Picture from "./picture.ts"
import * as Table from "./table.ts"

const keys = 10_000
const valueBytes = 256

/** `total`: how many operations a round of etcd is; Titan's is as long as `seconds`. */
interface Row {
  readonly name: string
  readonly shape: Round["shape"]
  readonly operation: "put" | "get"
  readonly inFlight: number
  readonly total: number
}

/** How much is in flight, and etcd's operations. */
const loads = {
  put: [[1, 2000], [16, 8000], [64, 16_000], [256, 24_000], [1000, 30_000]],
  get: [[64, 20_000], [256, 24_000]]
} as const

const rows: ReadonlyArray<Row> = (["coalesced", "unary"] as const).flatMap((shape) =>
  (["put", "get"] as const).flatMap((operation) =>
    loads[operation].map(([inFlight, total]) => ({
      name: `${shape === "unary" ? "unary-" : ""}${operation}-${inFlight}`,
      shape,
      operation,
      inFlight,
      total
    }))
  )
)

export const rowNames: ReadonlyArray<string> = rows.map(({ name }) => name)

/** `serverCpuMicros`: of the three servers together, for one operation. */
interface Reading extends Percentiles {
  readonly perSecond: number
  readonly serverCpuMicros: number
}

const sum = (values: ReadonlyArray<number>): number => values.reduce((all, value) => all + value, 0)

const connections = 50

/** Operations that the peer's load does before it measures. */
const etcdWarmup = 2000

const peer = Effect.fnUntraced(function*(row: Row, etcd: Effect.Success<ReturnType<typeof Etcd.make>>) {
  const measured = etcd.load({ ...row, connections: Math.min(connections, row.inFlight) })
  const [{ opsPerSecond, ...latencies }, cpu] = yield* Cpu.during(etcd.pids, measured)
  return { perSecond: opsPerSecond, ...latencies, serverCpuMicros: 1000 * sum(cpu) / (row.total + etcdWarmup) }
})

const medians = (readings: ReadonlyArray<Reading>): Reading => ({
  perSecond: Table.median(readings.map((reading) => reading.perSecond)),
  p50Ms: Table.median(readings.map((reading) => reading.p50Ms)),
  p99Ms: Table.median(readings.map((reading) => reading.p99Ms)),
  p999Ms: Table.median(readings.map((reading) => reading.p999Ms)),
  serverCpuMicros: Table.median(readings.map((reading) => reading.serverCpuMicros))
})

const readingText = (reading: Reading): string =>
  [
    Table.cell(reading.perSecond, 9),
    Table.cell(reading.p50Ms, 7, 2),
    Table.cell(reading.p99Ms, 7, 2),
    Table.cell(reading.p999Ms, 7, 2),
    Table.cell(reading.serverCpuMicros, 7)
  ].join(" ")

const rowText = (name: string, etcd: Reading, ours: Reading): string =>
  `${name.padEnd(14)} ${readingText(etcd)}   ${readingText(ours)} ${Table.cell(ours.perSecond / etcd.perSecond, 7, 2)}`

const heading =
  "               etcd/s    p50 ms     p99   p99.9  cpu us   Titan/s  p50 ms     p99   p99.9  cpu us   ratio"

type Measured = ReadonlyArray<{ readonly name: string; readonly etcd: Reading; readonly titan: Reading }>

const picture = (measured: Measured): string => {
  const line = (name: string, colour: string, prefix: string, of: "etcd" | "titan"): Picture.Line => ({
    name,
    colour,
    points: measured.filter((row) => row.name.startsWith(prefix)).map((row) => {
      const { p50Ms, p99Ms, perSecond } = row[of]
      return { perSecond, p50Ms, p99Ms, inFlight: Number(row.name.slice(prefix.length)) }
    })
  })
  return Picture.draw("Puts: latency against throughput, p50 (lines) and p99 (dashes), 1 to 1,000 in flight", [
    line("etcd", "#2a78c2", "put-", "etcd"),
    line("Titan, one RaftClient", "#c2410c", "put-", "titan"),
    line("Titan, one message for each put", "#15803d", "unary-put-", "titan")
  ])
}

export interface Options {
  readonly seconds: number
  readonly rounds: number
  /** Names of the rows to measure; none: all. */
  readonly rows: ReadonlyArray<string>
  /** Where to draw a picture of it. */
  readonly svg: string | undefined
  readonly nodeOptions: ReadonlyArray<string>
}

export const bench = Effect.fnUntraced(function*(options: Options) {
  const etcd = yield* Etcd.make(yield* Directory.make)
  const loaded = yield* Loaded.start({ size: 3, nodeOptions: options.nodeOptions })
  yield* Table.progress("warming up")
  yield* Loaded.warmUp(loaded, { keys, valueBytes })
  yield* Console.log(`${options.rounds} rounds, ${options.seconds} s each for Titan, ${valueBytes}-byte values`)
  yield* Console.log(heading)
  const ratios: Record<string, number> = {}
  const measured: Array<{ readonly name: string; readonly etcd: Reading; readonly titan: Reading }> = []
  for (const row of rows.filter(({ name }) => options.rows.length === 0 || options.rows.includes(name))) {
    const theirs: Array<Reading> = []
    const ours: Array<Reading> = []
    for (let round = 0; round < options.rounds; round++) {
      yield* Table.progress(`${row.name}, round ${round + 1} of ${options.rounds}`)
      theirs.push(yield* peer(row, etcd))
      const reading = yield* Loaded.measure(loaded, { ...row, seconds: options.seconds, keys, valueBytes })
      ours.push({ ...reading, serverCpuMicros: reading.leaderCpuMicros + 2 * reading.followerCpuMicros })
    }
    yield* Table.progress("")
    const [a, b] = [medians(theirs), medians(ours)]
    ratios[row.name] = Math.round(100 * b.perSecond / a.perSecond) / 100
    measured.push({ name: row.name, etcd: a, titan: b })
    yield* Console.log(rowText(row.name, a, b))
  }
  if (options.svg !== undefined) writeFileSync(options.svg, picture(measured))
  return { ratios, valueBytes, keys, ...options, rows: measured }
})
