import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as Http from "node:http"
import * as Configuration from "../../src/domain/Configuration.ts"
import {
  NotLeader,
  OutcomeUnknown,
  Overloaded,
  type ProposeError,
  type ReadError,
  ReadUnconfirmed,
  Stopped,
  TooLarge
} from "../../src/services/RaftNode.ts"
import * as FakeNode from "./fakeNode.ts"

import { bytes, json, keyPath, send, start } from "./httpRequests.ts"

describe("one key", () => {
  it.live("PUT, GET and DELETE answer as the contract says", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      const put = yield* send(`${url}/v1/kv/a`, "PUT", bytes("hello"))
      assert.deepStrictEqual([put.status, json(put)], [200, { revision: 1 }])
      yield* send(`${url}/v1/kv/a`, "PUT", bytes("hello 2"))
      const got = yield* send(`${url}/v1/kv/a`)
      assert.strictEqual(got.status, 200)
      assert.strictEqual(got.body.toString(), "hello 2")
      assert.strictEqual(got.headers["content-type"], "application/octet-stream")
      assert.strictEqual(got.headers["titan-revision"], "2")
      assert.strictEqual(got.headers["titan-version"], "2")
      const deleted = yield* send(`${url}/v1/kv/a`, "DELETE")
      assert.deepStrictEqual([deleted.status, json(deleted)], [200, { revision: 3, deleted: true }])
      const missing = yield* send(`${url}/v1/kv/a`)
      assert.deepStrictEqual([missing.status, json(missing)], [404, { _tag: "KeyNotFound", revision: 3 }])
      const again = yield* send(`${url}/v1/kv/a`, "DELETE")
      assert.deepStrictEqual(json(again), { revision: 4, deleted: false })
    }))

  it.live("a value is any bytes, none at all included, with any content type", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      const every = Uint8Array.from({ length: 256 }, (_, i) => i)
      yield* send(`${url}/v1/kv/every`, "PUT", every, { "content-type": "application/json" })
      assert.deepStrictEqual(new Uint8Array((yield* send(`${url}/v1/kv/every`)).body), every)
      assert.strictEqual((yield* send(`${url}/v1/kv/none`, "PUT")).status, 200)
      const none = yield* send(`${url}/v1/kv/none`)
      assert.deepStrictEqual([none.status, none.body.length], [200, 0])
      yield* send(`${url}/v1/kv/chunked`, "PUT", every, { "transfer-encoding": "chunked" })
      assert.deepStrictEqual(new Uint8Array((yield* send(`${url}/v1/kv/chunked`)).body), every)
    }))

  it.live("a key is any Unicode of 1 to 4096 bytes, percent-encoded, and no two keys are confused", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      const ascii = Array.from({ length: 128 }, (_, i) => `x${String.fromCharCode(i)}y`)
      const odd = [
        "a/b",
        "a%2Fb",
        "%",
        "a;b",
        "a",
        "a#b",
        "a?b",
        "ключ/😀",
        "..",
        ".",
        "//",
        "a//b",
        "A",
        "é".repeat(2048),
        "q".repeat(4096),
        " ",
        "+"
      ]
      const keys = [...ascii, ...odd]
      for (const key of keys) {
        const put = yield* send(`${url}${keyPath(key)}`, "PUT", bytes(`value of ${key}`))
        assert.strictEqual(put.status, 200, `${key}: ${put.body.toString()}`)
      }
      for (const key of keys) {
        assert.strictEqual((yield* send(`${url}${keyPath(key)}`)).body.toString(), `value of ${key}`)
      }
      const semicolon = yield* send(`${url}/v1/kv/a;b`)
      assert.strictEqual(semicolon.body.toString(), "value of a;b")
      const lower = yield* send(`${url}/v1/kv/a%2fb`)
      assert.strictEqual(lower.body.toString(), "value of a/b")
    }))

  it.live("if-revision writes and deletes only at that revision, and 409 says what the revision is", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      assert.strictEqual((yield* send(`${url}/v1/kv/a?if-revision=0`, "PUT", bytes("1"))).status, 200)
      const exists = yield* send(`${url}/v1/kv/a?if-revision=0`, "PUT", bytes("2"))
      assert.deepStrictEqual([exists.status, json(exists)], [409, { _tag: "RevisionMismatch", revision: 1 }])
      const stale = yield* send(`${url}/v1/kv/a?if-revision=9`, "DELETE")
      assert.deepStrictEqual([stale.status, json(stale)], [409, { _tag: "RevisionMismatch", revision: 1 }])
      assert.strictEqual((yield* send(`${url}/v1/kv/a?if-revision=1`, "DELETE")).status, 200)
    }))
})

