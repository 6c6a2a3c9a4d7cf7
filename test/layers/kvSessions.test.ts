import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as Store from "../../src/layers/kv/Store.ts"
import { NotLeader, OutcomeUnknown, Overloaded, SessionExpired, Stopped } from "../../src/services/RaftNode.ts"
import { bytes, json, send, start } from "./httpRequests.ts"

const inSession = (session: string, sequence: string, more: Record<string, string> = {}) => ({
  "titan-session": session,
  "titan-sequence": sequence,
  ...more
})

describe("a write with titan-session and titan-sequence", () => {
  it.live("goes to the node as part of the session, PUT and DELETE alike", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      const opened = yield* send(`${url}/v1/sessions`, "POST")
      assert.deepStrictEqual([opened.status, json(opened)], [200, { session: 1 }])
      const put = yield* send(`${url}/v1/kv/a`, "PUT", bytes("v"), inSession("1", "4"))
      assert.deepStrictEqual([put.status, json(put)], [200, { revision: 2 }])
      const first = { "titan-first-unanswered": "3" }
      const deleted = yield* send(`${url}/v1/kv/a`, "DELETE", undefined, inSession("1", "5", first))
      assert.deepStrictEqual([deleted.status, json(deleted)], [200, { revision: 3, deleted: true }])
      assert.deepStrictEqual(node.sequenced, [
        { session: 1, sequence: 4, firstUnanswered: 1 },
        { session: 1, sequence: 5, firstUnanswered: 3 }
      ])
      assert.strictEqual(node.proposed, 0)
    }))

  it.live("of an expired session is a 410 that says unknown", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      node.onSequenced = Effect.fail(new SessionExpired())
      for (const method of ["PUT", "DELETE"]) {
        const reply = yield* send(`${url}/v1/kv/a`, method, undefined, inSession("1", "1"))
        const { message, ...body } = json(reply) as { message: string }
        assert.deepStrictEqual([reply.status, body], [410, { _tag: "SessionExpired", outcome: "unknown" }])
        assert.include(message, "an earlier attempt may have been applied")
      }
    }))

  it.live("whose number another kind of write had is a 400 that says so", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      const machine = Protocol.wire.serve(Store.make())
      const answerTo = (command: Uint8Array) =>
        Effect.map(machine.apply([{ index: 1, term: 1, command }]), ([result]) => result ?? bytes(""))
      for (
        const [method, first] of [["PUT", { _tag: "Delete" }], ["DELETE", { _tag: "Put", value: bytes("v") }]] as const
      ) {
        const store = Protocol.wire.on({
          propose: (command) =>
            Effect.tap(answerTo(command), (answer) => Effect.sync(() => (node.onSequenced = Effect.succeed(answer)))),
          read: () => Effect.die("nothing is read")
        })
        yield* store.propose({ ...first, key: "a" })
        const reply = yield* send(
          `${url}/v1/kv/a`,
          method,
          method === "PUT" ? bytes("v") : undefined,
          inSession("1", "1")
        )
        const body = json(reply) as { _tag: string; message: string }
        assert.deepStrictEqual([reply.status, body._tag], [400, "BadRequest"])
        assert.include(body.message, "titan-sequence: another write was applied with this number, and this one was not")
      }
    }))

  it.live("meets a follower's 307 as others do", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start({ urlOf: (id) => `http://${id}` })
      node.onSequenced = Effect.fail(new NotLeader({ leader: "n2" }))
      const reply = yield* send(`${url}/v1/kv/a`, "PUT", bytes("v"), inSession("1", "1"))
      assert.deepStrictEqual([reply.status, reply.headers.location], [307, "http://n2/v1/kv/a"])
    }))

  const bad: ReadonlyArray<[Record<string, string>, string]> = [
    [{ "titan-session": "1" }, "titan-sequence"],
    [{ "titan-sequence": "1" }, "titan-session"],
    [{ "titan-first-unanswered": "1" }, "titan-first-unanswered"],
    [inSession("0", "1"), "titan-session"],
    [inSession("1", "0"), "titan-sequence"],
    [inSession("1", "1.5"), "titan-sequence"],
    [inSession("abc", "1"), "titan-session"],
    [inSession("1", "99999999999999999"), "titan-sequence"],
    [inSession("1", "1", { "titan-first-unanswered": "-1" }), "titan-first-unanswered"],
    [inSession("1", "1", { "titan-first-unanswered": "2" }), "titan-first-unanswered"]
  ]
  for (const [headers, named] of bad) {
    it.live(`${JSON.stringify(headers)} is a 400 that names ${named}, and nothing is written`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* start()
        for (const method of ["PUT", "DELETE"]) {
          const reply = yield* send(`${url}/v1/kv/a`, method, method === "PUT" ? bytes("v") : undefined, headers)
          const body = json(reply) as { _tag: string; message: string }
          assert.deepStrictEqual([reply.status, body._tag], [400, "BadRequest"])
          assert.isTrue(body.message.startsWith(`${named}: `), body.message)
        }
        assert.deepStrictEqual([node.proposed, node.sequenced.length], [0, 0])
      }))
  }
})

describe("POST /v1/sessions", () => {
  it.live("is answered as writes are where the server cannot open one", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start({ urlOf: (id) => `http://${id}` })
      const cases = [
        [new NotLeader({ leader: "n2" }), 307, "NotLeader"],
        [new NotLeader({}), 503, "NoLeader"],
        [new Overloaded(), 503, "Overloaded"],
        [new Stopped(), 503, "Stopped"],
        [new OutcomeUnknown(), 504, "OutcomeUnknown"]
      ] as const
      for (const [error, status, tag] of cases) {
        node.onOpenSession = Effect.fail(error)
        const reply = yield* send(`${url}/v1/sessions`, "POST")
        assert.deepStrictEqual([reply.status, (json(reply) as { _tag: string })._tag], [status, tag])
      }
    }))

  it.live("refuses a web page and a parameter", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      const page = yield* send(`${url}/v1/sessions`, "POST", undefined, { origin: "http://evil" })
      assert.deepStrictEqual([page.status, (json(page) as { _tag: string })._tag], [403, "Forbidden"])
      assert.strictEqual((yield* send(`${url}/v1/sessions?dry-run=true`, "POST")).status, 400)
    }))
})
