/**
 * What a snapshot of 1,000,000 keys does to a node under 20,000 puts/s: how long the event loop stalls before and meanwhile, what it takes
 * in time and in memory, and whether anybody called an election.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type { LogIndex } from "../src/domain/Entry.ts"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import type { RaftNode } from "../src/services/RaftNode.ts"
import * as Alone from "./alone.ts"
import * as Directory from "./directory.ts"
import * as OpenLoop from "./openLoop.ts"

const keys = 1_000_000
const valueBytes = 100
const putsPerSecond = 20_000
const secondsBefore = 8

const keyOf = (n: number): string => `key/${String(n % keys).padStart(9, "0")}`

/** The `n`th key of an order that jumps about: 7,919 is prime. */
const commandOf = (n: number): Protocol.Command => Alone.put(keyOf(n * 7919), n, valueBytes)

interface Row extends OpenLoop.Reading, ReturnType<typeof Alone.memory> {
  readonly phase: "before" | "during"
}

const header = "phase     seconds    puts/s  stall ms   busy ms  stalls > 10 ms     gc ms  heap MiB   RSS MiB"

const rowText = (row: Row): string =>
  [
    row.phase.padEnd(8),
    row.seconds.toFixed(2).padStart(8),
    Math.round(row.donePerSecond).toLocaleString("en").padStart(9),
    row.stallMs.toFixed(1).padStart(9),
    row.busyMs.toFixed(1).padStart(9),
    String(row.stallsOver10Ms).padStart(15),
    row.longestGcMs.toFixed(1).padStart(9),
    Alone.mib(row.heapBytes).padStart(9),
    Alone.mib(row.rssBytes).padStart(9)
  ].join(" ")

const round = Effect.fnUntraced(function*(node: RaftNode["Service"], load: OpenLoop.OpenLoop, latest: LogIndex) {
  const rowOf = (phase: Row["phase"]): Row => ({ phase, ...load.read(), ...Alone.memory() })
  load.read()
  yield* Effect.sleep(secondsBefore * 1000)
  const before = rowOf("before")
  const { snapshot } = yield* node.status
  const taken = yield* node.takeSnapshot
  const during = rowOf("during")
  yield* Console.log(rowText(before))
  yield* Console.log(rowText(during))
  return {
    before,
    during,
    snapshotBytes: taken.sizeBytes,
    snapshotIndex: taken.last.index,
    /** Then the figures of `before` are none of a node that only takes puts. */
    hadSnapshotBefore: snapshot.last.index > latest
  }
})

export const bench = Effect.fnUntraced(function*({ rounds: count }: { readonly rounds: number }) {
  const node = yield* Alone.start(yield* Directory.make)
  yield* Console.log(
    `one node, ${keys.toLocaleString("en")} keys, ${valueBytes}-byte values, ` +
      `${putsPerSecond.toLocaleString("en")} puts/s offered, sync on`
  )
  yield* Alone.putAll(node, { from: 0, to: keys, commandOf })
  let latest = (yield* node.takeSnapshot).last.index
  const store = Protocol.wire.on(node)
  const load = yield* OpenLoop.make({
    perSecond: putsPerSecond,
    operation: (n) => store.propose(commandOf(Math.floor(Math.random() * keys) + n))
  })
  yield* Effect.sleep(3000)
  const { term } = yield* node.status
  yield* Console.log(header)
  const rounds = []
  for (let n = 0; n < count; n++) {
    const done = yield* round(node, load, latest)
    rounds.push(done)
    latest = done.snapshotIndex
  }
  const elections = (yield* node.status).term - term
  yield* Console.log(
    `a snapshot has ${Alone.mib(rounds[0]?.snapshotBytes ?? 0)} MiB; elections meanwhile: ${elections}`
  )
  for (const [n, { hadSnapshotBefore }] of rounds.entries()) {
    if (hadSnapshotBefore) yield* Console.log(`the node took a snapshot of its own before that of round ${n + 1}`)
  }
  return { keys, valueBytes, putsPerSecond, rounds, elections }
})
