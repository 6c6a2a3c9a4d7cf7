import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { createServer } from "node:http"
import * as Configuration from "../../src/domain/Configuration.ts"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import { requestBytesMax } from "../../src/layers/ClientRpc.ts"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../../src/layers/RaftClientHttp.ts"
import { RaftClient, Unreachable } from "../../src/services/RaftClient.ts"
import { ChangeRefused, NotLeader, OutcomeUnknown, RaftNode } from "../../src/services/RaftNode.ts"
import { report } from "../../src/services/ServerStatus.ts"
import * as FakeNode from "./fakeNode.ts"
import { connected, each } from "./scriptedServers.ts"

const put = (client: RaftClient["Service"]) =>
  Protocol.wire.on(client).propose({ _tag: "Put", key: "k", value: Uint8Array.of(1) })

const built = <E>(layer: Layer.Layer<RaftClient, E>) =>
  Effect.map(Layer.build(layer), (context) => Context.get(context, RaftClient))

const clientOf = (...endpoints: ReadonlyArray<string>) =>
  built(RaftClientHttp.layer({ endpoints, sessions: false, deadlineMs: 1000 }))

describe("a client in the process of a node", () => {
  const nowhere = "http://127.0.0.1:1"

  it.live("asks that node directly while it leads, and crosses no network", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const client = yield* built(
        RaftClientHttp.layerEmbedded({ url: nowhere, urlOf: () => undefined }).pipe(
          Layer.provide(Layer.succeed(RaftNode, node.service))
        )
      )
      assert.strictEqual((yield* put(client))._tag, "Written")
      assert.deepStrictEqual([node.sequenced.length, node.sequenced[0]?.sequence], [1, 1])
      assert.strictEqual((yield* Protocol.wire.on(client).read({ _tag: "Get", key: "k" }))._tag, "Found")
    }))

  it.live("follows the node's hint to the leader, over the network, and comes back when the node leads", () =>
    Effect.gen(function*() {
      const leader = FakeNode.make("n2")
      const leaderUrl = yield* FakeNode.serve(leader, ClientHttp.layer({ urlOf: () => nowhere }))
      const node = FakeNode.make("n1")
      node.onPropose = Effect.fail(new NotLeader({ leader: "n2" }))
      const client = yield* built(
        RaftClientHttp.layerEmbedded({ url: nowhere, urlOf: () => leaderUrl, sessions: false }).pipe(
          Layer.provide(Layer.succeed(RaftNode, node.service))
        )
      )
      yield* put(client)
      assert.deepStrictEqual([node.proposed, leader.proposed], [1, 1])
      leader.onPropose = Effect.fail(new NotLeader({ leader: "n1" }))
      node.onPropose = undefined
      yield* put(client)
      assert.deepStrictEqual([node.proposed, leader.proposed], [2, 2])
    }))
})

