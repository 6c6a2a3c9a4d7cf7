import * as NodeWS from "@effect/platform-node/NodeWS"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import { command } from "../../src/domain/Entry.ts"
import type { Message } from "../../src/domain/Message.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import * as TransportHttp from "../../src/layers/TransportHttp.ts"
import type { Inbound } from "../../src/services/Transport.ts"
import {
  chunk,
  heartbeat,
  listen,
  reconfigureContract,
  sendUntilReceived,
  takeUntil,
  transportContract
} from "../contracts/transport.ts"
import { cluster, hello, layers, over, rawClient, takeLine, withLog } from "./peerNode.ts"

const isLost = (event: Inbound): boolean => event._tag === "PeerLost"

const entryOf = (bytes: number, index = 10): Message => ({
  _tag: "AppendEntries",
  term: 3,
  prev: { term: 2, index: index - 1 },
  entries: [{ term: 3, index, payload: command(new Uint8Array(bytes).fill(7)) }],
  leaderCommit: 7,
  round: bytes
})

/** How a caller is set up wrongly, and what both logs then say. Who is called is n2. */
const foreigners = [
  { who: "from another cluster", options: { id: "n1", clusterId: "c2" }, says: `to cluster "c1" and "n1" to "c2"` },
  { who: "that looks for somebody else", options: { id: "n1" }, target: "n5", says: `this is n2, not "n5"` }
]

