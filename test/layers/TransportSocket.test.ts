/** What is particular to bare connections; that they do what all transports do is in `TransportHttp.test.ts`. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Http from "node:http"
import * as Net from "node:net"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import { type Conversation, describe as describeCause, refusalOf } from "../../src/layers/peer/Conversation.ts"
import * as PeerFrames from "../../src/layers/PeerFrames.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import * as PeerSocket from "../../src/layers/PeerSocket.ts"
import * as TransportHttp from "../../src/layers/TransportHttp.ts"
import * as TransportSocket from "../../src/layers/TransportSocket.ts"
import { heartbeat, listen, sendUntilReceived } from "../contracts/transport.ts"
import { cluster, hello, startNode, takeLine, withLog } from "./peerNode.ts"

/** A caller that loses its patience soon. */
const quickly = { pingIntervalMs: 10, answerIntervalMs: 10, pingTimeoutMs: 200 }

const connect = (url: string, said: Partial<PeerRpc.Greeting> = {}, pings: Partial<typeof quickly> = {}) =>
  PeerSocket.connect({
    url,
    hello: { ...hello, ...said },
    pingIntervalMs: 200,
    pingTimeoutMs: 500,
    answerIntervalMs: 500,
    connectTimeoutMs: 1000,
    ...pings
  })

/** How a connection has ended. It does so soon, or not at all. */
const endOf = ({ broken }: Conversation) =>
  Effect.exit(
    Effect.timeoutOrElse(Deferred.await(broken), { duration: 5000, orElse: () => Effect.fail("it has not ended") })
  )

const batch = (round: number): ReadonlyArray<Uint8Array> => MessageFrame.pieces([MessageCodec.toWire(heartbeat(round))])

const received = (round: number) => ({ _tag: "Received" as const, from: "n3" as NodeId, message: heartbeat(round) })

/** Asks for the other protocol, and then writes `pieces`. Resolves with all that comes back until the server ends the connection, or says no more. */
const speak = (url: string, ...pieces: ReadonlyArray<Uint8Array>) =>
  Effect.callback<Buffer>((resume) => {
    const answer: Array<Buffer> = []
    const socket = Net.connect(Number(new URL(url).port), "127.0.0.1")
    socket.on("data", (data) => void answer.push(data)).on("error", () => {})
    socket.on("close", () => resume(Effect.succeed(Buffer.concat(answer))))
    socket.setTimeout(3000, () => socket.destroy())
    socket.write(`GET /raft HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${PeerFrames.protocol}\r\n\r\n`)
    for (const piece of pieces) socket.write(piece)
  })

const frame = (kind: number, body = ""): Buffer => Buffer.concat(PeerFrames.encode(kind, Buffer.from(body)))

const listening = (server: Http.Server) =>
  Effect.acquireRelease(
    Effect.callback<string>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(`http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`))
      })
    }),
    () => Effect.sync(() => void server.close())
  )

