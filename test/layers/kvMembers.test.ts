import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import * as Configuration from "../../src/domain/Configuration.ts"
import { ChangeRefused, NotLeader, OutcomeUnknown, Overloaded, Stopped } from "../../src/services/RaftNode.ts"
import * as FakeNode from "./fakeNode.ts"
import { bytes, json, send, start } from "./httpRequests.ts"

const urls = new Map(["n1", "n2", "n3"].map((id) => [id, `http://${id}:1`]))

/** Three voters, n1 leads. */
const three = Effect.suspend(() => {
  const node = FakeNode.make("n1")
  node.status = { ...node.status, configuration: Configuration.ofVoters([...urls.keys()], urls) }
  return start({ node, urlOf: (id) => urls.get(id) })
})

const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  send(url, "POST", bytes(typeof body === "string" ? body : JSON.stringify(body)), headers)

interface Members {
  readonly index: number
  readonly members: ReadonlyArray<{ readonly id: string; readonly url: string | null; readonly role: string }>
}

const rolesOf = (reply: { readonly status: number; readonly body: Buffer }): Record<string, string> => {
  assert.strictEqual(reply.status, 200, reply.body.toString())
  const { members } = JSON.parse(reply.body.toString()) as Members
  return Object.fromEntries(members.map(({ id, role }) => [id, role]))
}

describe("/v1/members", () => {
  it.live("lists members with address and role, the index, and whether that is committed", () =>
    Effect.gen(function*() {
      const { node, url } = yield* three
      assert.deepStrictEqual(json(yield* send(`${url}/v1/members`)), {
        clusterId: "c",
        index: 0,
        committed: true,
        members: ["n1", "n2", "n3"].map((id) => ({ id, url: `http://${id}:1`, role: "voter" }))
      })
      const joint = Configuration.make({
        voters: ["n1", "n4"],
        outgoing: ["n1", "n2"],
        learners: ["n5", "n6"],
        joining: ["n6"]
      })
      node.status = { ...node.status, role: "Follower", configuration: joint, isConfigurationCommitted: false }
      const reply = yield* send(`${url}/v1/members`)
      assert.isFalse((json(reply) as { committed: boolean }).committed)
      assert.deepStrictEqual(rolesOf(reply), {
        n1: "voter",
        n4: "voter",
        n2: "leaving",
        n5: "learner",
        n6: "joining"
      })
    }))

  it.live("POST adds a server that becomes a voter, or a learner for good; sent again it is no error", () =>
    Effect.gen(function*() {
      const { url } = yield* three
      const added = yield* post(`${url}/v1/members`, { id: "n4", url: "http://N4:80/" })
      const { index, members } = json(added) as Members
      assert.deepStrictEqual([added.status, index, members[3]], [200, 1, {
        id: "n4",
        url: "http://n4",
        role: "joining"
      }])
      const learner = yield* post(`${url}/v1/members`, { id: "n5", url: "http://n5:1", becomes: "learner" })
      assert.strictEqual(rolesOf(learner)["n5"], "learner")
      assert.strictEqual(rolesOf(yield* post(`${url}/v1/members`, { id: "n4", url: "http://n4" }))["n4"], "joining")
      const other = yield* post(`${url}/v1/members`, { id: "n4", url: "http://other" })
      assert.strictEqual(other.status, 409)
      assert.include((json(other) as { message: string }).message, "an id is never given to a second server")
    }))

  it.live("promote, demote and DELETE change one server, and answer what is in force then", () =>
    Effect.gen(function*() {
      const { url } = yield* three
      yield* post(`${url}/v1/members`, { id: "n4", url: "http://n4", becomes: "learner" })
      assert.strictEqual(rolesOf(yield* send(`${url}/v1/members/n4/promote`, "POST"))["n4"], "voter")
      assert.strictEqual(rolesOf(yield* send(`${url}/v1/members/n2/demote`, "POST"))["n2"], "learner")
      assert.deepStrictEqual(rolesOf(yield* send(`${url}/v1/members/n3`, "DELETE")), {
        n1: "voter",
        n4: "voter",
        n2: "learner"
      })
    }))

  it.live("POST /v1/configuration makes all changes at once or none", () =>
    Effect.gen(function*() {
      const { url } = yield* three
      yield* post(`${url}/v1/members`, { id: "n4", url: "http://n4", becomes: "learner" })
      const changes = [
        { change: "promote", id: "n4" },
        { change: "remove", id: "n3" },
        { change: "add", id: "n5", url: "http://n5", becomes: "learner" }
      ]
      assert.deepStrictEqual(rolesOf(yield* post(`${url}/v1/configuration`, { changes })), {
        n1: "voter",
        n2: "voter",
        n4: "voter",
        n5: "learner"
      })
      const half = [{ change: "remove", id: "n1" }, { change: "promote", id: "nobody" }]
      assert.strictEqual((yield* post(`${url}/v1/configuration`, { changes: half })).status, 409)
      assert.strictEqual(rolesOf(yield* send(`${url}/v1/members`))["n1"], "voter")
    }))
})

