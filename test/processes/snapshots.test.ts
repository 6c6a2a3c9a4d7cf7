/**
 * Three operating-system processes: one is away until what it lacks is compacted everywhere, and whoever sends it the snapshot is killed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import { RaftClient } from "../../src/services/RaftClient.ts"
import * as LocalCluster from "./LocalCluster.ts"
import { bytes, caughtUp, withCluster } from "./withCluster.ts"

/** Slow enough that a snapshot of a few hundred kilobytes is under way for a while. */
const args = [
  "--snapshot-entries",
  "10000",
  "--log-tail-entries",
  "100",
  "--snapshot-bytes-per-second",
  "400000",
  "--snapshot-chunk-bytes",
  "16384"
]

const entries = 50_000
const keys = 2000

/** Everything that a node holds, asked of itself alone. */
const contentsOf = (url: string) =>
  Effect.promise(async () => {
    const pages: Array<string> = []
    for (let after = ""; pages.length < keys;) {
      const response = await fetch(`${url}/v1/kv?consistency=stale&limit=1000&after=${encodeURIComponent(after)}`)
      const page: Protocol.Answer & { items: Array<{ key: string }>; more: boolean } = JSON.parse(await response.text())
      pages.push(JSON.stringify(page))
      after = page.items.at(-1)?.key ?? ""
      if (!page.more) break
    }
    return pages
  })

const until = (url: string, isSo: (status: LocalCluster.Status) => boolean) =>
  LocalCluster.status(url).pipe(
    Effect.filterOrFail(isSo, (status) => new LocalCluster.NotReady({ message: JSON.stringify(status) })),
    Effect.retry({ schedule: Schedule.spaced(10), times: 2000 })
  )

describe("a process that was down while everything it lacks was compacted", () => {
  it.live(
    "gets the snapshot, from the next leader when the first is killed in the middle, and equals the others",
    () =>
      withCluster((cluster) =>
        Effect.gen(function*() {
          const store = Protocol.wire.on(yield* RaftClient)
          const leader = yield* cluster.leader
          const [away, third] = cluster.nodes.filter((node) => node !== leader)
          if (away === undefined || third === undefined) return assert.fail("three nodes")
          const put = (i: number) =>
            store.propose({ _tag: "Put", key: `k${i % keys}`, value: bytes(`${i} `.padEnd(200, "x")) })
          yield* Effect.forEach(Array.from({ length: 100 }, (_, i) => i), put, { concurrency: 100 })
          yield* away.stop("SIGKILL")
          yield* Effect.forEach(Array.from({ length: entries }, (_, i) => i), put, { concurrency: 512 })
          for (const { url } of [leader, third]) yield* until(url, ({ prevLogIndex }) => prevLogIndex > entries / 2)
          yield* away.start
          yield* until(leader.url, ({ sending: [one] }) => one !== undefined && one.offset > 0)
          yield* leader.stop("SIGKILL")
          const next = yield* until(third.url, ({ role }) => role === "Leader")
          assert.isAbove(next.prevLogIndex, entries / 2)
          yield* until(away.url, ({ lastApplied }) => lastApplied > entries)
          assert.isAbove((yield* LocalCluster.status(away.url)).prevLogIndex, entries / 2)
          yield* store.propose({ _tag: "Put", key: "after", value: bytes("after") })
          yield* leader.start
          yield* caughtUp(cluster)
          const [first, ...others] = yield* Effect.forEach(cluster.urls, contentsOf)
          assert.strictEqual(first?.length, 3)
          for (const other of others) assert.deepStrictEqual(other, first)
          assert.match(away.output(), /received a snapshot/)
        }), args),
    120_000
  )
})
