import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  Behind,
  NotLeader,
  Overloaded,
  type ReadError,
  type StaleReadError,
  Stopped
} from "../../src/services/RaftNode.ts"
import * as FakeNode from "./fakeNode.ts"
import { bytes, json, send, start } from "./httpRequests.ts"

/** A server with one key, and urls of others. */
const started = Effect.gen(function*() {
  const { node, url } = yield* start({ urlOf: (id) => `http://${id}` })
  yield* send(`${url}/v1/kv/a`, "PUT", bytes("v"))
  return { node, url }
})

describe("reads by consistency", () => {
  it.live("linearizable is the default; each consistency reaches the node, for one key and for lists", () =>
    Effect.gen(function*() {
      const { node, url } = yield* started
      const queries = ["", "?consistency=linearizable", "?consistency=lease", "?consistency=follower"]
      for (const query of queries) {
        const reply = yield* send(`${url}/v1/kv/a${query}`)
        assert.deepStrictEqual([reply.status, reply.body.toString()], [200, "v"])
        assert.isUndefined(reply.headers["titan-applied-index"])
        assert.isUndefined(reply.headers["titan-leader-contact-age-ms"])
        assert.strictEqual((yield* send(`${url}/v1/kv${query}`)).status, 200)
      }
      const asked = [undefined, "linearizable", "lease", "follower"]
      assert.deepStrictEqual(node.consistencies, asked.flatMap((consistency) => [consistency, consistency]))
    }))

  it.live("a stale answer, a list and a missing key included, says what was applied and how old the last contact is", () =>
    Effect.gen(function*() {
      const { node, url } = yield* started
      const cases: ReadonlyArray<[string, number]> = [["/v1/kv/a", 200], ["/v1/kv/none", 404], ["/v1/kv", 200]]
      for (const [path, status] of cases) {
        const { headers, ...reply } = yield* send(`${url}${path}?consistency=stale`)
        assert.deepStrictEqual(
          [reply.status, headers["titan-applied-index"], headers["titan-leader-contact-age-ms"]],
          [status, "1", "7"]
        )
      }
      const missing = yield* send(`${url}/v1/kv/none?consistency=stale`)
      assert.deepStrictEqual(json(missing), { _tag: "KeyNotFound", revision: 1 })
      const listed = json(yield* send(`${url}/v1/kv?consistency=stale`)) as { items: ReadonlyArray<{ key: string }> }
      assert.deepStrictEqual(listed.items.map(({ key }) => key), ["a"])
      assert.deepStrictEqual(node.consistencies, [])
    }))

  it.live("a server that never heard a leader gives no age", () =>
    Effect.gen(function*() {
      const { node, url } = yield* started
      node.leaderContactAgeMs = undefined
      const { headers } = yield* send(`${url}/v1/kv/a?consistency=stale`)
      assert.strictEqual(headers["titan-applied-index"], "1")
      assert.isUndefined(headers["titan-leader-contact-age-ms"])
    }))

  it.live("min-index reaches the node, and a server that is behind says so with the index", () =>
    Effect.gen(function*() {
      const { node, url } = yield* started
      assert.strictEqual((yield* send(`${url}/v1/kv/a?consistency=stale&min-index=1`)).status, 200)
      yield* send(`${url}/v1/kv?consistency=stale`)
      assert.deepStrictEqual(node.minIndices, [1, undefined])
      node.onReadStale = Effect.fail(new Behind({ minIndex: 9 }))
      const behind = yield* send(`${url}/v1/kv/a?consistency=stale&min-index=9`)
      const body = { _tag: "Behind", minIndex: 9, outcome: "not-applied" }
      assert.deepStrictEqual([behind.status, json(behind)], [503, body])
      assert.isDefined(behind.headers["retry-after"])
    }))

  const staleErrors: ReadonlyArray<StaleReadError> = [new Overloaded(), new Stopped()]
  for (const error of staleErrors) {
    it.live(`a stale read that meets ${error._tag} is answered 503`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* started
        node.onReadStale = Effect.fail(error)
        const reply = yield* send(`${url}/v1/kv/a?consistency=stale`)
        assert.deepStrictEqual([reply.status, json(reply)], [503, { _tag: error._tag, outcome: "not-applied" }])
      }))
  }

  const refused: ReadonlyArray<[string, ReadError, number, string]> = [
    ["lease", new NotLeader({ leader: "n2" }), 307, "NotLeader"],
    ["follower", new NotLeader({}), 503, "NoLeader"],
    ["follower", new NotLeader({ leader: "n2" }), 503, "ReadUnconfirmed"]
  ]
  for (const [consistency, error, status, tag] of refused) {
    it.live(`a ${consistency} read that meets ${JSON.stringify(error)} is answered ${status} ${tag}`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* started
        node.onRead = Effect.fail(error)
        const reply = yield* send(`${url}/v1/kv/a?consistency=${consistency}`)
        assert.deepStrictEqual([reply.status, (json(reply) as { _tag: string })._tag], [status, tag])
        assert.strictEqual(reply.headers.location !== undefined, status === 307)
      }))
  }
})

describe("POST /v1/snapshot", () => {
  it.live("takes a snapshot on the server asked, even if that does not lead", () =>
    Effect.gen(function*() {
      const node = FakeNode.make("n1")
      node.status = { ...node.status, role: "Follower", leaderId: "n2" }
      const { url } = yield* start({ node, urlOf: (id) => `http://${id}` })
      yield* send(`${url}/v1/kv/a`, "PUT", bytes("v"))
      const reply = yield* send(`${url}/v1/snapshot`, "POST")
      assert.strictEqual(reply.status, 200)
      const { tookMs, ...report } = json(reply) as { tookMs: number }
      assert.deepStrictEqual(report as object, { snapshotIndex: 1, snapshotTerm: 1, sizeBytes: 100 })
      assert.isTrue(Number.isInteger(tookMs))
    }))

  it.live("is a 503 on a server that stops", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      node.onTakeSnapshot = Effect.fail(new Stopped())
      const reply = yield* send(`${url}/v1/snapshot`, "POST")
      assert.deepStrictEqual([reply.status, json(reply)], [503, { _tag: "Stopped", outcome: "not-applied" }])
    }))
})

describe("/openapi.json", () => {
  interface Operation {
    readonly parameters?: ReadonlyArray<{ readonly name: string; readonly schema: { readonly enum?: unknown } }>
    readonly responses: Record<string, { readonly headers?: object }>
  }

  it.live("describes how reads may be answered, the headers of stale answers, and snapshots", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      const { paths } = json(yield* send(`${url}/openapi.json`)) as {
        paths: Record<string, Record<string, Operation>>
      }
      for (const path of ["/v1/kv", "/v1/kv/{key}"]) {
        const operation = paths[path]?.["get"]
        const consistency = operation?.parameters?.find(({ name }) => name === "consistency")
        assert.deepStrictEqual(consistency?.schema.enum, ["linearizable", "lease", "follower", "stale"])
        assert.isTrue(operation?.parameters?.some(({ name }) => name === "min-index"))
        assert.includeMembers(Object.keys(operation?.responses["200"]?.headers ?? {}), [
          "titan-applied-index",
          "titan-leader-contact-age-ms"
        ])
        assert.include(JSON.stringify(operation?.responses["503"]), "Behind")
      }
      assert.sameMembers(Object.keys(paths["/v1/snapshot"]?.["post"]?.responses ?? {}), ["200", "403", "503", "507"])
    }))
})
