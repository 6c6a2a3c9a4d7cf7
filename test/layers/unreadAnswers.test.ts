/**
 * A client that asks for much and reads nothing costs a server a bounded amount of memory.
 */
import * as NodeWS from "@effect/platform-node/NodeWS"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as RpcClient from "effect/rpc/RpcClient"
import { RequestId } from "effect/rpc/RpcMessage"
import * as Schedule from "effect/Schedule"
import * as Socket from "effect/socket/Socket"
import * as ClientHttp from "../../src/layers/ClientHttp.ts"
import { callsMax, ClientRpcs, questions, serialization, unpack } from "../../src/layers/ClientRpc.ts"
import * as Protocol from "../../src/layers/kv/Protocol.ts"
import { questionsMax } from "../../src/services/Connection.ts"
import { Overloaded } from "../../src/services/RaftNode.ts"
import { Unread, unreadBytesMax } from "../../src/services/Unread.ts"
import * as FakeNode from "./fakeNode.ts"

const valueBytes = 64 << 10

/** A connection of one's own, whose reading can be stopped. */
const connect = Effect.fnUntraced(function*(url: string) {
  let connected: NodeWS.WebSocket | undefined
  const socket = yield* Socket.makeWebSocket(`${url.replace("http", "ws")}/rpc`).pipe(
    Effect.provideService(Socket.WebSocketConstructor, (address) => {
      connected = new NodeWS.WebSocket(address)
      return connected as unknown as globalThis.WebSocket
    })
  )
  const protocol = yield* RpcClient.makeProtocolSocket({ retryPolicy: Schedule.recurs(0), pingTimeout: "1 hour" }).pipe(
    Effect.provideService(Socket.Socket, socket),
    Effect.provide(serialization)
  )
  const client = yield* RpcClient.make(ClientRpcs, { disableTracing: true }).pipe(
    Effect.provideService(RpcClient.Protocol, protocol)
  )
  const stream = () => {
    const { _socket } = connected as unknown as { readonly _socket: import("node:net").Socket }
    return _socket
  }
  return { client, stop: () => stream().pause(), go: () => stream().resume() }
})

/** Waits until `value` has not changed for a while. */
const settled = (value: () => number) =>
  Effect.gen(function*() {
    for (let same = 0, last = value(); same < 20; last = value()) {
      yield* Effect.sleep(10)
      same = value() === last ? same + 1 : 0
    }
    return value()
  })

/** The query as it travels. */
const encoded = Effect.gen(function*() {
  let bytes = new Uint8Array()
  const query = Protocol.wire.on({
    propose: () => Effect.never,
    read: (given) => Effect.andThen(Effect.sync(() => void (bytes = new Uint8Array(given))), Effect.never)
  }).read({ _tag: "Get", key: "k" })
  yield* Fiber.interrupt(yield* Effect.forkChild(query, { startImmediately: true }))
  return bytes
})

describe("a client that asks for more at a time than a connection may have under way", () => {
  it.live("is told that the server is overloaded, and the rest is answered", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      node.onRead = Effect.never
      const url = yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined }))
      const { client } = yield* connect(url)
      const ask = Effect.map(client.Read({ queries: questions([yield* encoded]), consistency: "linearizable" }), unpack)
      const waiting = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: callsMax }), () => ask, { concurrency: "unbounded" })
      )
      yield* settled(() => node.reads)
      const [refused] = yield* ask
      assert.deepStrictEqual(refused, Exit.fail(new Overloaded()))
      yield* Fiber.interrupt(waiting)
      node.onRead = undefined
      // Those that nobody waits for any more take no room.
      assert.strictEqual((yield* ask)[0]?._tag, "Success")
    }))

  it.live("snapshots included", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      let taking = 0
      node.onTakeSnapshot = Effect.andThen(Effect.sync(() => taking++), Effect.never)
      const url = yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined }))
      const { client } = yield* connect(url)
      const waiting = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: callsMax }), () => client.TakeSnapshot(), { concurrency: "unbounded" })
      )
      assert.strictEqual(yield* settled(() => taking), callsMax)
      assert.strictEqual((yield* Effect.flip(client.TakeSnapshot()))._tag, "Overloaded")
      yield* Fiber.interrupt(waiting)
    }))
})

describe("a client that sends what are no questions", () => {
  it.live("loses that call alone, and nothing is asked or proposed of it", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const url = yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined }))
      const { client } = yield* connect(url)
      const cut = Uint8Array.of(0, 0, 0, 9, 1)
      const many = new Uint8Array(4 * (questionsMax + 1))
      const session = { id: 1, firstUnanswered: 1, sequences: Uint8Array.of(0, 0, 0, 0, 0, 1) }
      const two = questions([Uint8Array.of(1), Uint8Array.of(2)])
      const read = (queries: Uint8Array) => Effect.exit(client.Read({ queries, consistency: "linearizable" }))
      assert.isTrue(Exit.isFailure(yield* read(cut)))
      assert.isTrue(Exit.isFailure(yield* read(many)))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(client.Propose({ commands: cut }))))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(client.Propose({ commands: two, session }))))
      assert.deepStrictEqual([node.reads, node.proposed, node.sequenced.length], [0, 0, 0])
      assert.strictEqual((yield* client.Status()).id, "n1")
    }))
})

