import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import { KeyValueClient } from "../../src/layers/kv/Client.ts"
import { valueBytesMax } from "../../src/layers/kv/Protocol.ts"
import { type Closed, connect } from "../../src/promise.ts"
import * as RaftClient from "../../src/services/RaftClient.ts"
import { NotLeader, RaftNode } from "../../src/services/RaftNode.ts"
import * as FakeNode from "./fakeNode.ts"

/** A store in front of a node of this process. */
const withStore = <A, E>(
  use: (store: KeyValueClient["Service"], node: FakeNode.FakeNode) => Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    const node = FakeNode.make()
    const layer = KeyValueClient.layer.pipe(
      Layer.provide(RaftClient.layerNode({ sessions: false, deadlineMs: 300 })),
      Layer.provide(Layer.succeed(RaftNode, node.service))
    )
    return Effect.provide(Effect.flatMap(KeyValueClient, (store) => use(store, node)), layer)
  })

const text = (value: Uint8Array): string => new TextDecoder().decode(value)

describe("KeyValueClient", () => {
  it.live("writes bytes and text, reads, deletes and lists them", () =>
    withStore((store) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* store.put("a/1", "one"), { revision: 1 })
        assert.deepStrictEqual(yield* store.put("a/2", Uint8Array.of(2)), { revision: 2 })
        yield* store.put("b", "other")
        yield* store.put("a/1", "uno")
        const found = Option.getOrThrow(yield* store.get("a/1"))
        assert.deepStrictEqual([text(found.value), found.revision, found.version], ["uno", 4, 2])
        assert.isTrue(Option.isNone(yield* store.get("missing")))
        const listed = yield* store.list("a/", { limit: 1 })
        assert.deepStrictEqual([listed.items.map(({ key }) => key), listed.more], [["a/1"], true])
        const rest = yield* store.list("a/", { after: "a/1" })
        assert.deepStrictEqual([rest.items.map(({ key }) => key), rest.more, rest.revision], [["a/2"], false, 4])
        assert.deepStrictEqual(yield* store.delete("a/1"), { revision: 5, deleted: true })
        assert.deepStrictEqual(yield* store.delete("a/1"), { revision: 6, deleted: false })
        assert.isTrue(Option.isNone(yield* store.get("a/1")))
      })
    ))

  it.live("a condition that does not hold is a typed error with the revision there is, and changes nothing", () =>
    withStore((store) =>
      Effect.gen(function*() {
        const missing = yield* Effect.flip(store.put("k", "x", { ifRevision: 7 }))
        assert.deepInclude(missing, { _tag: "RevisionMismatch", key: "k", revision: 0, outcome: "not-applied" })
        assert.include(missing.message, "k does not exist")
        const { revision } = yield* store.put("k", "x", { ifRevision: 0 })
        const taken = yield* Effect.flip(store.put("k", "y", { ifRevision: 0 }))
        assert.deepInclude(taken, { _tag: "RevisionMismatch", revision })
        assert.strictEqual((yield* Effect.flip(store.delete("k", { ifRevision: 99 })))._tag, "RevisionMismatch")
        assert.strictEqual(text(Option.getOrThrow(yield* store.get("k")).value), "x")
        assert.isTrue((yield* store.delete("k", { ifRevision: revision })).deleted)
      })
    ))

  it.live("what no server could take is refused here, as not applied, and nobody is asked", () =>
    withStore((store, node) =>
      Effect.gen(function*() {
        const errors = [
          yield* Effect.flip(store.put("", "x")),
          yield* Effect.flip(store.put("k", new Uint8Array(valueBytesMax + 1))),
          yield* Effect.flip(store.delete("x".repeat(5000))),
          yield* Effect.flip(store.get("")),
          yield* Effect.flip(store.get("k", { minIndex: 3 }))
        ]
        for (const error of errors) assert.deepInclude(error, { _tag: "Malformed", outcome: "not-applied" })
        assert.deepStrictEqual([node.proposed, node.reads], [0, 0])
      })
    ))

  it.live("reads as stale or as linearizable as asked", () =>
    withStore((store, node) =>
      Effect.gen(function*() {
        yield* store.put("k", "x")
        yield* store.get("k", { consistency: "stale", minIndex: 1 })
        yield* store.list("", { consistency: "stale" })
        assert.deepStrictEqual(node.minIndices, [1, undefined])
        yield* store.get("k", { consistency: "follower" })
        yield* store.get("k", { consistency: "lease" })
        yield* store.list("")
        assert.deepStrictEqual(node.consistencies, ["follower", "lease", "linearizable"])
      })
    ))
})

describe("the promise façade", () => {
  const served = Effect.gen(function*() {
    const node = FakeNode.make()
    const url = yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined }))
    return { node, titan: connect({ endpoints: [url], deadlineMs: 500 }) }
  })

  it.live("puts, gets, deletes and lists", () =>
    Effect.gen(function*() {
      const { titan } = yield* served
      yield* Effect.promise(async () => {
        const { revision } = await titan.put("greeting", "hello")
        const found = await titan.get("greeting")
        assert.deepStrictEqual([text(found?.value ?? new Uint8Array()), found?.revision], ["hello", revision])
        assert.deepStrictEqual((await titan.list("g")).items.map(({ key }) => key), ["greeting"])
        assert.isTrue((await titan.delete("greeting", { ifRevision: revision })).deleted)
        assert.isUndefined(await titan.get("greeting"))
        await titan.close()
      })
    }))

  it.live("rejects with the typed error, which says what became of the write", () =>
    Effect.gen(function*() {
      const { node, titan } = yield* served
      const rejected = (promise: Promise<unknown>) =>
        Effect.promise(() =>
          promise.then(() => undefined, (error: { _tag: string; outcome: string; message: string }) => error)
        )
      assert.deepInclude(yield* rejected(titan.put("k", "x", { ifRevision: 5 })), {
        _tag: "RevisionMismatch",
        outcome: "not-applied"
      })
      node.onSequenced = Effect.fail(new NotLeader({}))
      const error = yield* rejected(titan.put("k", "x"))
      assert.deepInclude(error, { _tag: "NoLeader", outcome: "not-applied" })
      assert.match(error?.message ?? "", /not applied: no server that leads was found within 500 ms/)
      yield* Effect.promise(() => titan.close())
    }))

  it.live("an AbortSignal ends the wait, and closing ends all that still wait; each rejection says what is known", () =>
    Effect.gen(function*() {
      const { node, titan } = yield* served
      node.onSequenced = Effect.never
      yield* Effect.promise(async () => {
        const ended = (promise: Promise<unknown>) => promise.then(() => "done", (reason: unknown) => reason)
        const closed = (reason: unknown) => {
          const { _tag, outcome } = reason as Closed
          return [_tag, outcome]
        }
        const abort = new AbortController()
        const [first, second] = [ended(titan.put("k", "x", { signal: abort.signal })), ended(titan.put("k", "y"))]
        abort.abort("enough")
        assert.strictEqual(await first, "enough")
        await titan.close()
        assert.deepStrictEqual(closed(await second), ["Closed", "unknown"])
        assert.deepStrictEqual(closed(await ended(titan.put("k", "z"))), ["Closed", "not-applied"])
      })
    }))
})