describe("lists", () => {
  it.live("a list has base64 values, revisions and `more`, in pages", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      for (const key of ["p/1", "p/2", "p/3", "q"]) yield* send(`${url}${keyPath(key)}`, "PUT", bytes(key))
      const first = yield* send(`${url}/v1/kv?prefix=p%2F&limit=2`)
      assert.deepStrictEqual([first.status, json(first)], [200, {
        items: [
          { key: "p/1", value: Buffer.from("p/1").toString("base64"), revision: 1 },
          { key: "p/2", value: Buffer.from("p/2").toString("base64"), revision: 2 }
        ],
        revision: 4,
        more: true
      }])
      const second = json(yield* send(`${url}/v1/kv?prefix=p/&limit=2&after=p%2F2`)) as {
        items: Array<{ key: string }>
      }
      assert.deepStrictEqual(second.items.map((item) => item.key), ["p/3"])
      const all = json(yield* send(`${url}/v1/kv`)) as { items: Array<unknown>; more: boolean }
      assert.deepStrictEqual([all.items.length, all.more], [4, false])
    }))
})

describe("bad requests", () => {
  const cases: ReadonlyArray<[string, string, string]> = [
    ["GET", "/v1/kv/", "key"],
    ["PUT", "/v1/kv/", "key"],
    ["GET", "/v1/kv/a/b", "key"],
    ["GET", `/v1/kv/${"k".repeat(4097)}`, "key"],
    ["GET", `/v1/kv/${"%C3%A9".repeat(2049)}`, "key"],
    ["GET", "/v1/kv/%zz", "key"],
    ["GET", "/v1/kv/%", "key"],
    ["PUT", "/v1/kv/%ff", "key"],
    ["GET", "/v1/kv/%ED%A0%80", "key"],
    ["PUT", "/v1/kv/a?if-revision=-1", "if-revision"],
    ["PUT", "/v1/kv/a?if-revision=", "if-revision"],
    ["PUT", "/v1/kv/a?if-revision=1.5", "if-revision"],
    ["PUT", "/v1/kv/a?if-revision=0x1", "if-revision"],
    ["DELETE", "/v1/kv/a?if-revision=99999999999999999999", "if-revision"],
    ["PUT", "/v1/kv/a?if-revision=1&if-revision=2", "if-revision"],
    ["PUT", "/v1/kv/a?if_revision=1", "if_revision"],
    ["GET", "/v1/kv?limit=0", "limit"],
    ["GET", "/v1/kv?limit=1001", "limit"],
    ["GET", "/v1/kv?limit=ten", "limit"],
    ["GET", "/v1/kv?prefix=%ff", "prefix"],
    ["GET", "/v1/kv?after=%", "after"],
    ["GET", "/v1/kv/a?consistency=", "consistency"],
    ["GET", "/v1/kv?consistency=eventual", "consistency"],
    ["GET", "/v1/kv/a?consistency=stale&min-index=-1", "min-index"],
    ["GET", "/v1/kv?consistency=stale&min-index=1.5", "min-index"],
    ["GET", "/v1/kv/a?min-index=1", "min-index"],
    ["GET", "/v1/kv?consistency=follower&min-index=1", "min-index"]
  ]
  for (const [method, path, parameter] of cases) {
    it.live(`${method} ${path.slice(0, 48)} is a 400 that names ${parameter}`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* start()
        const reply = yield* send(`${url}${path}`, method, method === "PUT" ? bytes("v") : undefined)
        assert.strictEqual(reply.status, 400)
        const body = json(reply) as { _tag: string; message: string }
        assert.strictEqual(body._tag, "BadRequest")
        assert.isTrue(body.message.startsWith(`${parameter}: `), body.message)
        assert.strictEqual(node.proposed + node.reads, 0)
      }))
  }

  it.live("a path of keys in disguise is refused, before any check of it is skipped", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      for (const path of ["/v1/%6bv/a;b", "/v1/%6bv/a?if-revison=9", "/%76%31/kv/a", "/v1%2Fkv/a"]) {
        const reply = yield* send(`${url}${path}`, "PUT", bytes("x"))
        assert.include([400, 404], reply.status, path)
      }
      assert.strictEqual(node.proposed, 0)
    }))

  it.live("a parameter given twice, a consistency there is not and a min-index out of place are told as such", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      const told: ReadonlyArray<[string, string]> = [
        ["limit=1&limit=2", "limit: given twice"],
        ["consistency=eventual", "consistency: must be one of linearizable, lease, follower, stale"],
        ["min-index=1", "min-index: only with consistency=stale"]
      ]
      for (const [query, message] of told) {
        assert.strictEqual((json(yield* send(`${url}/v1/kv?${query}`)) as { message: string }).message, message)
      }
    }))

  it.live("an unknown path is a 404 in JSON, whatever the method", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      for (
        const [method, path] of [["GET", "/"], ["GET", "/v1"], ["POST", "/v1/kv/a"], ["GET", "/V1/KV/a"], ["PUT", "/x"]]
      ) {
        const reply = yield* send(`${url}${path}`, method)
        assert.deepStrictEqual([reply.status, (json(reply) as { _tag: string })._tag], [404, "NotFound"])
      }
    }))
})

