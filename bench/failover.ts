/**
 * The leader of three processes is killed, again and again, under puts: how long until the next one is acknowledged, with default timeouts.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../src/layers/RaftClientHttp.ts"
import { RaftClient } from "../src/services/RaftClient.ts"
import * as LocalCluster from "../test/processes/LocalCluster.ts"
import * as Directory from "./directory.ts"

const kills = 30
const settleMs = 1500

const settled = (node: LocalCluster.LocalNode) =>
  LocalCluster.status(node.url).pipe(
    Effect.filterOrFail(({ leader }) => leader !== null, () => "not ready"),
    Effect.retry({ schedule: Schedule.spaced(20), times: 1000 }),
    Effect.orDie
  )

export const bench = Effect.fnUntraced(function*({ nodeOptions }: { readonly nodeOptions: ReadonlyArray<string> }) {
  const cluster = yield* LocalCluster.make({ size: 3, root: yield* Directory.make, nodeOptions })
  const gapsMs = yield* Effect.gen(function*() {
    const store = Protocol.wire.on(yield* RaftClient)
    let n = 0
    const put = Effect.suspend(() => store.propose({ _tag: "Put", key: `k${n++ % 100}`, value: new Uint8Array(256) }))
    const gaps: Array<number> = []
    for (let kill = 0; kill < kills; kill++) {
      const leader = yield* Effect.orDie(cluster.leader)
      for (let i = 0; i < 50; i++) yield* put
      const startMs = performance.now()
      yield* leader.stop("SIGKILL")
      yield* put
      gaps.push(performance.now() - startMs)
      yield* leader.start
      yield* settled(leader)
      yield* Effect.sleep(settleMs)
    }
    return gaps.toSorted((a, b) => a - b)
  }).pipe(Effect.provide(RaftClientHttp.layer({ endpoints: cluster.urls, deadlineMs: 20_000 })))
  const at = (fraction: number) => Math.round(gapsMs[Math.min(kills - 1, Math.floor(kills * fraction))] ?? 0)
  const figures = { kills, p50Ms: at(0.5), p99Ms: at(0.99), longestMs: at(1) }
  yield* Console.log(
    `${kills} kills of a leader: the next put was acknowledged after ${figures.p50Ms} ms (p50), ${figures.p99Ms} ms at most`
  )
  return { ...figures, gapsMs }
})