/** A server that lets everybody in, and does with later frames what the test makes it do. */
const called = (
  onFrame: (socket: Net.Socket, frame: PeerFrames.Frame) => void,
  { accepted = [], isDeaf = false }: { readonly accepted?: Array<Net.Socket>; readonly isDeaf?: boolean } = {}
) => {
  const server = Http.createServer()
  server.on("upgrade", (_, stream) => {
    const socket = stream as Net.Socket
    accepted.push(socket)
    const reader = new PeerFrames.Reader(64 << 20)
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${PeerFrames.protocol}\r\n\r\n`)
    socket.on("error", () => {}).on("data", (data: Buffer) => {
      const read = reader.read(data)
      assert(!("problem" in read))
      for (const one of read) {
        if (one.kind !== PeerFrames.kinds.hello) {
          onFrame(socket, one)
          continue
        }
        socket.write(frame(PeerFrames.kinds.welcome, "{}"))
        if (isDeaf) socket.pause()
      }
    })
  })
  return listening(server)
}

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
      const broken = yield* endOf(older)
      assert(Exit.isFailure(broken))
      assert.strictEqual(refusalOf(broken.cause)?.reason, "UnknownToken")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(older.deliver(batch(2)))))
      yield* newer.deliver(batch(3))
      assert.deepStrictEqual(yield* Queue.clear(events), [received(3)])
    }))

  it.live("that nobody speaks on is asked whether it stands, again and again", () =>
    Effect.gen(function*() {
      const asked = yield* Queue.unbounded<number>()
      const url = yield* called((socket, { kind }) => {
        if (kind === PeerFrames.kinds.asking) socket.write(frame(PeerFrames.kinds.heard))
        Queue.offerUnsafe(asked, kind)
      })
      const { broken } = yield* connect(url, {}, quickly)
      const soon = Effect.timeoutOption(Queue.takeN(asked, 5), 5000)
      assert.deepStrictEqual(yield* soon, Option.some(Array.from({ length: 5 }, () => PeerFrames.kinds.asking)))
      assert.isFalse(Deferred.isDoneUnsafe(broken))
    }))

  it.live("on which nothing is answered any more is over, and who waits for an answer is told", () =>
    Effect.gen(function*() {
      const url = yield* called(() => {})
      const conversation = yield* connect(url, {}, quickly)
      const delivered = yield* Effect.forkChild(Effect.exit(conversation.deliver(batch(1))))
      const exit = yield* endOf(conversation)
      assert.strictEqual(Exit.isFailure(exit) && Cause.squash(exit.cause), "ping timeout")
      const told = yield* Fiber.join(delivered)
      assert.strictEqual(Exit.isFailure(told) && Cause.squash(told.cause), "ping timeout")
    }))

  it.live("that takes no more bytes is over with its caller's scope, and keeps nothing of what has not left", () =>
    Effect.gen(function*() {
      const accepted: Array<Net.Socket> = []
      const url = yield* called(() => {}, { accepted, isDeaf: true })
      const scope = yield* Scope.make()
      const conversation = yield* Scope.provide(connect(url, {}, quickly), scope)
      yield* Effect.forkChild(Effect.ignore(conversation.notify([new Uint8Array(32 << 20)])))
      yield* endOf(conversation)
      yield* Scope.close(scope, Exit.void)
      const [socket] = accepted
      if (socket === undefined) return assert.fail("nobody called")
      yield* Effect.callback<void>((resume) => {
        const over = () => resume(Effect.void)
        socket.on("end", over).on("close", over).resume()
      })
      assert.isBelow(socket.bytesRead, 32 << 20)
    }))

  it.live("whose end is nobody's fault says so in words", () =>
    Effect.gen(function*() {
      const url = yield* called((socket) => void socket.end())
      const conversation = yield* connect(url)
      yield* conversation.notify(batch(1))
      const exit = yield* endOf(conversation)
      assert.strictEqual(Exit.isFailure(exit) && Cause.squash(exit.cause), "the connection closed")
    }))

  it.live("says nothing longer than an introduction before it has introduced itself", () =>
    Effect.gen(function*() {
      const { url } = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
      const long = frame(PeerFrames.kinds.hello, JSON.stringify({ ...hello, url: "x".repeat(70_000) }))
      assert.match((yield* speak(url, long)).toString("latin1"), /^HTTP\/1.1 101 [^{]*$/s)
    }))

  it.live("that does not begin as a server's does is in the log, once", () =>
    withLog((lines) =>
      Effect.gen(function*() {
        const { url } = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
        for (let times = 0; times < 2; times++) yield* speak(url, Buffer.alloc(100, 0xff))
        const text = "ended a connection that did not begin as a server's does"
        const said = (yield* Queue.clear(lines)).filter((line) => line.text === text)
        assert.deepStrictEqual(said.map(({ level }) => level), ["Warn"])
        assert.include(String(said[0]?.annotations["problem"]), "is too long")
      })
    ))

  it.live("is not for web pages", () =>
    Effect.gen(function*() {
      const { url } = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
      const status = yield* Effect.callback<number | undefined>((resume) => {
        const headers = { connection: "Upgrade", upgrade: PeerFrames.protocol, origin: "http://example.com" }
        const request = Http.get(`${url}/raft`, { headers }, ({ statusCode }) => resume(Effect.succeed(statusCode)))
        request.on("upgrade", () => resume(Effect.succeed(101)))
      })
      assert.strictEqual(status, 403)
    }))

  it.live("whose receiver has a bug ends, and the bug is in the log", () =>
    withLog((lines) =>
      Effect.gen(function*() {
        const n2 = yield* Effect.flatMap(cluster(), ({ start }) => start("n2"))
        yield* n2.inbound(() => {
          throw new Error("a receiver's bug")
        })
        const conversation = yield* connect(n2.url)
        yield* conversation.notify(batch(1))
        yield* endOf(conversation)
        const line = yield* Queue.take(lines).pipe(Effect.repeat({ until: ({ level }) => level === "Error" }))
        assert.include(line.text, "a connection has ended with a defect")
        assert.include(String(line.annotations["problem"]), "a receiver's bug")
      })
    ))

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

  it.live("cannot be had where no server is named, or one that offers none, and the reason is told", () =>
    Effect.gen(function*() {
      const nowhere = yield* Effect.exit(connect("n2:7101"))
      assert(Exit.isFailure(nowhere))
      assert.include(String(Cause.squash(nowhere.cause)), `"n2:7101" must start with http:// or https://`)
      const url = yield* listening(Http.createServer((_, response) => void response.writeHead(426).end()))
      const refused = yield* Effect.exit(connect(url))
      assert(Exit.isFailure(refused))
      assert.include(describeCause(refused.cause), "expected 101 Switching Protocols (426")
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