describe("requests that are made at the same time", () => {
  it.effect("travel together, writes with writes and reads with reads of the same kind, each with its own answer", () =>
    Effect.gen(function*() {
      const batches: Array<string> = []
      const { client } = yield* connected({
        a: () => ({
          propose: (commands) => {
            batches.push(`${commands.length} writes`)
            return each(commands, ({ command }) => Effect.succeed(command))
          },
          read: (queries, consistency) => {
            batches.push(`${queries.length} ${consistency}`)
            return each(queries, Effect.succeed)
          }
        })
      })
      const bytes = (n: number) => Uint8Array.of(n)
      const asked = [
        ...[1, 2, 3].map((n) => client.propose(bytes(n))),
        ...[4, 5].map((n) => client.read(bytes(n))),
        client.read(bytes(6), { consistency: "lease" })
      ]
      const answers = yield* Effect.all(asked, { concurrency: "unbounded" })
      assert.deepStrictEqual(answers.map(([n]) => n), [1, 2, 3, 4, 5, 6])
      assert.sameMembers(batches, ["3 writes", "2 linearizable", "1 lease"])
    }))

  it.effect("beyond the limit are refused at once, as overloaded", () =>
    Effect.gen(function*() {
      const { client } = yield* connected({ a: () => ({}) }, { waitingMax: 2 })
      const waiting = yield* Effect.forkChild(
        Effect.forEach([1, 2], (n) => client.propose(Uint8Array.of(n)), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust(1)
      const error = yield* Effect.flip(client.propose(Uint8Array.of(3)))
      assert.deepInclude(error, { _tag: "Overloaded", outcome: "not-applied" })
      yield* Fiber.interrupt(waiting)
      const again = yield* Effect.forkChild(client.propose(Uint8Array.of(4)), { startImmediately: true })
      assert.isUndefined(again.pollUnsafe())
      yield* Fiber.interrupt(again)
    }))

  it.live("one query that the state machine dies of is its own caller's defect, and nobody else's", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const bad = Uint8Array.of(99)
      const { readAll } = node.service
      const service = {
        ...node.service,
        readAll: ((queries, options) =>
          Effect.map(readAll(queries, options), (answers) =>
            answers.map((answer, i) =>
              queries[i]?.[0] === 99 ? Effect.runSyncExit(Effect.die(new Error("cannot be divided"))) : answer
            ))) as typeof readAll
      }
      const url = yield* FakeNode.serve(
        { ...node, service },
        ClientHttp.layer({
          urlOf: () =>
            undefined
        })
      )
      const client = yield* clientOf(url)
      const [good, died] = yield* Effect.all([
        Effect.exit(Protocol.wire.on(client).read({ _tag: "Get", key: "k" })),
        Effect.exit(client.read(bad))
      ], { concurrency: "unbounded" })
      assert.strictEqual(good._tag, "Success")
      assert.include(String(died), "cannot be divided")
    }))
})

