/**
 * `npm run bench [-- BENCH] [-- --json]`, BENCH being one of:
 *
 * - `cluster` (when none is named): puts and gets per second on three processes, with their latencies, CPU times, syncs and batches; `--nodes`,
 *   `--keys`, `--value-bytes`, `--in-flight` (as often as needed), and `--rate` for an open loop
 * - `snapshot`: what a snapshot of 1,000,000 keys does to a node under 20,000 puts/s
 * - `elections`: whether three servers that take such snapshots at once, under puts, call any
 * - `memory`: what 1,000,000 puts on 1,000 keys leave behind in memory and on disk
 * - `restart`: how long a node with a 100 MiB snapshot takes to answer
 * - `step`: proposals per second of the core alone, three servers in one process without input and output
 * - `wal`: records a second and bytes a second of the write-ahead log, beside bare writes and syncs of the same bytes
 * - `failover`: how long after the leader is killed the next put is acknowledged
 * - `idle`: what three processes take of a core that nobody asks anything
 * - `catch-up`: how fast a follower that was away gets what it missed, and what that does to puts
 * - `http`: puts over the HTTP API, by `wrk`
 * - `rolling`: for how long nothing is acknowledged while three servers are restarted one after the other, under puts
 *
 * `--vs etcd` measures Titan and etcd side by side, round by round, and ends with one JSON line, ratios first. `--svg FILE` draws it.
 *
 * The figures are in `.titan/bench-NAME.json` afterwards; with `--json` the last thing printed is that JSON document.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { spawnSync } from "node:child_process"
import { mkdirSync, writeFileSync } from "node:fs"
import { cpus } from "node:os"
import { parseArgs } from "node:util"
import * as CatchUp from "./catchUp.ts"
import * as Cluster from "./cluster.ts"
import * as Elections from "./elections.ts"
import * as Failover from "./failover.ts"
import * as Http from "./http.ts"
import * as Idle from "./idle.ts"
import * as Memory from "./memory.ts"
import * as Restart from "./restart.ts"
import * as Rolling from "./rolling.ts"
import * as Snapshot from "./snapshot.ts"
import * as Step from "./step.ts"
import * as Versus from "./versus.ts"
import * as Wal from "./wal.ts"

const { positionals, values: flags } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    seconds: { type: "string", default: "4" },
    rounds: { type: "string", default: "3" },
    nodes: { type: "string", default: "3" },
    keys: { type: "string", default: "10000" },
    "value-bytes": { type: "string", default: "256" },
    "in-flight": { type: "string", multiple: true, default: ["1", "16", "64", "256", "1000"] },
    rate: { type: "string" },
    vs: { type: "string" },
    /** Of `--vs`: the rows to measure, such as put-64, as often as needed. */
    row: { type: "string", multiple: true, default: [] },
    /** Of `--vs`: a file for a picture of it. */
    svg: { type: "string" },
    /** How servers call each other: `frames` or `rpc`. The product's own default is `rpc`. */
    "peer-protocol": { type: "string", default: "frames" },
    /** Node's `--max-semi-space-size`, in MiB; 0 leaves it to Node. */
    "semi-space": { type: "string", default: "8" }
  }
})

const semiSpace = flags["semi-space"] === "0" ? [] : [`--max-semi-space-size=${flags["semi-space"]}`]
const refuse = (problem: string): never => {
  process.stderr.write(`${problem}\n`)
  process.exit(2)
}

const peerProtocol = flags["peer-protocol"]
if (!["rpc", "frames"].includes(peerProtocol)) refuse(`--peer-protocol ${peerProtocol}: expected rpc or frames`)
const unknownRow = flags.row.find((row) => !Versus.rowNames.includes(row))
if (unknownRow !== undefined) refuse(`there is no row ${unknownRow}; there are: ${Versus.rowNames.join(", ")}`)
// Servers are started with this environment.
process.env["TITAN_PEER_PROTOCOL"] = peerProtocol
const options = {
  seconds: Number(flags.seconds),
  rounds: Number(flags.rounds),
  rows: flags.row,
  svg: flags.svg,
  nodeOptions: semiSpace
}
const name = flags.vs === undefined ? positionals[0] ?? "cluster" : `--vs ${flags.vs}`

/** These measure the process that they run in, which must have been started as a server would be. */
const inThisProcess: ReadonlyArray<string> = ["snapshot", "memory"]

const benches = {
  cluster: Cluster.bench({
    ...options,
    nodes: Number(flags.nodes),
    keys: Number(flags.keys),
    valueBytes: Number(flags["value-bytes"]),
    inFlight: flags["in-flight"].map(Number),
    rate: flags.rate === undefined ? undefined : Number(flags.rate)
  }),
  failover: Failover.bench(options),
  idle: Idle.bench(options),
  "catch-up": CatchUp.bench(options),
  http: Http.bench(options),
  snapshot: Snapshot.bench(options),
  elections: Elections.bench(options),
  memory: Memory.bench,
  restart: Restart.bench(options),
  rolling: Rolling.bench(options),
  step: Step.bench(options),
  wal: Wal.bench(options),
  "--vs etcd": Versus.bench(options)
}

const isBench = (wanted: string): wanted is keyof typeof benches => Object.hasOwn(benches, wanted)

const program = Effect.gen(function*() {
  if (!isBench(name)) {
    yield* Console.error(`there is no bench ${name}; there are: ${Object.keys(benches).join(", ")}`)
    process.exitCode = 2
    return
  }
  const machine = {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    node: process.version,
    semiSpace,
    peerProtocol
  }
  yield* Console.log(
    `${machine.cores} x ${machine.cpu}, Node ${machine.node} ${semiSpace.join(" ")}, --peer-protocol ${peerProtocol}`
  )
  const figures = yield* benches[name]
  const json = JSON.stringify({ bench: name, machine, ...figures })
  mkdirSync(".titan", { recursive: true })
  writeFileSync(`.titan/bench-${name.replace("--", "").replace(" ", "-")}.json`, json)
  if (flags.json || flags.vs !== undefined) yield* Console.log(json)
}).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "Warn"))

if (inThisProcess.includes(name) && semiSpace.some((option) => !process.execArgv.includes(option))) {
  const again = spawnSync(process.execPath, [...semiSpace, ...process.argv.slice(1)], { stdio: "inherit" })
  process.exitCode = again.status ?? 1
} else {
  NodeRuntime.runMain(program)
}