describe("a client that reads no answers", () => {
  it.live("is not read from until it does, and then has every answer", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const url = yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined }))
      yield* Protocol.wire.on(node.service).propose({ _tag: "Put", key: "k", value: new Uint8Array(valueBytes) })
      const query = yield* encoded
      const { client, go, stop } = yield* connect(url)
      yield* client.Status()
      stop()
      const calls = 4 * callsMax
      const asked = yield* Effect.forkChild(
        Effect.forEach(
          Array.from({ length: calls }),
          () => Effect.map(client.Read({ queries: questions([query]), consistency: "linearizable" }), unpack),
          { concurrency: "unbounded" }
        )
      )
      const served = yield* settled(() => node.reads)
      assert.isAbove(served, 0)
      assert.isAtMost(served * valueBytes, 2 * unreadBytesMax)
      go()
      const answers = (yield* Fiber.join(asked)).flat()
      assert.strictEqual(answers.length, calls)
      const found = answers.filter((answer) => Exit.isSuccess(answer) && answer.value.length > valueBytes)
      assert.isAtLeast(found.length, callsMax)
    }))

  it.live("has the answers that came for it all at once cut off beyond a bound, and is answered again once it reads", () =>
    Effect.gen(function*() {
      const node = FakeNode.make()
      const url = yield* FakeNode.serve(node, ClientHttp.layer({ urlOf: () => undefined }))
      const largeBytes = 4 << 20
      yield* Protocol.wire.on(node.service).propose({ _tag: "Put", key: "k", value: new Uint8Array(largeBytes) })
      const isConfirmed = yield* Deferred.make<void>()
      const query = yield* encoded
      const answer = node.service.read(query)
      node.onRead = Effect.andThen(Deferred.await(isConfirmed), Effect.suspend(() => (node.onRead = undefined, answer)))
      const { client, go, stop } = yield* connect(url)
      const calls = 48
      const read = Effect.map(client.Read({ queries: questions([query]), consistency: "linearizable" }), unpack)
      const asked = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: calls }), () => read, { concurrency: "unbounded" })
      )
      assert.strictEqual(yield* settled(() => node.reads), calls)
      stop()
      yield* Deferred.succeed(isConfirmed, undefined)
      yield* Effect.sleep(300)
      go()
      const answers = (yield* Fiber.join(asked)).flat()
      const found = answers.filter((one) => Exit.isSuccess(one) && one.value.length > largeBytes)
      assert.isAtLeast(found.length, 1)
      assert.isAtMost(found.length * largeBytes, 2 * unreadBytesMax)
      assert.strictEqual(answers.length, calls)
      const others = answers.filter((one) => Exit.isFailure(one))
      for (const one of others) assert.include(String(one), "Cut")
      const [again] = yield* read
      assert.strictEqual(again?._tag, "Success", "what was sent takes no room any more")
    }))
})

describe("what a connection holds that its client has not read", () => {
  const by = (client: number, requestId: string) => ({ client: { id: client }, requestId: RequestId(requestId) })
  /** Whether each answer of so many bytes had room. */
  const answered = (unread: Unread, client: number, call: string, ...bytes: ReadonlyArray<number>) =>
    unread.answering(by(client, call), (room) => Effect.sync(() => bytes.map(room)))

  it.effect("is bounded for each connection; a call waits for room, and an answer of any size has it where nothing is held", () =>
    Effect.gen(function*() {
      const unread = new Unread()
      assert.deepStrictEqual(yield* answered(unread, 1, "a", unreadBytesMax + 5, 1), [true, false])
      assert.deepStrictEqual(yield* answered(unread, 2, "a", 10), [true])
      const waiting = yield* Effect.forkChild(answered(unread, 1, "b", 7), { startImmediately: true })
      unread.sent(2, RequestId("a"))
      yield* Effect.yieldNow
      assert.isUndefined(waiting.pollUnsafe())
      unread.sent(1, RequestId("a"))
      assert.deepStrictEqual(yield* Fiber.join(waiting), [true])
      assert.deepStrictEqual([unread.bytesOf(1), unread.bytesOf(2)], [7, 0])
    }))

  it.effect("is let go of where the call is interrupted", () =>
    Effect.gen(function*() {
      const unread = new Unread()
      const call = unread.answering(by(1, "a"), (room) => Effect.andThen(Effect.sync(() => room(9)), Effect.never))
      const fiber = yield* Effect.forkChild(call, { startImmediately: true })
      assert.strictEqual(unread.bytesOf(1), 9)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(unread.bytesOf(1), 0)
    }))
})