describe("?dry-run=true", () => {
  it.live("answers voters, quorum and how many may fail, before and after, and changes nothing", () =>
    Effect.gen(function*() {
      const { node, url } = yield* three
      const before = { voters: ["n1", "n2", "n3"], learners: [], quorum: 2, mayFail: 1 }
      const add = yield* post(`${url}/v1/members?dry-run=true`, { id: "n4", url: "http://n4" })
      assert.deepStrictEqual(json(add), {
        dryRun: true,
        before,
        after: { voters: ["n1", "n2", "n3", "n4"], learners: [], quorum: 3, mayFail: 1 },
        joint: false
      })
      assert.deepStrictEqual(json(yield* send(`${url}/v1/members/n3?dry-run=true`, "DELETE")), {
        dryRun: true,
        before,
        after: { voters: ["n1", "n2"], learners: [], quorum: 2, mayFail: 0 },
        joint: false
      })
      const changes = [{ change: "demote", id: "n2" }, { change: "remove", id: "n3" }]
      assert.deepStrictEqual(json(yield* post(`${url}/v1/configuration?dry-run=true`, { changes })), {
        dryRun: true,
        before,
        after: { voters: ["n1"], learners: ["n2"], quorum: 1, mayFail: 0 },
        joint: true
      })
      assert.strictEqual(node.status.configurationIndex, 0)
      assert.strictEqual(rolesOf(yield* send(`${url}/v1/members/n3?dry-run=false`, "DELETE"))["n3"], undefined)
    }))

  it.live("answers the refusal there would be", () =>
    Effect.gen(function*() {
      const { url } = yield* three
      const reply = yield* send(`${url}/v1/members/n9/promote?dry-run=true`, "POST")
      assert.strictEqual(reply.status, 409)
      assert.deepStrictEqual(json(reply), {
        _tag: "ChangeRefused",
        reason: "Invalid",
        message: "n9 is no member: add it first",
        outcome: "not-applied"
      })
    }))
})

describe("POST /v1/leadership", () => {
  it.live("has whoever was asked for lead, or the best suited, and answers who does", () =>
    Effect.gen(function*() {
      const { node, url } = yield* three
      const to = yield* post(`${url}/v1/leadership`, { to: "n3" })
      assert.deepStrictEqual([to.status, json(to)], [200, { leader: { id: "n3", url: "http://n3:1" }, term: 2 }])
      assert.strictEqual((yield* send(`${url}/v1/leadership`, "POST")).status, 200)
      assert.deepStrictEqual(node.successors, ["n3", undefined])
    }))

  it.live("waits a while until the successor is known, and answers without it after a second", () =>
    Effect.gen(function*() {
      const { node, url } = yield* three
      const stepDown = Effect.sync(() => {
        node.status = { ...node.status, role: "Follower", leaderId: undefined }
      })
      const elected = Effect.sync(() => {
        node.status = { ...node.status, leaderId: "n2", term: 2 }
      })
      node.onTransfer = Effect.andThen(stepDown, Effect.asVoid(Effect.forkDetach(Effect.delay(elected, 50))))
      const { leader } = json(yield* post(`${url}/v1/leadership`, {})) as { leader: { id: string } }
      assert.strictEqual(leader.id, "n2")
      node.onTransfer = stepDown
      const unknown = yield* post(`${url}/v1/leadership`, {})
      assert.deepStrictEqual([unknown.status, json(unknown)], [200, { leader: null, term: 2 }])
    }))
})