for (const [kind, layer] of layers) {
  const { cluster: here, startNode, strangers: apart } = over(layer)

  describe(kind, () => {
    describe("the contract", () => {
      transportContract(it.live, here())
    })

    describe("the contract, one message to a batch and three batches under way", () => {
      transportContract(it.live, here({ batchBytesMax: 1, unansweredBatchesMax: 3 }))
    })

    describe("the contract, of servers that know of each other by their configuration", () => {
      reconfigureContract(it.live, apart())
    })

    describe("connections", () => {
      it.live("messages flow once a peer that was down comes up", () =>
        Effect.gen(function*() {
          const { start, urls } = yield* here()
          const { url } = yield* Effect.scoped(start("n2"))
          const n1 = yield* start("n1")
          const lost = yield* listen(n1)
          yield* n1.send("n2", heartbeat(1))
          assert.deepStrictEqual(yield* Queue.take(lost), { _tag: "PeerLost", peer: "n2" })
          urls.set("n2", url)
          const events = yield* listen(yield* start("n2"))
          yield* sendUntilReceived(n1, "n2", heartbeat(2), events)
        }))

      it.live("a peer that is killed is reported lost, and heard again when it is back on its port", () =>
        withLog((lines) =>
          Effect.gen(function*() {
            const { start } = yield* here()
            const n1 = yield* start("n1")
            const lost = yield* listen(n1)
            for (let life = 1; life <= 3; life++) {
              const scope = yield* Scope.make()
              const events = yield* Effect.flatMap(start("n2"), listen).pipe(Scope.provide(scope))
              yield* sendUntilReceived(n1, "n2", heartbeat(life), events)
              yield* takeLine(lines, "n1", "connected to a peer")
              yield* Queue.clear(lost)
              yield* Scope.close(scope, Exit.void)
              yield* takeUntil(lost, isLost)
              assert.strictEqual((yield* takeLine(lines, "n1", "lost the connection to a peer")).level, "Info")
            }
          })
        ))

      it.live("a peer that hangs is reported lost within about a second", () =>
        Effect.gen(function*() {
          const { start, urls } = yield* here()
          const n2 = yield* start("n2")
          const sockets: Array<Net.Socket> = []
          const proxy = Net.createServer((near) => {
            const far = Net.connect(Number(new URL(n2.url).port), "127.0.0.1")
            near.pipe(far)
            far.pipe(near)
            sockets.push(near, far)
            for (const socket of [near, far]) socket.on("error", () => {})
          })
          yield* Effect.acquireRelease(
            Effect.callback<void>((resume) => void proxy.listen(0, "127.0.0.1", () => resume(Effect.void))),
            () => Effect.sync(() => void (proxy.close(), sockets.forEach((socket) => socket.destroy())))
          )
          const address = proxy.address()
          urls.set("n2", `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`)
          const n1 = yield* start("n1")
          const lost = yield* listen(n1)
          const events = yield* listen(n2)
          yield* n1.send("n2", heartbeat(1))
          yield* Queue.take(events)
          for (const socket of sockets) {
            socket.unpipe()
            socket.pause()
          }
          const [took] = yield* Effect.timed(takeUntil(lost, isLost))
          assert.isBelow(Duration.toMillis(took), 1500)
        }))

      it.live("a receiver that throws costs the connection, and the next one works", () =>
        Effect.gen(function*() {
          const { start } = yield* here()
          const n1 = yield* start("n1")
          const n2 = yield* start("n2")
          const lost = yield* listen(n1)
          yield* n2.inbound(() => {
            throw new Error("a receiver's bug")
          })
          yield* n1.send("n2", heartbeat(1))
          yield* takeUntil(lost, isLost)
          const events = yield* listen(n2)
          yield* sendUntilReceived(n1, "n2", heartbeat(2), events)
        }))

      it.live("what does not fit into the outbox is dropped, and reported once", () =>
        Effect.gen(function*() {
          const { start } = yield* here({ outboxMessagesMax: 10 })
          const n1 = yield* start("n1")
          const lost = yield* listen(n1)
          const events = yield* listen(yield* start("n2"))
          for (let round = 1; round <= 100; round++) yield* n1.send("n2", heartbeat(round))
          yield* takeUntil(lost, isLost)
          const arrived = yield* Queue.takeN(events, 10)
          assert.deepStrictEqual(
            arrived.map((event) => event._tag === "Received" && event.message),
            arrived.map((_, i) => heartbeat(i + 1))
          )
          yield* n1.send("n2", heartbeat(101))
          assert.deepStrictEqual(yield* Queue.take(events), { _tag: "Received", from: "n1", message: heartbeat(101) })
          assert.deepStrictEqual(yield* Queue.clear(lost), [])
        }))
    })

    describe("pieces of a snapshot", () => {
      it.live("count in the outbox for their bytes", () =>
        Effect.gen(function*() {
          const { start } = yield* here({ outboxBytesMax: 10_000 })
          const n1 = yield* start("n1")
          const lost = yield* listen(n1)
          const events = yield* listen(yield* start("n2"))
          yield* n1.send("n2", chunk(0, 6000))
          yield* n1.send("n2", chunk(1, 6000))
          assert.deepStrictEqual(yield* Queue.take(lost), { _tag: "PeerLost", peer: "n2" })
          yield* n1.send("n2", chunk(2, 2000))
          for (const message of [chunk(0, 6000), chunk(2, 2000)]) {
            assert.deepStrictEqual(yield* Queue.take(events), { _tag: "Received", from: "n1", message })
          }
        }))

      it.live("are dropped with a warning when they are larger than a message may be", () =>
        withLog((lines) =>
          Effect.gen(function*() {
            const { start } = yield* here({ messageBytesMax: 10_000 })
            const n1 = yield* start("n1")
            const events = yield* listen(yield* start("n2"))
            yield* n1.send("n2", chunk(0, 10_000))
            yield* n1.send("n2", chunk(1, 9000))
            assert.deepStrictEqual(yield* Queue.take(events), { _tag: "Received", from: "n1", message: chunk(1, 9000) })
            const line = yield* takeLine(lines, "n1", "dropped a message that is too large")
            assert.include(String(line.annotations["reason"]), "InstallSnapshot takes up to")
          })
        ))
    })

    describe("foreigners", () => {
      for (const { options, says, target = "n2", who } of foreigners) {
        it.live(`a server ${who} is refused, and both logs say why, once`, () =>
          withLog((lines) =>
            Effect.gen(function*() {
              const called = yield* startNode({
                layer,
                id: "n2",
                urls: new Map([["n1", "http://127.0.0.1:0"]]),
                port: 0
              })
              const events = yield* listen(called)
              const caller = yield* startNode({ ...options, urls: new Map([[target, called.url]]), port: 0 })
              const lost = yield* listen(caller)
              for (let attempts = 0; attempts < 3; attempts++) {
                yield* caller.send(target, heartbeat(attempts))
                yield* takeUntil(lost, isLost)
              }
              const written = (yield* Queue.clear(lines)).filter(({ level }) => level === "Warn")
              assert.deepStrictEqual(written.map(({ text }) => text).toSorted(), [
                "a peer refused this server",
                "refused a server that called"
              ])
              for (const { annotations } of written) {
                assert.include(String(annotations["reason"] ?? annotations["problem"]), says)
              }
              assert.deepStrictEqual(yield* Queue.clear(events), [])
            })
          ))
      }
    })

    describe("size", () => {
      it.live("an entry of 8 MiB arrives; one over the limit is dropped with a warning, and nothing else with it", () =>
        withLog((lines) =>
          Effect.gen(function*() {
            const { start } = yield* here()
            const n1 = yield* start("n1")
            const lost = yield* listen(n1)
            const events = yield* listen(yield* start("n2"))
            const large = entryOf(8 << 20)
            for (
              const message of [heartbeat(1), large, entryOf(TransportHttp.defaults.messageBytesMax), heartbeat(2)]
            ) {
              yield* n1.send("n2", message)
            }
            for (const message of [heartbeat(1), large, heartbeat(2)]) {
              assert.deepStrictEqual(yield* Queue.take(events), { _tag: "Received", from: "n1", message })
            }
            const line = yield* takeLine(lines, "n1", "dropped a message that is too large")
            assert.strictEqual(line.level, "Warn")
            assert.deepStrictEqual(yield* Queue.clear(lost), [])
          })
        ))
    })
  })
}

