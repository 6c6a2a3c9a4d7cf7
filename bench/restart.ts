/**
 * How long a node with a 100 MiB snapshot and 10,000 entries behind it takes from its start to its first linearizable answer.
 */
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { join } from "node:path"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Alone from "./alone.ts"
import * as Directory from "./directory.ts"

const keys = 800_000
const valueBytes = 100
const entriesBehind = 10_000

const keyOf = (n: number): string => `key/${String(n % keys).padStart(9, "0")}`

const commandOf = (n: number) => Alone.put(keyOf(n * 7919), n, valueBytes)

/** Writes the data directory of a node that was stopped. */
const prepare = (directory: string) =>
  Effect.scoped(Effect.gen(function*() {
    const node = yield* Alone.start(directory)
    yield* Alone.putAll(node, { from: 0, to: keys, commandOf })
    const snapshot = yield* node.takeSnapshot
    yield* Alone.putAll(node, { from: keys, to: keys + entriesBehind, commandOf })
    const status = yield* node.status
    return { snapshotBytes: snapshot.sizeBytes, entriesBehind: status.lastLogIndex - status.snapshot.last.index }
  }))

class NoAnswer extends Data.TaggedError("NoAnswer")<{ readonly status: string }> {}

/** Gets, linearizably, the key that was written last, until there is an answer. */
const answer = (url: string) =>
  Effect.tryPromise({
    try: async (signal) => {
      const response = await fetch(`${url}/v1/kv/${encodeURIComponent(keyOf((keys + entriesBehind - 1) * 7919))}`, {
        signal
      })
      const { length } = await response.bytes()
      if (response.status !== 200 || length !== valueBytes) throw new Error(String(response.status))
    },
    catch: (cause) => new NoAnswer({ status: String(cause) })
  }).pipe(Effect.retry({ schedule: Schedule.spaced("5 millis"), times: 6000 }), Effect.orDie)

export const bench = Effect.fnUntraced(function*({ nodeOptions, rounds }: {
  readonly rounds: number
  readonly nodeOptions: ReadonlyArray<string>
}) {
  const root = yield* Directory.make
  const prepared = yield* prepare(join(root, Alone.nodeId))
  yield* Console.log(
    `a snapshot of ${Alone.mib(prepared.snapshotBytes)} MiB, ${keys.toLocaleString("en")} keys, and ` +
      `${prepared.entriesBehind.toLocaleString("en")} entries behind it`
  )
  const cluster = yield* LocalCluster.make({ size: 1, root, nodeOptions })
  const [node] = cluster.nodes
  if (node === undefined) return yield* Effect.die(new Error("a cluster of one has no node"))
  yield* answer(node.url)
  yield* Console.log("stopped by   first answer after ms")
  const rows = []
  for (const signal of Array.from({ length: rounds }, () => ["SIGTERM", "SIGKILL"] as const).flat()) {
    yield* node.stop(signal)
    const startMs = performance.now()
    yield* node.start
    yield* answer(node.url)
    const row = { stoppedBy: signal, answeredMs: performance.now() - startMs }
    rows.push(row)
    yield* Console.log(`${row.stoppedBy.padEnd(10)} ${row.answeredMs.toFixed(0).padStart(23)}`)
  }
  return { keys, valueBytes, ...prepared, rows }
})