describe("a change that cannot be made", () => {
  const refusals = [
    [new NotLeader({ leader: "n2" }), 307, "NotLeader"],
    [new NotLeader({}), 503, "NoLeader"],
    [new Overloaded(), 503, "Overloaded"],
    [new Stopped(), 503, "Stopped"],
    [new OutcomeUnknown(), 504, "OutcomeUnknown"],
    [new ChangeRefused({ reason: "QuorumLost", message: "why" }), 409, "ChangeRefused"],
    [new ChangeRefused({ reason: "Invalid", message: "why" }), 409, "ChangeRefused"],
    [new ChangeRefused({ reason: "Pending", message: "why" }), 409, "ChangeRefused"],
    [new ChangeRefused({ reason: "NotReady", message: "why" }), 409, "ChangeRefused"],
    [new ChangeRefused({ reason: "NotCaughtUp", message: "why" }), 409, "ChangeRefused"]
  ] as const
  for (const [error, status, tag] of refusals) {
    it.live(`because of ${JSON.stringify(error)} is answered ${status}, on every route`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* three
        node.onChange = Effect.fail(error)
        node.onTransfer = Effect.fail(error)
        const replies = [
          yield* post(`${url}/v1/members`, { id: "n4", url: "http://n4" }),
          yield* post(`${url}/v1/members?dry-run=true`, { id: "n4", url: "http://n4" }),
          yield* send(`${url}/v1/members/n2`, "DELETE"),
          yield* send(`${url}/v1/members/n2/promote`, "POST"),
          yield* send(`${url}/v1/members/n2/demote`, "POST"),
          yield* post(`${url}/v1/configuration`, { changes: [{ change: "remove", id: "n2" }] }),
          yield* post(`${url}/v1/leadership`, {})
        ]
        const passes = error._tag !== "ChangeRefused" || !["QuorumLost", "Invalid"].includes(error.reason)
        for (const reply of replies) {
          const body = json(reply) as { _tag: string; outcome: string; message?: string }
          assert.deepStrictEqual([reply.status, body._tag], [status, tag])
          assert.strictEqual(body.outcome, status === 504 ? "unknown" : "not-applied")
          assert.strictEqual(reply.headers["retry-after"] !== undefined, status > 307 && status !== 504 && passes)
          if (error._tag === "ChangeRefused") assert.strictEqual(body.message, "why")
        }
        if (status === 307) assert.strictEqual(replies[1]?.headers.location, "http://n2:1/v1/members?dry-run=true")
      }))
  }

  it.live("curl -L follows a follower's redirection to the leader with its body, dry runs included", () =>
    Effect.gen(function*() {
      const leader = yield* three
      const follower = FakeNode.make("n2")
      follower.onChange = Effect.fail(new NotLeader({ leader: "n1" }))
      const { url } = yield* start({ node: follower, urlOf: () => leader.url })
      const curl = (...args: ReadonlyArray<string>) =>
        Effect.callback<string, Error>((resume) => {
          execFile("curl", ["-sSL", "--max-time", "20", ...args], (error, stdout) =>
            resume(error ? Effect.fail(error) : Effect.succeed(stdout)))
        })
      const body = ["-X", "POST", "-d", "{\"id\":\"n4\",\"url\":\"http://n4\"}"]
      assert.include(yield* curl(...body, `${url}/v1/members?dry-run=true`), "\"dryRun\":true")
      assert.notInclude(yield* curl(`${url}/v1/members`), "n4")
      assert.include(yield* curl(...body, `${url}/v1/members`), "\"role\":\"joining\"")
    }))
})

