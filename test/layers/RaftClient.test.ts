import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { createServer } from "node:http"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../../src/layers/RaftClientHttp.ts"
import {
  type Connection,
  Lost,
  make,
  type Options,
  RaftClient,
  Redirected,
  Unreachable
} from "../../src/services/RaftClient.ts"
import {
  NotLeader,
  OutcomeUnknown,
  Overloaded,
  ReadUnconfirmed,
  Stopped,
  TooLarge
} from "../../src/services/RaftNode.ts"
import * as FakeNode from "./fakeNode.ts"
import { type Answer, scripted, silent } from "./scriptedServers.ts"

const done = Uint8Array.of(1)
const command = Uint8Array.of(7)

const dead = () => new Unreachable({ reason: "connection refused" })

/** Runs `effect` with as much test time as it needs, up to a minute. */
const inTestTime = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect)
    yield* TestClock.adjust("1 minute")
    return yield* Fiber.await(fiber)
  })

describe("finding the leader", () => {
  it.effect("a hint is followed at once, and remembered for the next request", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({
        a: () => Effect.fail(new Redirected({ leader: "n3", url: "c" })),
        b: () => Effect.fail(new Redirected()),
        c: () => Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "c", "c"])
    }))

  it.effect("a server that answered is asked first the next time", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({ a: dead, b: () => Effect.succeed(done) })
      yield* client.propose(command)
      yield* client.read(command)
      assert.deepStrictEqual(asked, ["a", "b", "b"])
    }))

  it.effect("a hint at a server outside of the list is followed", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const client = make({ endpoints: ["a"] }, (url) =>
        Effect.sync((): Connection => {
          asked.push(url)
          const answer = url === "elsewhere"
            ? Effect.succeed(done)
            : Effect.fail(new Redirected({ leader: "n9", url: "elsewhere" }))
          return { ...silent, propose: () => answer }
        }))
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "elsewhere"])
    }))

  it.effect("a stale hint at a dead server costs one attempt in a round, then the others are asked", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({
        a: () => Effect.fail(new Redirected({ leader: "n2", url: "b" })),
        b: dead,
        c: () => Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "b", "c"])
    }))

  it.effect("two servers that point at each other do not trap the client: it pauses and asks again until one leads", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({
        a: () => Effect.fail(new Redirected({ leader: "n2", url: "b" })),
        b: (count) => count < 3 ? Effect.fail(new Redirected({ leader: "n1", url: "a" })) : Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* inTestTime(client.propose(command)), Exit.succeed(done))
      assert.isAtMost(asked.length, 8)
    }))

  it.effect("while an election runs, a write is tried again until there is a leader", () =>
    Effect.gen(function*() {
      const { client } = scripted({
        a: (count) => Effect.suspend(() => count < 4 ? Effect.fail(new Redirected()) : Effect.succeed(done))
      })
      assert.deepStrictEqual(yield* inTestTime(client.propose(command)), Exit.succeed(done))
    }))
})

