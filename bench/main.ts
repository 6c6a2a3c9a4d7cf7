/**
 * `npm run bench [-- BENCH] [-- --json]`, BENCH being one of:
 *
 * - `cluster` (when none is named): puts and gets per second on three processes, with their latencies
 * - `snapshot`: what a snapshot of 1,000,000 keys does to a node under 20,000 puts/s
 * - `elections`: whether three servers that take such snapshots at once, under puts, call any
 * - `memory`: what 1,000,000 puts on 1,000 keys leave behind in memory and on disk
 * - `restart`: how long a node with a 100 MiB snapshot takes to answer
 * - `step`: proposals per second of the core alone, three servers in one process without input and output
 * - `wal`: records a second and bytes a second of the write-ahead log, beside bare writes and syncs of the same bytes
 * - `rolling`: for how long nothing is acknowledged while three servers are restarted one after the other, under puts
 *
 * `--vs etcd` measures Titan and etcd side by side, round by round, and ends with one JSON line, ratios first.
 *
 * With `--json` the last thing printed is one JSON document.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import { spawnSync } from "node:child_process"
import { cpus } from "node:os"
import { parseArgs } from "node:util"
import * as Cluster from "./cluster.ts"
import * as Elections from "./elections.ts"
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
    vs: { type: "string" },
    /** Node's `--max-semi-space-size`, in MiB; 0 leaves it to Node. */
    "semi-space": { type: "string", default: "8" }
  }
})

const semiSpace = flags["semi-space"] === "0" ? [] : [`--max-semi-space-size=${flags["semi-space"]}`]
const options = { seconds: Number(flags.seconds), rounds: Number(flags.rounds), nodeOptions: semiSpace }
const name = flags.vs === undefined ? positionals[0] ?? "cluster" : `--vs ${flags.vs}`

/** These measure the process that they run in, which must have been started as a server would be. */
const inThisProcess: ReadonlyArray<string> = ["snapshot", "memory"]

const benches = {
  cluster: Cluster.bench(options),
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
  const machine = { cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length, node: process.version, semiSpace }
  yield* Console.log(`${machine.cores} x ${machine.cpu}, Node ${machine.node} ${semiSpace.join(" ")}`)
  const figures = yield* benches[name]
  if (flags.json || flags.vs !== undefined) yield* Console.log(JSON.stringify({ bench: name, machine, ...figures }))
}).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "Warn"))

if (inThisProcess.includes(name) && semiSpace.some((option) => !process.execArgv.includes(option))) {
  const again = spawnSync(process.execPath, [...semiSpace, ...process.argv.slice(1)], { stdio: "inherit" })
  process.exitCode = again.status ?? 1
} else {
  NodeRuntime.runMain(program)
}
