/**
 * Operating-system processes, one of which loses its data directory.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { rmSync } from "node:fs"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import { RaftClient } from "../../src/services/RaftClient.ts"
import type * as LocalCluster from "./LocalCluster.ts"
import { bytes, caughtUp, withCluster } from "./withCluster.ts"

const keys = (name: string) => Array.from({ length: 50 }, (_, i) => `${name}-${i}`)

/** Its same command says what to do, as often as it is started. */
const refusesToStart = Effect.fnUntraced(function*(node: LocalCluster.LocalNode) {
  const before = node.output().length
  yield* node.start
  assert.strictEqual(yield* node.ended, 1)
  const said = node.output().slice(before)
  assert.match(said, new RegExp(`titan: n\\d knows ${node.id} with another disk`))
  assert.include(said, `Run titan member replace ${node.id} NEW=URL, with a new server under a new id`)
  assert.notMatch(said, /leads the cluster|a defect/)
})

describe("a process whose data directory is lost", () => {
  it.live(
    "stops when it is started again, says what to do, and takes part in nothing: not even where all that is acknowledged is on a server that is down",
    () =>
      withCluster((cluster) =>
        Effect.gen(function*() {
          const store = Protocol.wire.on(yield* RaftClient)
          const write = (name: string) =>
            Effect.forEach(keys(name), (key) => store.propose({ _tag: "Put", key, value: bytes(key) }), {
              concurrency: 8
            })
          const leader = yield* cluster.leader
          yield* write("before")
          yield* caughtUp(cluster)
          const [behind, lost] = cluster.nodes.filter((node) => node !== leader)
          if (behind === undefined || lost === undefined) return assert.fail("three nodes")
          // What is written now is acknowledged by the leader and the one that loses its disk.
          yield* behind.stop("SIGKILL")
          yield* write("during")
          yield* lost.stop("SIGKILL")
          rmSync(lost.dataDir, { recursive: true })
          yield* leader.stop("SIGKILL")
          // Those two are a majority, and would elect one of them that lacks it.
          yield* behind.start
          yield* refusesToStart(lost)
          yield* refusesToStart(lost)
          yield* leader.start
          yield* write("after")
          for (const key of ["before", "during", "after"].flatMap(keys)) {
            assert.deepInclude(yield* store.read({ _tag: "Get", key }), { _tag: "Found", value: bytes(key) }, key)
          }
          // With its directory a killed server is welcome, whoever it was.
          yield* behind.stop("SIGKILL")
          yield* behind.start
          yield* write("again")
          yield* refusesToStart(lost)
          yield* caughtUp({ ...cluster, urls: [leader.url, behind.url] })
        })
      ),
    120_000
  )
})
