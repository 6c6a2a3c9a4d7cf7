import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as References from "effect/References"
import { existsSync } from "node:fs"
import * as Join from "../../src/cli/Join.ts"
import { ChangeRefused, NotLeader, OutcomeUnknown, Overloaded } from "../../src/services/RaftNode.ts"
import * as FakeNode from "../layers/fakeNode.ts"
import { start } from "../layers/httpRequests.ts"
import * as Titan from "./titan.ts"

const request = (...servers: ReadonlyArray<string>): Join.Request => ({
  id: "n4",
  url: "http://127.0.0.1:7104",
  becomes: "voter",
  servers
})

const ask = (asked: Join.Request) => Effect.provideService(Join.ask(asked), References.MinimumLogLevel, "Error")

describe("a server that joins", () => {
  it.live("is added by the leader, to which a follower redirects it, and hears the cluster's id and members", () =>
    Effect.gen(function*() {
      const leader = yield* start()
      const follower = FakeNode.make("n2")
      follower.onChange = Effect.fail(new NotLeader({ leader: "n1" }))
      const { url } = yield* start({ node: follower, urlOf: () => leader.url })
      const { clusterId, members } = yield* ask(request(url))
      assert.strictEqual(clusterId, "c")
      assert.deepStrictEqual(members.map(({ id, role }) => [id, role]), [["n1", "voter"], ["n4", "joining"]])
      const learner = yield* ask({ ...request(url), id: "n5", url: "http://127.0.0.1:7105", becomes: "learner" })
      assert.strictEqual(learner.members.find(({ id }) => id === "n5")?.role, "learner")
    }))

  const passing = [
    new NotLeader({}),
    new Overloaded(),
    new OutcomeUnknown(),
    new ChangeRefused({ reason: "Pending", message: "why" }),
    new ChangeRefused({ reason: "NotReady", message: "why" })
  ]
  for (const error of passing) {
    it.live(`asks again after ${JSON.stringify(error)}, and where nobody listens`, () =>
      Effect.gen(function*() {
        const { node, url } = yield* start()
        node.onChange = Effect.fail(error)
        const nowhere = `http://127.0.0.1:${yield* Titan.freePorts(1)}`
        const asking = yield* Effect.forkChild(ask(request(nowhere, url)), { startImmediately: true })
        yield* Effect.sleep(200)
        assert.isUndefined(asking.pollUnsafe())
        node.onChange = undefined
        assert.strictEqual((yield* Fiber.join(asking)).clusterId, "c")
      }))
  }

  it.live("gives up with the cluster's words where it is refused for good", () =>
    Effect.gen(function*() {
      const { node, url } = yield* start()
      node.onChange = Effect.fail(
        new ChangeRefused({ reason: "Invalid", message: "n4 is a member already, at http://x" })
      )
      const refused = yield* Effect.flip(ask(request(url)))
      assert.strictEqual(refused.exitCode, 1)
      assert.strictEqual(
        refused.message,
        `the cluster refused n4: ${url} answered 409: n4 is a member already, at http://x`
      )
    }))
})

describe("titan serve --join", () => {
  it.live("ends with 1 and the cluster's words when the id is taken, and leaves no directory behind", () =>
    Effect.gen(function*() {
      const port = yield* Titan.freePorts(2)
      const path = yield* Titan.directory
      const url = `http://127.0.0.1:${port}`
      const one = yield* Titan.start(["serve", "--id", "n1", "--peer", `n1=${url}`, "--data-dir", `${path}/n1`])
      yield* one.printed(/leads the cluster/)
      const args = ["serve", "--listen", `127.0.0.1:${port + 1}`, "--join", url, "--data-dir", `${path}/new`]
      const taken = yield* Titan.run([...args, "--id", "n1"])
      assert.strictEqual(taken.code, 1)
      assert.include(taken.stderr, `n1 is a member already, at ${url}: an id is never given to a second server`)
      assert.isFalse(existsSync(`${path}/new`))
      const joined = yield* Titan.start([...args, "--id", "n2", "--learner"])
      yield* joined.printed(/listening/)
      const members = yield* Effect.promise(async () => (await fetch(`${url}/v1/members`)).text())
      assert.include(members, `{"id":"n2","url":"http://127.0.0.1:${port + 1}","role":"learner"}`)
    }))
})