describe("a request that cannot be understood is a 400 that says what, and changes nothing", () => {
  const id = "n4"
  const url = "http://n4"
  const many = Array.from({ length: 65 }, () => ({ change: "remove", id }))
  const cases: ReadonlyArray<[string, string, unknown, string]> = [
    ["POST", "/v1/members", { url }, "id: "],
    ["POST", "/v1/members", { id: "a b", url }, "id: must have 1 to 64 characters"],
    ["POST", "/v1/members", { id: "", url }, "id: "],
    ["POST", "/v1/members", { id: 4, url }, "id: "],
    ["POST", "/v1/members", { id }, "url: "],
    ["POST", "/v1/members", { id, url: "n4:7104" }, "url: must be a URL"],
    ["POST", "/v1/members", { id, url: "http://n4/raft" }, "url: must be a URL without path"],
    ["POST", "/v1/members", { id, url: "http://me:secret@n4" }, "url: must be a URL without path"],
    ["POST", "/v1/members", { id, url, becomes: "leader" }, "becomes: must be voter or learner"],
    ["POST", "/v1/members", { id, url, dryRun: true }, "dryRun: "],
    ["POST", "/v1/members", "{", "body: must be JSON"],
    ["POST", "/v1/members", `"${"x".repeat(70_000)}"`, "body: at most 65536 bytes"],
    ["POST", "/v1/members", "", "id: "],
    ["POST", "/v1/members", [], ""],
    ["POST", "/v1/members?dryrun=true", { id, url }, "dryrun: no such parameter"],
    ["POST", "/v1/members?dry-run", { id, url }, "dry-run: must be true or false"],
    ["POST", "/v1/members?dry-run=yes", { id, url }, "dry-run: must be true or false"],
    ["POST", "/v1/members?dry-run=true&dry-run=false", { id, url }, "dry-run: given twice"],
    ["POST", "/v1/members;dry-run=true", { id, url }, "path: "],
    ["POST", "/v1/%6dembers?dryrun=true", { id, url }, "path: "],
    ["DELETE", "/v1/members/n2;dry-run=true", "", "path: "],
    ["DELETE", "/v1/members/n2?dry_run=true", "", "dry_run: no such parameter"],
    ["DELETE", "/v1/members/n%32", "", "path: "],
    ["DELETE", `/v1/members/${"n".repeat(65)}`, "", "id: must have 1 to 64 characters"],
    ["POST", "/v1/members/n2/promote?force=true", "", "force: no such parameter"],
    ["POST", "/v1/configuration", {}, "changes: "],
    ["POST", "/v1/configuration", { changes: [] }, "changes"],
    ["POST", "/v1/configuration", { changes: many }, "changes: "],
    ["POST", "/v1/configuration", { changes: [{ change: "burn", id }] }, "changes.0"],
    ["POST", "/v1/configuration", { changes: [{ change: "add", id }] }, "changes.0"],
    ["POST", "/v1/configuration", { changes: [{ change: "remove", id, url }] }, "changes.0"],
    ["POST", "/v1/leadership", { to: "a b" }, "to: "],
    ["POST", "/v1/leadership", { too: "n2" }, "too: "],
    ["POST", "/v1/leadership?dry-run=true", {}, "dry-run: no such parameter"]
  ]
  for (const [method, path, body, named] of cases) {
    it.live(`${method} ${path} ${JSON.stringify(body).slice(0, 60)}`, () =>
      Effect.gen(function*() {
        const { node, url: base } = yield* three
        const sent = bytes(typeof body === "string" ? body : JSON.stringify(body))
        const reply = yield* send(`${base}${path}`, method, sent)
        const answer = json(reply) as { _tag: string; message: string }
        assert.deepStrictEqual([reply.status, answer._tag], [400, "BadRequest"])
        assert.isTrue(answer.message.startsWith(named), answer.message)
        assert.deepStrictEqual([node.status.configurationIndex, node.successors.length], [0, 0])
      }))
  }

  it.live("and a web page's is refused with 403", () =>
    Effect.gen(function*() {
      const { node, url: base } = yield* three
      const page = { origin: "http://evil", "content-type": "text/plain" }
      const replies = [
        yield* post(`${base}/v1/members`, { id, url }, page),
        yield* post(`${base}/v1/members/n2/demote`, "", page),
        yield* send(`${base}/v1/members/n2`, "DELETE", undefined, page),
        yield* post(`${base}/v1/configuration`, { changes: [{ change: "remove", id: "n2" }] }, page),
        yield* post(`${base}/v1/leadership`, {}, page),
        yield* post(`${base}/v1/snapshot`, "", page)
      ]
      assert.deepStrictEqual(replies.map(({ status }) => status), [403, 403, 403, 403, 403, 403])
      assert.deepStrictEqual([node.status.configurationIndex, node.successors.length], [0, 0])
    }))
})

describe("/openapi.json", () => {
  it.live("describes each change with its parameters, body and statuses", () =>
    Effect.gen(function*() {
      const { url } = yield* three
      const { paths } = json(yield* send(`${url}/openapi.json`)) as {
        paths: Record<string, Record<string, { responses: object; requestBody?: object }>>
      }
      const statuses = ["200", "307", "400", "403", "409", "503", "504"]
      for (const path of ["/v1/members", "/v1/configuration"]) {
        const operation = paths[path]?.["post"]
        assert.includeMembers(Object.keys(operation?.responses ?? {}), statuses, path)
        assert.isDefined(operation?.requestBody)
        assert.include(JSON.stringify(operation), "dry-run")
      }
      for (const method of ["put", "delete"]) {
        const operation = paths["/v1/kv/{key}"]?.[method]
        assert.include(Object.keys(operation?.responses ?? {}), "410")
        assert.include(JSON.stringify(operation), "titan-first-unanswered")
      }
    }))
})