describe("what is certainly not applied is tried again", () => {
  it.effect("Overloaded: the same leader is asked again after a pause, not the others", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({
        a: (count) => count === 1 ? Effect.fail(new Overloaded()) : Effect.succeed(done),
        b: () => Effect.succeed(done)
      })
      const fiber = yield* Effect.forkChild(client.propose(command))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(asked, ["a"])
      yield* TestClock.adjust(25)
      assert.deepStrictEqual(yield* Fiber.join(fiber), done)
      assert.deepStrictEqual(asked, ["a", "a"])
    }))

  it.effect("Stopped: the next server is asked at once", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({ a: () => Effect.fail(new Stopped()), b: () => Effect.succeed(done) })
      assert.deepStrictEqual(yield* client.propose(command), done)
      assert.deepStrictEqual(asked, ["a", "b"])
    }))

  it.effect("without any leader a write fails by the deadline with Unavailable: not applied, and why for each server", () =>
    Effect.gen(function*() {
      const { client } = scripted({ a: dead, b: () => Effect.fail(new Redirected()) }, { deadlineMs: 2000 })
      const fiber = yield* Effect.forkChild(Effect.flip(client.propose(command)))
      yield* TestClock.adjust(2000)
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error._tag, "Unavailable")
      assert.strictEqual(error.outcome, "not-applied")
      assert.include(error.message, "not applied")
      assert.include(error.message, "a: connection refused")
      assert.include(error.message, "b: does not lead and knows no leader")
    }))

  it.effect("a write that was refused so far is not sent again just before the deadline, to be cut off as unknown", () =>
    Effect.gen(function*() {
      const { client } = scripted({
        a: (count) =>
          count === 1 ? Effect.fail(new Overloaded()) : Effect.andThen(Effect.sleep(20), Effect.fail(new Overloaded()))
      })
      const exit = yield* inTestTime(client.propose(command))
      const error = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
      assert.strictEqual(error?._tag, "Unavailable")
    }).pipe(Effect.repeat({ times: 50 })))

  it.effect("pauses grow and are jittered: a dead cluster is asked tens of times in 5 s, not thousands, at other times for another seed", () =>
    Effect.gen(function*() {
      const times = (seed: string) =>
        Effect.gen(function*() {
          const { asked, client } = scripted({ a: dead })
          yield* inTestTime(client.propose(command).pipe(Random.withSeed(seed)))
          return asked.length
        })
      const count = yield* times("one")
      assert.isAbove(count, 10)
      assert.isBelow(count, 40)
    }))
})

describe("a write whose fate is unknown is never sent twice", () => {
  const outcomes: ReadonlyArray<[string, Answer]> = [
    ["the connection broke after it was sent", Effect.fail(new Lost({ reason: "closed" }))],
    ["the server said so", Effect.fail(new OutcomeUnknown())],
    ["the deadline passed while it waited", Effect.never]
  ]
  for (const [when, answer] of outcomes) {
    it.effect(`OutcomeUnknown when ${when}`, () =>
      Effect.gen(function*() {
        const { asked, client } = scripted({ a: () => answer, b: () => Effect.succeed(done) })
        const exit = yield* inTestTime(client.propose(command))
        assert.deepStrictEqual(exit, Exit.fail(new OutcomeUnknown()))
        assert.deepStrictEqual(asked, ["a"])
      }))
  }

  it.effect("TooLarge is an answer, not tried again", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({
        a: () => Effect.fail(new TooLarge({ sizeBytes: 9, limitBytes: 8 })),
        b: dead
      })
      assert.strictEqual((yield* Effect.flip(client.propose(command)))._tag, "TooLarge")
      assert.deepStrictEqual(asked, ["a"])
    }))

  it.effect("a read is tried again after a lost connection, a silent server and an unconfirmed round", () =>
    Effect.gen(function*() {
      const { asked, client } = scripted({
        a: () => Effect.fail(new Lost({ reason: "closed" })),
        b: () => Effect.never,
        c: (count) => count === 1 ? Effect.fail(new OutcomeUnknown()) : Effect.succeed(done)
      })
      assert.deepStrictEqual(yield* inTestTime(client.read(command)), Exit.succeed(done))
      assert.deepStrictEqual(asked.slice(0, 3), ["a", "b", "c"])
    }))
})

const routes = (urlOf: (id: string) => string | undefined = () => undefined) => ClientHttp.layer({ urlOf })

const clientOf = (endpoints: ReadonlyArray<string>, options: Partial<Options> = {}) =>
  Effect.map(
    Layer.build(RaftClientHttp.layer({ endpoints, ...options })),
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
      for (const refusal of [new NotLeader({}), new Overloaded(), new Stopped()]) {
        node.onPropose = Effect.fail(refusal)
        assert.strictEqual((yield* Effect.flip(hasty.propose(command)))._tag, "Unavailable")
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
