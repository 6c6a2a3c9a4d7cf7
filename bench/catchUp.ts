/**
 * One of three processes is away while entries are written, and comes back while puts go on: how fast it catches up, by its log and not by a snapshot,
 * and what that does to the puts.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Loaded from "./loaded.ts"
import * as Table from "./table.ts"

const missing = 600_000
const load = { shape: "coalesced", operation: "put", inFlight: 64, keys: 10_000, valueBytes: 256 } as const

const lastIndexOf = (node: LocalCluster.LocalNode) =>
  Effect.map(
    Effect.orElseSucceed(LocalCluster.status(node.url), () => undefined),
    (status) => status?.lastLogIndex ?? 0
  )

export const bench = Effect.fnUntraced(function*({ nodeOptions }: { readonly nodeOptions: ReadonlyArray<string> }) {
  // Nothing is compacted: what is missed is to be sent as entries.
  const args = ["--snapshot-entries", "100000000", "--snapshot-bytes", String(2 ** 40)]
  const loaded = yield* Loaded.start({ size: 3, nodeOptions, args })
  yield* Loaded.warmUp(loaded, load)
  const leader = yield* Effect.orDie(loaded.cluster.leader)
  const away = loaded.cluster.nodes.find((node) => node !== leader) ?? leader
  const { perSecond: before } = yield* Loaded.measure(loaded, { ...load, seconds: 4 })
  yield* away.stop("SIGKILL")
  const from = yield* lastIndexOf(leader)
  while ((yield* lastIndexOf(leader)) < from + missing) {
    yield* Loaded.measure(loaded, { ...load, inFlight: 1000, seconds: 4 })
  }
  const catching = Effect.gen(function*() {
    yield* away.start
    let [firstMs, firstIndex] = [0, 0]
    for (;;) {
      const [index, goal] = [yield* lastIndexOf(away), yield* lastIndexOf(leader)]
      // Until it answers it reads its own log.
      if (index > 0 && firstMs === 0) [firstMs, firstIndex] = [performance.now(), index]
      if (index > 0 && goal - index < 1000) {
        return { entries: index - firstIndex, seconds: (performance.now() - firstMs) / 1000 }
      }
      yield* Effect.sleep(20)
    }
  })
  const [caught, { perSecond: meanwhile }] = yield* Effect.all([
    catching,
    Loaded.measure(loaded, { ...load, seconds: 4 })
  ], { concurrency: "unbounded" })
  const perSecond = caught.entries / caught.seconds
  yield* Console.log(
    `${Table.cell(caught.entries, 0)} entries caught up at ${Table.cell(perSecond, 0)} a second; ` +
      `${Table.cell(before, 0)} puts/s before, ${Table.cell(meanwhile, 0)} while it did and just after`
  )
  return { ...caught, perSecond, putsPerSecond: { before, meanwhile } }
})
