/**
 * Three operating-system processes with their logs on disk: the leader is killed under writes, and no acknowledged write is lost.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import { ofVoters } from "../../src/domain/Configuration.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import { RaftClient } from "../../src/services/RaftClient.ts"
import { Storage } from "../../src/services/Storage.ts"
import type * as LocalCluster from "./LocalCluster.ts"
import { bytes, caughtUp, withCluster } from "./withCluster.ts"

/** The log of a node that is not running, read as the node itself would. */
const logOf = (node: LocalCluster.LocalNode): Effect.Effect<ReadonlyArray<Entry>> =>
  Effect.flatMap(Storage, (storage) => storage.recover(ofVoters(["n1", "n2", "n3"]))).pipe(
    Effect.map((recovered) => recovered.entries),
    Effect.provide(StorageFile.layer({ directory: node.dataDir, clusterId: "read back", nodeId: node.id })),
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.orDie
  )

describe("three processes", () => {
  it.live(
    "lose no acknowledged write when the leader is killed, and are equal when it is back",
    () =>
      withCluster((cluster) =>
        Effect.gen(function*() {
          const store = Protocol.wire.on(yield* RaftClient)
          const acknowledged = new Map<string, string>()
          const put = (key: string) =>
            store.propose({ _tag: "Put", key, value: bytes(`value of ${key}`) }).pipe(
              Effect.tap(() => Effect.sync(() => acknowledged.set(key, `value of ${key}`))),
              Effect.catchTag("OutcomeUnknown", () => Effect.void)
            )
          yield* cluster.leader
          yield* Effect.forEach(Array.from({ length: 200 }, (_, i) => `before-${i}`), put, { concurrency: 16 })
          const killed = yield* cluster.leader
          const during = yield* Effect.forkChild(
            Effect.forEach(Array.from({ length: 400 }, (_, i) => `during-${i}`), put, { concurrency: 16 }),
            { startImmediately: true }
          )
          yield* killed.stop("SIGKILL")
          yield* Effect.forEach(Array.from({ length: 100 }, (_, i) => `after-${i}`), put, { concurrency: 16 })
          yield* killed.start
          yield* Effect.forEach(Array.from({ length: 100 }, (_, i) => `again-${i}`), put, { concurrency: 16 })
          yield* Fiber.join(during)
          assert.isAtLeast(acknowledged.size, 400)
          yield* caughtUp(cluster)
          for (const [key, value] of acknowledged) {
            const answer = yield* store.read({ _tag: "Get", key })
            assert.deepInclude(answer, { _tag: "Found", value: bytes(value) }, key)
          }
          yield* caughtUp(cluster)
          const exitCodes = yield* Effect.forEach(cluster.nodes, (node) => node.stop("SIGTERM"), { concurrency: 3 })
          assert.deepStrictEqual(exitCodes, [0, 0, 0])
          const [first, ...rest] = yield* Effect.forEach(cluster.nodes, logOf)
          assert.isAbove(first?.length ?? 0, acknowledged.size)
          for (const log of rest) assert.deepStrictEqual(log, first)
        })
      ),
    60_000
  )
})