describe("foreigners who speak for themselves", () => {
  it.live("another protocol version, or the server's own name, is refused by a typed error that says why", () =>
    Effect.gen(function*() {
      const { start } = yield* cluster()
      const { url } = yield* start("n2")
      const client = yield* rawClient(url, PeerRpc.PeerRpcs)
      const version = yield* Effect.flip(client.Hello({ ...hello, protocolVersion: 1 }))
      assert.instanceOf(version, PeerRpc.Refused)
      assert.include(version.message, `n2 speaks peer protocol ${PeerRpc.protocolVersion} and "n3" speaks 1`)
      const self = yield* Effect.flip(client.Hello({ ...hello, from: "n2" }))
      assert.include(self.message, "n2 cannot be called by another server of that name")
      const odd = yield* Effect.flip(client.Hello({ ...hello, from: "n3 or so" }))
      assert.include(odd.message, `"n3 or so" is no name of a server`)
      const { diskId: _, ...diskless } = hello
      for (const without of [diskless, { ...hello, diskId: "mine" }]) {
        assert.include((yield* Effect.flip(client.Hello(without))).message, "n3 did not say which disk it has")
      }
    }))

  it.live("a token ends with the next Hello of the same server", () =>
    Effect.gen(function*() {
      const { start } = yield* cluster()
      const n2 = yield* start("n2")
      const events = yield* listen(n2)
      const client = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
      const older = yield* client.Hello(hello)
      const newer = yield* client.Hello(hello)
      const refused = yield* Effect.flip(
        client.Deliver({ ...older, messages: MessageFrame.encode([MessageCodec.toWire(heartbeat(1))]) })
      )
      assert.strictEqual(refused instanceof PeerRpc.Refused && refused.reason, "UnknownToken")
      yield* client.Deliver({ ...newer, messages: MessageFrame.encode([MessageCodec.toWire(heartbeat(2))]) })
      assert.deepStrictEqual(yield* Queue.clear(events), [{ _tag: "Received", from: "n3", message: heartbeat(2) }])
    }))

  it("a log line is news when its text changes or a minute has passed", () => {
    const isNews = PeerRpc.makeLogGate()
    const asked = [
      isNews("n1", "a", 0),
      isNews("n1", "a", 59_999),
      isNews("n1", "b", 60_000),
      isNews("n1", "b", 120_000)
    ]
    assert.deepStrictEqual(asked, [true, false, true, true])
    for (let i = 0; i < 64; i++) isNews(`stranger ${i}`, "a", 120_000)
    assert.isTrue(isNews("n1", "b", 120_001))
  })
})

