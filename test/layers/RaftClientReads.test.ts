import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../../src/layers/RaftClientHttp.ts"
import {
  type Connection,
  Lost,
  type Options,
  RaftClient,
  Redirected,
  Unreachable
} from "../../src/services/RaftClient.ts"
import { Behind, type Consistency, NotLeader, Overloaded, Stopped } from "../../src/services/RaftNode.ts"
import * as FakeNode from "./fakeNode.ts"
import { connected, each } from "./scriptedServers.ts"

const query = Uint8Array.of(7)
const done = Uint8Array.of(1)

/** Answers every kind of request. */
const answers: Partial<Connection> = {
  propose: (commands) => each(commands, () => Effect.succeed(done)),
  read: (queries) => each(queries, () => Effect.succeed(done)),
  readStale: () => Effect.succeed({ answer: done, appliedIndex: 3, leaderContactAgeMs: 5 })
}

const healthy = () => answers

/** Runs a request with as much test time as it needs, up to a minute. */
const inTestTime = <A, E>(request: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(request)
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.join(fiber)
  })

describe("reads that any server answers", () => {
  it.effect("go to the servers of the list in turn, stale ones and those of followers alike", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* connected({ a: healthy, b: healthy, c: healthy })
      const stale = client.readStale(query)
      const follower = client.read(query, { consistency: "follower" })
      for (const read of [stale, stale, follower, follower, stale]) yield* read
      assert.deepStrictEqual(asked, ["a", "b", "c", "a", "b"])
    }))

  it.effect("say nothing about the leader, who is found as before", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* connected({ a: healthy, b: healthy, c: healthy })
      yield* client.propose(query)
      yield* client.readStale(query)
      yield* client.readStale(query)
      yield* client.read(query, { consistency: "follower" })
      yield* client.read(query)
      yield* client.read(query, { consistency: "lease" })
      yield* client.read(query, { consistency: "linearizable" })
      assert.deepStrictEqual(asked, ["a", "a", "b", "c", "a", "a", "a"])
    }))

  it.effect("go to the next server where one knows no leader, even if it names one elsewhere", () =>
    Effect.gen(function*() {
      const { asked, client } = yield* connected({
        a: () => ({ read: (queries) => each(queries, () => Effect.fail(new Redirected())) }),
        b: () => ({
          read: (queries) => each(queries, () => Effect.fail(new Redirected({ leader: "n9", url: "elsewhere" })))
        }),
        c: healthy
      })
      assert.deepStrictEqual(yield* client.read(query, { consistency: "follower" }), done)
      assert.deepStrictEqual(asked, ["a", "b", "c"])
    }))

  const failures: ReadonlyArray<[string, Partial<Connection> | Unreachable]> = [
    ["is behind", { readStale: () => Effect.fail(new Behind({ minIndex: 9 })) }],
    ["is overloaded", { readStale: () => Effect.fail(new Overloaded()) }],
    ["stops", { readStale: () => Effect.fail(new Stopped()) }],
    ["is lost", { readStale: () => Effect.fail(new Lost({ reason: "closed" })) }],
    ["is silent", {}],
    ["cannot be reached", new Unreachable({ reason: "refused" })]
  ]
  for (const [what, failure] of failures) {
    it.effect(`go to the next server where one ${what}`, () =>
      Effect.gen(function*() {
        const { asked, client } = yield* connected({ a: () => failure, b: healthy })
        assert.strictEqual((yield* inTestTime(client.readStale(query))).appliedIndex, 3)
        assert.deepStrictEqual(asked, ["a", "b"])
      }))
  }

  it.effect("are put to every server again after a pause, until the deadline: then the error says why each did not answer", () =>
    Effect.gen(function*() {
      const behind = () => ({ readStale: () => Effect.fail(new Behind({ minIndex: 9 })) })
      const { asked, client } = yield* connected({ a: behind, b: (count) => count < 3 ? behind() : answers })
      assert.strictEqual((yield* inTestTime(client.readStale(query, { minIndex: 9 }))).appliedIndex, 3)
      assert.deepStrictEqual(asked, ["a", "b", "a", "b", "a", "b"])
      const without = yield* connected({ a: behind, b: () => new Unreachable({ reason: "refused" }) })
      const error = yield* inTestTime(Effect.flip(without.client.readStale(query, { minIndex: 9 })))
      assert.strictEqual(error._tag, "DeadlineExceeded")
      assert.match(error.message, /a: .*has not applied index 9.*b: refused/)
    }))
})