describe("large values", () => {
  const twoMiB = new Uint8Array(2 << 20).fill(65)

  it.live("a value over the limit is a 413 whose body is read to its end, on a connection that goes on", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      const agent = new Http.Agent({ keepAlive: true, maxSockets: 1 })
      yield* Effect.addFinalizer(() => Effect.sync(() => agent.destroy()))
      const before = yield* send(`${url}/livez`, "GET", undefined, {}, agent)
      for (const headers of [{ "content-length": String(twoMiB.length) }, { "transfer-encoding": "chunked" }]) {
        const reply = yield* send(`${url}/v1/kv/a`, "PUT", twoMiB, headers, agent)
        assert.strictEqual(reply.status, 413)
        const body = json(reply) as { _tag: string; limitBytes: number; outcome: string }
        assert.deepStrictEqual([body._tag, body.limitBytes, body.outcome], ["TooLarge", 1 << 20, "not-applied"])
        assert.strictEqual(reply.clientPort, before.clientPort)
      }
      assert.strictEqual(node.proposed, 0)
      const after = yield* send(`${url}/v1/kv/a`, "PUT", bytes("v"), {}, agent)
      assert.deepStrictEqual([after.status, after.clientPort], [200, before.clientPort])
    }))

  it.live("a value of exactly the limit is stored, and the limit is an option", () =>
    Effect.gen(function*() {
      const { url } = yield* start({ valueBytesMax: 10 })
      assert.strictEqual((yield* send(`${url}/v1/kv/a`, "PUT", new Uint8Array(10))).status, 200)
      assert.strictEqual((yield* send(`${url}/v1/kv/a`, "PUT", new Uint8Array(11))).status, 413)
    }))

  it.live("a large body after a bad parameter, or for an unknown path, still gets its answer", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      assert.strictEqual((yield* send(`${url}/v1/kv/a?if-revision=x`, "PUT", twoMiB)).status, 400)
      assert.strictEqual((yield* send(`${url}/v1/kv/%zz`, "PUT", twoMiB)).status, 400)
      assert.strictEqual((yield* send(`${url}/nowhere`, "PUT", twoMiB)).status, 404)
    }))
})

