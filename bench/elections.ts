/**
 * Three processes, each with 1,000,000 keys, that all take a snapshot at once under puts: whether anybody calls an election. The closed loop
 * offers what three servers, a client and one disk on one machine can carry.
 */
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { join } from "node:path"
import { ofVoters } from "../src/domain/Configuration.ts"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as Store from "../src/layers/kv/Store.ts"
import * as RaftClientHttp from "../src/layers/RaftClientHttp.ts"
import * as StorageFile from "../src/layers/StorageFile.ts"
import { RaftClient } from "../src/services/RaftClient.ts"
import { Storage } from "../src/services/Storage.ts"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Alone from "./alone.ts"
import * as Directory from "./directory.ts"
import { closedLoop } from "./load.ts"

const keys = 1_000_000
const valueBytes = 100
const inFlight = 256
const ids = ["n1", "n2", "n3"]

const keyOf = (n: number): string => `key/${String(n % keys).padStart(9, "0")}`
const commandOf = (n: number): Protocol.Command => Alone.put(keyOf(n * 7919), n, valueBytes)

class NotYet extends Data.TaggedError("NotYet")<{ readonly message: string }> {}

/** The data directories of three servers that hold the same snapshot and nothing else. */
const prepare = Effect.fnUntraced(function*(root: string) {
  const store = Store.make()
  for (let n = 0; n < keys; n++) store.apply(commandOf(n), { index: 1, term: 1 })
  const configuration = ofVoters(ids)
  for (const nodeId of ids) {
    const write = Effect.gen(function*() {
      const storage = yield* Storage
      yield* storage.recover(configuration)
      yield* storage.persist({ hardState: { term: 1, votedFor: undefined }, install: undefined, entries: [] })
      yield* storage.saveSnapshot({ last: { term: 1, index: 1 }, configuration }, yield* store.snapshot)
    })
    const layer = StorageFile.layer({ directory: join(root, nodeId), clusterId: "bench", nodeId })
    yield* Effect.orDie(Effect.provide(write, layer))
  }
})

const statuses = (cluster: LocalCluster.LocalCluster) =>
  Effect.orDie(Effect.retry(Effect.forEach(cluster.urls, LocalCluster.status), Schedule.spaced(50)))

const takeSnapshots = (urls: ReadonlyArray<string>) =>
  Effect.forEach(urls, (url) =>
    Effect.promise(async () => {
      const response = await fetch(`${url}/v1/snapshot`, { method: "POST" })
      const { tookMs }: { readonly tookMs: number } = JSON.parse(await response.text())
      return tookMs
    }), { concurrency: "unbounded" })

const measured = Effect.fnUntraced(function*(cluster: LocalCluster.LocalCluster, seconds: number) {
  const store = Protocol.wire.on(yield* RaftClient)
  const operation = (n: number) => store.propose(commandOf(n))
  yield* closedLoop({ inFlight, seconds: 3, operation })
  const [{ term: before } = { term: 0 }] = yield* statuses(cluster)
  const [idle, [tookMs, busy]] = [
    yield* closedLoop({ inFlight, seconds, operation }),
    yield* Effect.all([takeSnapshots(cluster.urls), closedLoop({ inFlight, seconds, operation })], {
      concurrency: "unbounded"
    })
  ]
  const [{ term: after } = { term: 0 }] = yield* statuses(cluster)
  for (const [phase, row] of [["before", idle], ["during", busy]] as const) {
    yield* Console.log(
      `${phase.padEnd(8)} ${Math.round(row.perSecond).toLocaleString("en")} puts/s, p50 ${row.p50Ms.toFixed(1)} ms, ` +
        `p99 ${row.p99Ms.toFixed(1)} ms`
    )
  }
  yield* Console.log(
    `snapshots took ${tookMs.map((ms) => `${Math.round(ms)} ms`).join(", ")}; elections: ${after - before}`
  )
  return { before: idle, during: busy, tookMs, elections: after - before }
})

export const bench = Effect.fnUntraced(function*({ nodeOptions, seconds }: {
  readonly seconds: number
  readonly nodeOptions: ReadonlyArray<string>
}) {
  const root = yield* Directory.make
  yield* prepare(root)
  const cluster = yield* LocalCluster.make({ size: ids.length, root, nodeOptions })
  yield* Console.log(`three nodes, ${keys.toLocaleString("en")} keys, ${valueBytes}-byte values, ${inFlight} in flight`)
  yield* statuses(cluster).pipe(
    Effect.filterOrFail((all) => all.some(({ role }) => role === "Leader"), () => new NotYet({ message: "no leader" })),
    Effect.retry({ schedule: Schedule.spaced(100), times: 600 }),
    Effect.orDie
  )
  const client = RaftClientHttp.layer({ endpoints: cluster.urls, deadlineMs: 20_000 })
  const figures = yield* Effect.orDie(Effect.provide(measured(cluster, seconds), client))
  return { keys, valueBytes, inFlight, ...figures }
})