describe("a server that lets this client not in", () => {
  it.live("is told as Unauthorized at once, not at the deadline; another one that does is used", () =>
    Effect.gen(function*() {
      const guard = yield* Effect.acquireRelease(
        Effect.callback<ReturnType<typeof createServer>>((resume) => {
          const server = createServer()
          server.on("upgrade", (_, socket) => socket.end("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"))
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = guard.address() as { readonly port: number }
      const closed = `http://127.0.0.1:${port}`
      const client = yield* built(RaftClientHttp.layer({ endpoints: [closed], deadlineMs: 20_000 }))
      const error = yield* Effect.flip(put(client))
      assert.deepInclude(error, { _tag: "Unauthorized", outcome: "not-applied" })
      assert.include(error.message, "no server lets this client in")
      assert.strictEqual((yield* Effect.flip(client.readStale(new Uint8Array())))._tag, "Unauthorized")
      const open = yield* FakeNode.serve(FakeNode.make(), ClientHttp.layer({ urlOf: () => undefined }))
      assert.strictEqual((yield* put(yield* clientOf(closed, open)))._tag, "Written")
    }))
})

describe("the membership", () => {
  it.effect("is learned from the leader: servers that joined are asked when those that were given are gone", () =>
    Effect.gen(function*() {
      const node = FakeNode.make("n1")
      const configuration = Configuration.ofVoters(["n1", "n2"], new Map([["n1", "a"], ["n2", "b"]]))
      const status = Effect.succeed(report({ ...node.status, configuration }, () => undefined))
      let isAUp = true
      const answers = {
        propose: (commands: ReadonlyArray<unknown>) => each(commands, () => Effect.succeed(Uint8Array.of(1)))
      }
      const { asked, client } = yield* connected({
        a: () => isAUp ? { ...answers, status } : new Unreachable({ reason: "gone" })
      }, { endpoints: ["a"] })
      yield* client.propose(Uint8Array.of(1))
      yield* TestClock.adjust(1)
      isAUp = false
      const gone = yield* Effect.forkChild(Effect.flip(client.propose(Uint8Array.of(1))))
      yield* TestClock.adjust(5000)
      assert.include((yield* Fiber.join(gone)).message, "b: unknown")
      assert.include(asked, "b")
    }))

  it.effect("a server of the list that is no member (any more) is asked last", () =>
    Effect.gen(function*() {
      const node = FakeNode.make("n2")
      const configuration = Configuration.ofVoters(["n2"], new Map([["n2", "b"]]))
      const status = Effect.succeed(report({ ...node.status, configuration }, () => undefined))
      const stale = () => Effect.succeed({ answer: Uint8Array.of(1), appliedIndex: 1, leaderContactAgeMs: 0 })
      const answers = {
        propose: (commands: ReadonlyArray<unknown>) => each(commands, () => Effect.succeed(Uint8Array.of(1))),
        readStale: stale,
        status
      }
      const { asked, client } = yield* connected({ a: () => new Unreachable({ reason: "gone" }), b: () => answers })
      yield* client.propose(Uint8Array.of(1))
      yield* TestClock.adjust(1)
      asked.length = 0
      yield* client.readStale(Uint8Array.of(1))
      assert.deepStrictEqual(asked, ["b"])
      // In its turn, or where no member answers.
      yield* client.readStale(Uint8Array.of(1))
      assert.deepStrictEqual(asked, ["b", "a", "b"])
    }))

  it.live("is changed through the leader: previewed, refused with the reason, made, and leadership handed over", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const client = yield* clientOf(yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined })))
      const add = { _tag: "Add", id: "n2", address: "http://n2", becomes: "Voter" } as const
      assert.deepStrictEqual((yield* client.previewReconfigure([add])).joining, ["n2"])
      assert.deepStrictEqual(node.status.configuration.learners, [])
      const made = yield* client.reconfigure([add])
      assert.deepStrictEqual([made.learners, made.addresses.get("n2")], [["n2"], "http://n2"])
      node.onChange = Effect.fail(new ChangeRefused({ reason: "QuorumLost", message: "n3 is silent" }))
      const refused = yield* Effect.flip(client.reconfigure([{ _tag: "Remove", id: "n1" }]))
      assert.deepInclude(refused, { _tag: "ChangeRefused", reason: "QuorumLost", outcome: "not-applied" })
      yield* client.transferLeadership("n2")
      assert.deepStrictEqual(node.successors, ["n2"])
      node.onTransfer = Effect.fail(new OutcomeUnknown())
      assert.strictEqual((yield* Effect.flip(client.transferLeadership()))._tag, "OutcomeUnknown")
      assert.deepStrictEqual(node.successors, ["n2", undefined])
    }))

  it.live("sends no query that no message takes: whoever shares the connection is not disturbed", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      node.onReadStale = Effect.never
      const client = yield* clientOf(yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined })))
      const beside = yield* Effect.forkChild(client.readStale(Uint8Array.of(1)), { startImmediately: true })
      const long = new Uint8Array(requestBytesMax + 1)
      while (node.reads === 0) yield* Effect.sleep(5)
      const all: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        client.read(long),
        client.read(long, { consistency: "follower" }),
        client.readStale(long)
      ]
      for (const asked of all) {
        const exit = yield* Effect.exit(asked)
        assert.include(String(exit), "a query has at most 33554432 bytes, and this one has 33554433")
      }
      assert.isUndefined(beside.pollUnsafe())
      assert.strictEqual(node.reads, 1)
    }))

  it.live("sends no change that could not be made: a server that nobody would find, or too many at once", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const client = yield* clientOf(yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined })))
      const nowhere = { _tag: "Add", id: "n2", address: undefined, becomes: "Voter" } as const
      const many = Array.from({ length: 65 }, (_, i) => ({ _tag: "Remove", id: `m${i}` } as const))
      for (const [changes, why] of [[[nowhere], "needs an address"], [many, "at most 64"]] as const) {
        for (const asked of [client.reconfigure(changes), client.previewReconfigure(changes)]) {
          const refused = yield* Effect.flip(asked)
          assert.deepInclude(refused, { _tag: "ChangeRefused", reason: "Invalid", outcome: "not-applied" })
          assert.include(refused.message, why)
        }
      }
      assert.strictEqual(node.status.configurationIndex, 0)
    }))
})