const oddRpcs = RpcGroup.make(
  PeerRpc.Hello,
  Rpc.make("Deliver", { payload: { token: Schema.String, messages: Schema.Finite } })
)

describe("harm", () => {
  it.live("a receiver whose scope is closed hears nothing, and what arrives then is lost", () =>
    Effect.gen(function*() {
      const { start } = yield* cluster()
      const n2 = yield* start("n2")
      const client = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
      const { token } = yield* client.Hello(hello)
      const old = yield* Effect.scoped(listen(n2))
      yield* client.Deliver({ token, messages: MessageFrame.encode([MessageCodec.toWire(heartbeat(1))]) })
      const events = yield* listen(n2)
      yield* client.Deliver({ token, messages: MessageFrame.encode([MessageCodec.toWire(heartbeat(2))]) })
      assert.deepStrictEqual(yield* Queue.clear(events), [{ _tag: "Received", from: "n3", message: heartbeat(2) }])
      assert.deepStrictEqual(yield* Queue.clear(old), [])
    }))

  it.live("bytes that are no messages are dropped with a warning, and the connection goes on", () =>
    withLog((lines) =>
      Effect.gen(function*() {
        const { start } = yield* cluster()
        const n2 = yield* start("n2")
        const events = yield* listen(n2)
        const client = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
        const { token } = yield* client.Hello(hello)
        const frame = MessageFrame.encode([MessageCodec.toWire(heartbeat(1))])
        yield* client.Deliver({ token, messages: frame.subarray(0, -1) })
        const line = yield* takeLine(lines, "n2", "dropped malformed messages")
        assert.include(String(line.annotations["problem"]), "are no messages: they end in the middle of one")
        yield* client.Deliver({ token, messages: frame })
        assert.deepStrictEqual(yield* Queue.clear(events), [{ _tag: "Received", from: "n3", message: heartbeat(1) }])
      })
    ))

  it.live("a batch of another shape fails its own call, and the connection goes on", () =>
    Effect.gen(function*() {
      const { start } = yield* cluster()
      const n2 = yield* start("n2")
      const events = yield* listen(n2)
      const odd = yield* rawClient(n2.url, oddRpcs)
      const { token } = yield* odd.Hello(hello)
      const exit = yield* Effect.exit(odd.Deliver({ token, messages: 0.5 }))
      assert.isTrue(Exit.isFailure(exit))
      yield* odd.Hello(hello)
      assert.deepStrictEqual(yield* Queue.clear(events), [])
    }))

  it.live("bytes that are no RPC, a plain GET and frames of nonsense harm nobody else", () =>
    Effect.gen(function*() {
      const { start } = yield* cluster()
      const n1 = yield* start("n1")
      const n2 = yield* start("n2")
      const lost = yield* listen(n1)
      const events = yield* listen(n2)
      yield* n1.send("n2", heartbeat(1))
      yield* Queue.take(events)
      const response = yield* Effect.promise(() => fetch(`${n2.url}/raft`))
      assert.strictEqual(response.status, 426)
      assert.include(yield* Effect.promise(() => response.text()), "WebSocket")
      const garbage = [
        new Uint8Array(100).fill(0xff),
        new Uint8Array(0),
        new Uint8Array(64).fill(1),
        "no binary at all"
      ]
      for (const frame of garbage) {
        yield* Effect.callback<void>((resume) => {
          const socket = new NodeWS.WebSocket(`${n2.url.replace("http", "ws")}/raft`)
          socket.on("open", () => {
            socket.send(frame)
            socket.close()
          })
          socket.on("close", () => resume(Effect.void))
        })
      }
      yield* Effect.callback<void>((resume) => {
        const socket = Net.connect(Number(new URL(n2.url).port), "127.0.0.1")
        socket.end("\0\x01\x02 neither HTTP nor anything\r\n\r\n")
        socket.on("close", () => resume(Effect.void)).resume()
      })
      yield* n1.send("n2", heartbeat(2))
      assert.deepStrictEqual(yield* Queue.take(events), { _tag: "Received", from: "n1", message: heartbeat(2) })
      assert.deepStrictEqual(yield* Queue.clear(lost), [])
    }))
})