describe("a server that waits longer than the client", () => {
  it.effect("is said to have shown no sign of the index that was asked for", () =>
    Effect.gen(function*() {
      const { client } = yield* connected({ a: () => ({}) }, { attemptMs: 200, deadlineMs: 200 })
      const error = yield* inTestTime(Effect.flip(client.readStale(query, { minIndex: 9 })))
      assert.include(error.message, "a: no sign that index 9 is applied there within 200 ms")
      assert.include((yield* inTestTime(Effect.flip(client.readStale(query)))).message, "a: no answer within 200 ms")
    }))
})

describe("snapshots on demand", () => {
  it.effect("every server of the list is asked, each with its own outcome, and a slow one is waited for", () =>
    Effect.gen(function*() {
      const snapshot = { snapshotIndex: 5, snapshotTerm: 1, sizeBytes: 9, tookMs: 3000 }
      const { client } = yield* connected({
        slow: () => ({ takeSnapshot: Effect.delay(Effect.succeed(snapshot), 3000) }),
        stopping: () => ({ takeSnapshot: Effect.fail(new Stopped()) }),
        silent: () => ({}),
        down: () => new Unreachable({ reason: "refused" })
      }, { attemptMs: 100, deadlineMs: 5000 })
      const [slow, stopping, silent, down] = yield* inTestTime(client.takeSnapshots)
      assert.deepStrictEqual(slow, { _tag: "Taken", url: "slow", snapshot })
      assert.deepInclude(stopping, { _tag: "Failed", url: "stopping" })
      assert.deepStrictEqual(silent, { _tag: "Failed", url: "silent", reason: "no answer within 5000 ms" })
      assert.deepStrictEqual(down, { _tag: "Down", url: "down", reason: "refused" })
    }))
})

const clientOf = (endpoints: ReadonlyArray<string>, options: Partial<Options> = {}) =>
  Effect.map(
    Layer.build(RaftClientHttp.layer({ endpoints, ...options })),
    (context) => Context.get(context, RaftClient)
  )

const serve = (node: FakeNode.FakeNode) => FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined }))

describe("over the network", () => {
  it.live("a read's consistency reaches the node, linearizable where none was given", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const store = Protocol.wire.on(yield* clientOf([yield* serve(node)]))
      const get = (consistency?: Consistency) =>
        store.read({ _tag: "Get", key: "k" }, consistency === undefined ? {} : { consistency })
      for (const consistency of [undefined, "linearizable", "lease", "follower"] as const) yield* get(consistency)
      assert.deepStrictEqual(node.consistencies, ["linearizable", "linearizable", "lease", "follower"])
    }))

  it.live("a stale answer has the applied index and the age of the last contact, where there was one", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const store = Protocol.wire.on(yield* clientOf([yield* serve(node)], { sessions: false }))
      yield* store.propose({ _tag: "Put", key: "k", value: done })
      const stale = yield* store.readStale({ _tag: "Get", key: "k" }, { minIndex: 1 })
      assert.deepStrictEqual([stale.answer._tag, stale.appliedIndex, stale.leaderContactAgeMs], ["Found", 1, 7.4])
      node.leaderContactAgeMs = undefined
      assert.isUndefined((yield* store.readStale({ _tag: "Get", key: "k" })).leaderContactAgeMs)
      assert.deepStrictEqual(node.minIndices, [1, undefined])
    }))

  it.live("a follower that knows no leader and one that is behind send the reader on", () =>
    Effect.gen(function*() {
      const lonely = FakeNode.make("n1")
      lonely.onRead = Effect.fail(new NotLeader({}))
      lonely.onReadStale = Effect.fail(new Behind({ minIndex: 1 }))
      const other = FakeNode.make("n2")
      const client = yield* clientOf([yield* serve(lonely), yield* serve(other)])
      yield* client.read(query, { consistency: "follower" })
      yield* client.readStale(query)
      yield* client.readStale(query, { minIndex: 1 })
      assert.deepStrictEqual([lonely.reads, other.reads], [2, 3])
    }))

  it.live("snapshots are taken by every server that runs", () =>
    Effect.gen(function*() {
      const node = FakeNode.make("n1")
      const stopping = FakeNode.make("n2")
      stopping.onTakeSnapshot = Effect.fail(new Stopped())
      const client = yield* clientOf([yield* serve(node), yield* serve(stopping)], { sessions: false })
      yield* Protocol.wire.on(client).propose({ _tag: "Put", key: "k", value: done })
      const [taken, failed] = yield* client.takeSnapshots
      assert.strictEqual(taken?._tag, "Taken")
      if (taken?._tag === "Taken") {
        const { tookMs, ...rest } = taken.snapshot
        assert.deepStrictEqual(rest, { snapshotIndex: 1, snapshotTerm: 1, sizeBytes: 100 })
        assert.isAtLeast(tookMs, 0)
      }
      assert.strictEqual(failed?._tag, "Failed")
    }))
})