describe("a server that cannot serve the request", () => {
  const write = (url: string) => send(`${url}/v1/kv/a`, "PUT", bytes("v"))
  const read = (url: string) => send(`${url}/v1/kv/a`)

  it.live("a follower answers 307 with the same path and query at the leader, and says not-applied", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start({ urlOf: (id) => id === "n2" ? "http://leader:7102" : undefined })
      node.onPropose = Effect.fail(new NotLeader({ leader: "n2" }))
      node.onRead = Effect.fail(new NotLeader({ leader: "n2" }))
      const body = { _tag: "NotLeader", leader: "n2", outcome: "not-applied" }
      const put = yield* send(`${url}/v1/kv/a%2Fb?if-revision=3`, "PUT", bytes("v"))
      assert.deepStrictEqual([put.status, json(put)], [307, body])
      assert.strictEqual(put.headers.location, "http://leader:7102/v1/kv/a%2Fb?if-revision=3")
      const list = yield* send(`${url}/v1/kv?prefix=a%20b`)
      assert.strictEqual(list.headers.location, "http://leader:7102/v1/kv?prefix=a%20b")
      assert.strictEqual((yield* send(`${url}/v1/kv/a`, "DELETE")).status, 307)
    }))

  const writes: ReadonlyArray<[ProposeError, number, object]> = [
    [new NotLeader({}), 503, { _tag: "NoLeader", outcome: "not-applied" }],
    [new NotLeader({ leader: "unknown" }), 503, { _tag: "NoLeader", outcome: "not-applied" }],
    [new Overloaded(), 503, { _tag: "Overloaded", outcome: "not-applied" }],
    [new Stopped(), 503, { _tag: "Stopped", outcome: "not-applied" }],
    [new OutcomeUnknown(), 504, { _tag: "OutcomeUnknown", outcome: "unknown" }]
  ]
  for (const [error, status, body] of writes) {
    it.live(`a write that meets ${error._tag} ${JSON.stringify(error)} is answered ${status}`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* start()
        node.onPropose = Effect.fail(error)
        const reply = yield* write(url)
        assert.deepStrictEqual([reply.status, json(reply)], [status, body])
        if (error._tag === "Overloaded") assert.isDefined(reply.headers["retry-after"])
      }))
  }

  it.live("a command that the node finds too large is a 413", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      node.onPropose = Effect.fail(new TooLarge({ sizeBytes: 9, limitBytes: 8 }))
      assert.strictEqual((yield* write(url)).status, 413)
    }))

  const reads: ReadonlyArray<[ReadError, number, string]> = [
    [new NotLeader({}), 503, "NoLeader"],
    [new ReadUnconfirmed(), 503, "ReadUnconfirmed"],
    [new Overloaded(), 503, "Overloaded"],
    [new Stopped(), 503, "Stopped"]
  ]
  for (const [error, status, tag] of reads) {
    it.live(`a read that meets ${error._tag} is answered ${status} ${tag}, not applied`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* start()
        node.onRead = Effect.fail(error)
        const reply = yield* read(url)
        assert.deepStrictEqual([reply.status, json(reply)], [status, { _tag: tag, outcome: "not-applied" }])
      }))
  }

  it.live("curl -L follows the redirection with method and body, for PUT, GET and DELETE", () =>
    Effect.gen(function*() {
      const leader = yield* start()
      const follower = FakeNode.make("n2")
      follower.onPropose = Effect.fail(new NotLeader({ leader: "n1" }))
      follower.onRead = Effect.fail(new NotLeader({ leader: "n1" }))
      const { url } = yield* start({ node: follower, urlOf: () => leader.url })
      const curl = (...args: ReadonlyArray<string>) =>
        Effect.callback<string, Error>((resume) => {
          execFile("curl", ["-sSL", "--max-time", "20", ...args], (error, stdout) =>
            resume(error ? Effect.fail(error) : Effect.succeed(stdout)))
        })
      assert.strictEqual(yield* curl("-X", "PUT", "--data-binary", "hello", `${url}/v1/kv/a`), "{\"revision\":1}")
      assert.strictEqual(yield* curl(`${url}/v1/kv/a`), "hello")
      assert.strictEqual(yield* curl("-X", "DELETE", `${url}/v1/kv/a`), "{\"revision\":2,\"deleted\":true}")
    }))
})

