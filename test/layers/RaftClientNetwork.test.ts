import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { createServer } from "node:http"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../../src/layers/RaftClientHttp.ts"
import { type Options, RaftClient } from "../../src/services/RaftClient.ts"
import {
  NotLeader,
  OutcomeUnknown,
  Overloaded,
  ReadUnconfirmed,
  Stopped,
  TooLarge
} from "../../src/services/RaftNode.ts"
import * as FakeNode from "./fakeNode.ts"

const command = Uint8Array.of(7)

const routes = (urlOf: (id: string) => string | undefined = () => undefined) => ClientHttp.layer({ urlOf })

const clientOf = (endpoints: ReadonlyArray<string>, options: Partial<Options> = {}) =>
  Effect.map(
    Layer.build(RaftClientHttp.layer({ endpoints, sessions: false, ...options })),
    (context) => Context.get(context, RaftClient)
  )

const put = (client: RaftClient["Service"], key: string) =>
  Protocol.wire.on(client).propose({ _tag: "Put", key, value: Uint8Array.of(1) })

/** A port that nothing listens on. */
const closedPort = Effect.callback<string>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    const port = typeof address === "object" ? address?.port : undefined
    server.close(() => resume(Effect.succeed(`http://127.0.0.1:${port}`)))
  })
})

