/** What is particular to bare connections; that they do what all transports do is in `TransportHttp.test.ts`. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Net from "node:net"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import { refusalOf } from "../../src/layers/peer/Conversation.ts"
import * as PeerFrames from "../../src/layers/PeerFrames.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import * as PeerSocket from "../../src/layers/PeerSocket.ts"
import * as TransportHttp from "../../src/layers/TransportHttp.ts"
import * as TransportSocket from "../../src/layers/TransportSocket.ts"
import { heartbeat, listen, sendUntilReceived } from "../contracts/transport.ts"
import { cluster, hello, startNode, takeLine, withLog } from "./peerNode.ts"

const connect = (url: string, said: Partial<PeerRpc.Greeting> = {}, pings: { pingIntervalMs?: number } = {}) =>
  PeerSocket.connect({
    url,
    hello: { ...hello, ...said },
    pingIntervalMs: 200,
    pingTimeoutMs: 500,
    connectTimeoutMs: 1000,
    ...pings
  })

const batch = (round: number): ReadonlyArray<Uint8Array> => MessageFrame.pieces([MessageCodec.toWire(heartbeat(round))])

const received = (round: number) => ({ _tag: "Received" as const, from: "n3" as NodeId, message: heartbeat(round) })

/** Asks for the other protocol, and then writes `pieces`. Resolves with all that comes back once the server has ended the connection. */
const speak = (url: string, ...pieces: ReadonlyArray<Uint8Array>) =>
  Effect.callback<Buffer>((resume) => {
    const answer: Array<Buffer> = []
    const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
    socket.on("data", (data) => void answer.push(data)).on("error", () => {})
    socket.on("close", () => resume(Effect.succeed(Buffer.concat(answer))))
    socket.write(`GET /raft HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${PeerFrames.protocol}\r\n\r\n`)
    for (const piece of pieces) socket.write(piece)
  })

const frame = (kind: number, body = ""): Buffer => Buffer.concat(PeerFrames.encode(kind, Buffer.from(body)))

describe("a bare connection", () => {
  it.live("carries batches in order, with and without an answer", () =>
    Effect.gen(function*() {
      const n2 = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
      const events = yield* listen(n2)
      const { deliver, notify } = yield* connect(n2.url)
      yield* notify(batch(1))
      yield* deliver(batch(2))
      assert.deepStrictEqual(yield* Queue.clear(events), [received(1), received(2)])
    }))

  it.live("is refused by a typed error that says why, as RPC is", () =>
    Effect.gen(function*() {
      const { url } = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
      const version = yield* Effect.exit(connect(url, { protocolVersion: 1 }))
      assert(Exit.isFailure(version))
      assert.include(refusalOf(version.cause)?.message, `n2 speaks peer protocol ${PeerRpc.protocolVersion}`)
      const self = yield* Effect.exit(connect(url, { from: "n2" }))
      assert(Exit.isFailure(self))
      assert.strictEqual(refusalOf(self.cause)?.reason, "Self")
    }))

  it.live("ends with the next hello of the same server, and says so", () =>
    Effect.gen(function*() {
      const n2 = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
      const events = yield* listen(n2)
      const older = yield* connect(n2.url)
      const newer = yield* connect(n2.url)
      yield* older.notify(batch(1))
      const broken = yield* Effect.exit(Deferred.await(older.broken))
      assert(Exit.isFailure(broken))
      assert.strictEqual(refusalOf(broken.cause)?.reason, "UnknownToken")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(older.deliver(batch(2)))))
      yield* newer.deliver(batch(3))
      assert.deepStrictEqual(yield* Queue.clear(events), [received(3)])
    }))

  it.live("that nobody speaks on is asked whether it stands, and goes on", () =>
    Effect.gen(function*() {
      const n2 = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
      const events = yield* listen(n2)
      const { broken, deliver } = yield* connect(n2.url, {}, { pingIntervalMs: 10 })
      yield* Effect.timeoutOption(Deferred.await(broken), 700)
      assert.isFalse(Deferred.isDoneUnsafe(broken))
      yield* deliver(batch(1))
      assert.deepStrictEqual(yield* Queue.clear(events), [received(1)])
    }))

  it.live("whose frames make no sense is ended, and harms nobody else", () =>
    Effect.gen(function*() {
      const { start } = yield* cluster({ layer: TransportSocket.layer })
      const n1 = yield* start("n1")
      const n2 = yield* start("n2")
      const events = yield* listen(n2)
      yield* sendUntilReceived(n1, "n2", heartbeat(1), events)
      const greeting = frame(PeerFrames.kinds.hello, JSON.stringify(hello))
      const senseless = [
        [Buffer.alloc(100, 0xff)],
        [frame(PeerFrames.kinds.messages)],
        [frame(PeerFrames.kinds.hello, "{")],
        [frame(PeerFrames.kinds.hello, JSON.stringify({ ...hello, protocolVersion: "?" }))],
        [greeting, frame(77)],
        [greeting, greeting],
        [greeting, Buffer.alloc(64, 0xff)]
      ]
      for (const pieces of senseless) {
        assert.match((yield* speak(n2.url, ...pieces)).toString("latin1"), /^HTTP\/1.1 101 /)
      }
      yield* sendUntilReceived(n1, "n2", heartbeat(2), events)
    }))

  it.live("whose messages make no sense goes on, with a warning", () =>
    withLog((lines) =>
      Effect.gen(function*() {
        const n2 = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
        const events = yield* listen(n2)
        const { deliver } = yield* connect(n2.url)
        yield* deliver([...batch(1), Uint8Array.of(1)])
        yield* takeLine(lines, "n2", "dropped malformed messages")
        yield* deliver(batch(2))
        assert.deepStrictEqual(yield* Queue.clear(events), [received(2)])
      })
    ))

  it.live("cannot be had where none is offered, and the reason is told", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(connect("n2:7101"))
      assert(Exit.isFailure(exit))
      assert.include(String(Cause.squash(exit.cause)), `"n2:7101" must start with http:// or https://`)
    }))

  it.live("is no matter of the whole cluster: each server calls in its own way", () =>
    Effect.gen(function*() {
      const urls = new Map<NodeId, string>()
      const n1 = yield* startNode({ id: "n1", urls, layer: TransportHttp.layer })
      const n2 = yield* startNode({ id: "n2", urls, layer: TransportSocket.layer })
      const [at1, at2] = [yield* listen(n1), yield* listen(n2)]
      yield* n1.reconfigure(yield* Effect.map(cluster(), ({ configuration }) => configuration("n1", "n2")))
      yield* n2.reconfigure(yield* Effect.map(cluster(), ({ configuration }) => configuration("n1", "n2")))
      yield* sendUntilReceived(n1, "n2", heartbeat(1), at2)
      yield* sendUntilReceived(n2, "n1", heartbeat(2), at1)
    }))
})