describe("the server itself", () => {
  it.live("/v1/status reports the node, with the leader's url", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start({ urlOf: (id) => `http://${id}` })
      node.status = { ...node.status, role: "Follower", leaderId: "n2", term: 4 }
      assert.deepStrictEqual(json(yield* send(`${url}/v1/status`)), {
        id: "n1",
        clusterId: "c",
        role: "Follower",
        term: 4,
        leader: { id: "n2", url: "http://n2" },
        commitIndex: 0,
        lastApplied: 0,
        lastLogIndex: 0,
        prevLogIndex: 0,
        snapshotIndex: 0,
        snapshotBytes: 0,
        configuration: { voters: ["n1"], learners: [], joining: [], outgoing: [] },
        configurationIndex: 0,
        members: [{ id: "n1", url: "http://n1", role: "voter" }],
        followers: [],
        transferringTo: null,
        sending: [],
        receiving: null,
        version: "0.1.0"
      })
      node.status = { ...node.status, leaderId: undefined }
      assert.isNull((json(yield* send(`${url}/v1/status`)) as { leader: unknown }).leader)
    }))

  it.live("/livez is 200 while the process answers; /readyz is 503 and says why: no leader, or no member", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      assert.strictEqual((yield* send(`${url}/readyz`)).status, 200)
      node.status = { ...node.status, role: "Candidate", leaderId: undefined }
      const unready = yield* send(`${url}/readyz`)
      assert.strictEqual(unready.status, 503)
      assert.include((json(unready) as { message: string }).message, "no leader")
      const reasons: ReadonlyArray<[Configuration.Configuration, string]> = [
        [Configuration.unknown, "n1 waits to be added"],
        [Configuration.ofVoters(["n2"]), "n1 is no member of its cluster: it was removed"]
      ]
      for (const [configuration, reason] of reasons) {
        node.status = { ...node.status, configuration, leaderId: "n2" }
        const reply = yield* send(`${url}/readyz`)
        assert.strictEqual(reply.status, 503)
        assert.include((json(reply) as { message: string }).message, reason)
      }
      node.status = { ...node.status, configuration: Configuration.make({ voters: ["n2"], learners: ["n1"] }) }
      assert.strictEqual((yield* send(`${url}/readyz`)).status, 200)
      assert.strictEqual((yield* send(`${url}/livez`)).status, 200)
    }))

  it.live("/openapi.json describes every path", () =>
    Effect.gen(function*() {
      const { url } = yield* start()
      const reply = yield* send(`${url}/openapi.json`)
      const { paths } = json(reply) as { paths: Record<string, object> }
      assert.deepStrictEqual(Object.keys(paths).toSorted(), [
        "/livez",
        "/readyz",
        "/v1/configuration",
        "/v1/kv",
        "/v1/kv/{key}",
        "/v1/leadership",
        "/v1/members",
        "/v1/members/{id}",
        "/v1/members/{id}/demote",
        "/v1/members/{id}/promote",
        "/v1/sessions",
        "/v1/snapshot",
        "/v1/status"
      ])
      assert.sameMembers(Object.keys(paths["/v1/kv/{key}"] ?? {}), ["put", "get", "delete"])
    }))
})