describe("over the network", () => {
  it.live("commands, queries and status reach the node and come back", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const url = yield* FakeNode.serve(node, routes(() => "http://n1"))
      const client = yield* clientOf([url])
      const store = Protocol.wire.on(client)
      assert.deepStrictEqual(yield* put(client, "k"), { _tag: "Written", revision: 1 })
      assert.strictEqual((yield* store.read({ _tag: "Get", key: "k" }))._tag, "Found")
      const [status] = yield* client.status
      assert.strictEqual(status?._tag, "Up")
      if (status?._tag === "Up") assert.deepStrictEqual(status.status.leader, { id: "n1", url: "http://n1" })
    }))

  it.live("a dead server and a follower with a hint stand before the leader", () =>
    Effect.gen(function*() {
      const leader = FakeNode.make("n2")
      const leaderUrl = yield* FakeNode.serve(leader, routes())
      const follower = FakeNode.make("n1")
      follower.onPropose = Effect.fail(new NotLeader({ leader: "n2" }))
      const followerUrl = yield* FakeNode.serve(follower, routes(() => leaderUrl))
      const client = yield* clientOf([yield* closedPort, followerUrl])
      assert.deepStrictEqual(yield* put(client, "k"), { _tag: "Written", revision: 1 })
      assert.strictEqual(follower.proposed, 1)
      yield* put(client, "k")
      assert.strictEqual(follower.proposed, 1)
    }))

  it.live("status says which servers are down, with the system's reason", () =>
    Effect.gen(function*() {
      const client = yield* clientOf([yield* closedPort])
      const [status] = yield* client.status
      assert.strictEqual(status?._tag, "Down")
      if (status?._tag === "Down") assert.include(status.reason, "ECONNREFUSED")
    }))

  it.live("a server that stops while a write waits leaves it OutcomeUnknown, not interrupted and not sent again", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const arrived = yield* Deferred.make<void>()
      node.onPropose = Effect.andThen(Deferred.succeed(arrived, undefined), Effect.never)
      const scope = yield* Scope.make()
      const url = yield* FakeNode.serve(node, routes()).pipe(Scope.provide(scope))
      const client = yield* clientOf([url])
      const fiber = yield* Effect.forkChild(client.propose(command))
      yield* Deferred.await(arrived)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail(new OutcomeUnknown()))
      assert.strictEqual(node.proposed, 1)
    }))

  it.live("a server that comes back on its port is used again by the next call, and an unsent write is not unknown", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const scope = yield* Scope.make()
      const url = yield* FakeNode.serve(node, routes()).pipe(Scope.provide(scope))
      const client = yield* clientOf([url])
      yield* put(client, "k")
      yield* Scope.close(scope, Exit.void)
      // The client meets the closed connection first.
      const down = yield* client.status
      assert.strictEqual(down[0]?._tag, "Down")
      const written = yield* Effect.forkChild(put(client, "k"))
      yield* FakeNode.serve(node, routes(), { port: Number(new URL(url).port) })
      assert.deepStrictEqual(yield* Fiber.join(written), { _tag: "Written", revision: 2 })
    }))

  it.live("a write after an idle connection was closed goes over a fresh one, and is not unknown", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const scope = yield* Scope.make()
      const url = yield* FakeNode.serve(node, routes()).pipe(Scope.provide(scope))
      const client = yield* clientOf([url])
      yield* put(client, "k")
      const observer = new WebSocket(`${url.replace("http", "ws")}/rpc`)
      const closed = Effect.callback<void>((resume) => observer.addEventListener("close", () => resume(Effect.void)))
      yield* Effect.callback<void>((resume) => observer.addEventListener("open", () => resume(Effect.void)))
      const observed = yield* Effect.forkChild(closed, { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(observed)
      // The client's own connection was closed in the same moment: some turns of the event loop later it knows.
      for (let turn = 0; turn < 50; turn++) yield* Effect.yieldNow
      yield* FakeNode.serve(node, routes(), { port: Number(new URL(url).port) })
      assert.deepStrictEqual(yield* put(client, "k"), { _tag: "Written", revision: 2 })
    }))

  it.live("a defect in the server fails its own write as unknown, and the calls after it work", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      node.onPropose = Effect.die("broken")
      const url = yield* FakeNode.serve(node, routes())
      const client = yield* clientOf([url])
      assert.strictEqual((yield* Effect.flip(client.propose(command)))._tag, "OutcomeUnknown")
      node.onPropose = undefined
      assert.deepStrictEqual(yield* put(client, "k"), { _tag: "Written", revision: 1 })
    }))

  it.live("every error of the node keeps its type over the wire", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const url = yield* FakeNode.serve(node, routes())
      const client = yield* clientOf([url])
      node.onPropose = Effect.fail(new TooLarge({ sizeBytes: 3, limitBytes: 2 }))
      const tooLarge = yield* Effect.flip(client.propose(command))
      assert.deepStrictEqual(tooLarge, new TooLarge({ sizeBytes: 3, limitBytes: 2 }))
      node.onPropose = Effect.fail(new OutcomeUnknown())
      assert.strictEqual((yield* Effect.flip(client.propose(command)))._tag, "OutcomeUnknown")
      const hasty = yield* clientOf([url], { deadlineMs: 300 })
      yield* hasty.status
      const refusals = [
        [new NotLeader({}), "NoLeader"],
        [new Overloaded(), "Overloaded"],
        [new Stopped(), "NoLeader"]
      ] as const
      for (const [refusal, told] of refusals) {
        node.onPropose = Effect.fail(refusal)
        assert.strictEqual((yield* Effect.flip(hasty.propose(command)))._tag, told)
      }
      node.onRead = Effect.fail(new ReadUnconfirmed())
      const unread = yield* Effect.flip(hasty.read(command))
      assert.include(unread.message, "no majority confirmed")
    }))

  it.live("a command larger than a frame is refused here, and the connection stays good", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const url = yield* FakeNode.serve(node, routes())
      const client = yield* clientOf([url])
      assert.strictEqual((yield* Effect.flip(client.propose(new Uint8Array((32 << 20) + 1))))._tag, "TooLarge")
      assert.strictEqual(node.proposed, 0)
      assert.deepStrictEqual(yield* put(client, "k"), { _tag: "Written", revision: 1 })
    }))

  it.live("interrupting a call ends its handler in the server", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const arrived = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<void>()
      node.onPropose = Effect.andThen(Deferred.succeed(arrived, undefined), Effect.never).pipe(
        Effect.onInterrupt(() => Deferred.succeed(ended, undefined))
      )
      const client = yield* clientOf([yield* FakeNode.serve(node, routes())])
      const fiber = yield* Effect.forkChild(client.propose(command))
      yield* Deferred.await(arrived)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      yield* Deferred.await(ended)
    }))
})
