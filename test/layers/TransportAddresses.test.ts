/**
 * Where the HTTP transport finds the other servers, and what becomes of those that it finds no more.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import { make, ofVoters } from "../../src/domain/Configuration.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import { Addresses } from "../../src/layers/peer/Addresses.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import { heartbeat, listen, sendUntilReceived, takeUntil } from "../contracts/transport.ts"
import { admittedDisk, hello, layers, over, rawClient, takeLine, withLog } from "./peerNode.ts"

/** A configuration of servers at addresses. */
const at = (places: Readonly<Record<NodeId, string>>) => ofVoters(Object.keys(places), new Map(Object.entries(places)))

const place = (number: number): string => `http://10.0.0.${number}:7101`

/** Accepts connections and ends them at once; counts them. */
const dead = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; readonly calls: Queue.Queue<number>; readonly close: () => void }>(
    (resume) => {
      const calls = Effect.runSync(Queue.unbounded<number>())
      let count = 0
      const server = Net.createServer((socket) => {
        socket.on("error", () => {})
        socket.destroy()
        Queue.offerUnsafe(calls, ++count)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" ? address?.port : 0
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, calls, close: () => void server.close() }))
      })
    }
  ),
  ({ close }) => Effect.sync(close)
)

for (const [kind, layer] of layers) {
  const { cluster, startNode, strangers } = over(layer)

  describe(kind, () => {
    describe("an address", () => {
      it("is what this process was told, else what the configuration says, else what the server itself does", () => {
        const addresses = new Addresses("n1", new Map([["n1", place(1)], ["n2", place(2)]]))
        addresses.reconfigure(at({ n1: place(11), n2: place(12), n3: place(13) }))
        for (const [id, number] of [["n2", 22], ["n3", 23], ["n4", 24]] as const) addresses.say(id, place(number))
        assert.deepStrictEqual(["n1", "n2", "n3", "n4", "n5"].map((id) => addresses.of(id)), [
          place(1),
          place(2),
          place(13),
          place(24),
          undefined
        ])
        assert.strictEqual(addresses.own(), place(1))
      })

      it("that a server says itself is taken while it is one, and the latest counts", () => {
        const addresses = new Addresses("n1", new Map())
        addresses.say("n2", place(2))
        addresses.say("n2", place(3))
        assert.strictEqual(addresses.of("n2"), place(3))
        for (const none of [undefined, "", "n2:7101", "ftp://n2", `http://n2/${"x".repeat(2048)}`]) {
          addresses.say("n2", place(2))
          addresses.say("n2", none)
          assert.isUndefined(addresses.of("n2"), none)
        }
      })

      it("of a server that was removed stays for a last word; of a stranger that cannot be reached it goes", () => {
        const addresses = new Addresses("n1", new Map([["n5", place(5)]]))
        addresses.reconfigure(at({ n1: place(1), n2: place(2) }))
        addresses.reconfigure(at({ n1: place(1) }))
        assert.strictEqual(addresses.of("n2"), place(2))
        assert.isFalse(addresses.unreachable("n2"))
        assert.isUndefined(addresses.of("n2"))
        assert.isFalse(addresses.unreachable("n5"))
        assert.strictEqual(addresses.of("n5"), place(5))
        addresses.reconfigure(make({ voters: ["n1"], learners: ["n2"], addresses: new Map([["n2", place(2)]]) }))
        assert.isTrue(addresses.unreachable("n2"))
        assert.strictEqual(addresses.of("n2"), place(2))
      })

      it("is kept of the latest strangers only, however many call; members do not count among them", () => {
        const addresses = new Addresses("n1", new Map([["n2", place(2)]]))
        addresses.reconfigure(at({ n1: place(1), n3: place(3) }))
        addresses.say("n3", place(33))
        const ids = Array.from({ length: PeerRpc.strangersMax + 3 }, (_, i) => `s${i}`)
        for (const id of ids) addresses.say(id, place(9))
        // Who calls again is among the latest.
        addresses.say("s4", place(9))
        addresses.say("last", place(9))
        assert.deepStrictEqual(ids.filter((id) => addresses.of(id) === undefined), ["s0", "s1", "s2", "s3"])
        addresses.reconfigure(ofVoters(["n1", "n3"]))
        assert.strictEqual(addresses.of("n3"), place(33))
      })
    })

    describe("a server whose address changes", () => {
      it.live("is left where it was, in the middle of a conversation, and called where it is", () =>
        Effect.gen(function*() {
          const n1 = yield* startNode({ id: "n1", urls: new Map(), disk: yield* admittedDisk("n1") })
          const [before, after] = [
            yield* startNode({ id: "n2", urls: new Map() }),
            yield* startNode({ id: "n2", urls: new Map() })
          ]
          const [lost, old, events] = [yield* listen(n1), yield* listen(before), yield* listen(after)]
          yield* n1.reconfigure(at({ n1: n1.url, n2: before.url }))
          yield* n1.send("n2", heartbeat(1))
          yield* Queue.take(old)
          yield* n1.reconfigure(at({ n1: n1.url, n2: after.url }))
          assert.deepStrictEqual(yield* Queue.take(lost), { _tag: "PeerLost", peer: "n2" })
          yield* sendUntilReceived(n1, "n2", heartbeat(2), events)
          assert.deepStrictEqual(yield* Queue.clear(old), [])
        }))

      it.live("is called where it is, while the call to where it was still waits for an answer", () =>
        Effect.gen(function*() {
          // Listens, and never answers.
          const silent = Net.createServer()
          yield* Effect.acquireRelease(
            Effect.callback<void>((resume) => void silent.listen(0, "127.0.0.1", () => resume(Effect.void))),
            () => Effect.sync(() => void silent.close())
          )
          const address = silent.address()
          const nowhere = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`
          const limits = { connectTimeoutMs: 600_000 }
          const n1 = yield* startNode({ id: "n1", urls: new Map(), disk: yield* admittedDisk("n1"), ...limits })
          const n2 = yield* startNode({ id: "n2", urls: new Map() })
          const events = yield* listen(n2)
          yield* Effect.all([
            Effect.callback<void>((resume) => void silent.once("connection", () => resume(Effect.void))),
            n1.reconfigure(at({ n1: n1.url, n2: nowhere }))
          ], { concurrency: 2 })
          yield* n1.reconfigure(at({ n1: n1.url, n2: n2.url }))
          yield* sendUntilReceived(n1, "n2", heartbeat(1), events)
        }))
    })

    describe("a server that is down", () => {
      it.live("is called back at once when it calls, however long the wait for the next attempt", () =>
        Effect.gen(function*() {
          const { configuration, start, urls } = yield* strangers({ retryMsMin: 600_000, retryMsMax: 600_000 })
          yield* Effect.scoped(start("n2"))
          const n1 = yield* start("n1")
          const lost = yield* listen(n1)
          yield* n1.reconfigure(configuration("n1", "n2"))
          yield* n1.send("n2", heartbeat(1))
          yield* takeUntil(lost, ({ _tag }) => _tag === "PeerLost")
          const port = Number(new URL(urls.get("n2") ?? "").port)
          const n2 = yield* startNode({ id: "n2", urls: new Map(), port, disk: yield* admittedDisk("n2") })
          const events = yield* listen(n2)
          yield* n2.reconfigure(configuration("n1", "n2"))
          yield* sendUntilReceived(n1, "n2", heartbeat(2), events)
        }))

      it.live("is called no more once it is no member, and nothing is left of it", () =>
        Effect.gen(function*() {
          const n1 = yield* startNode({ id: "n1", urls: new Map(), disk: yield* admittedDisk("n1") })
          const [removed, kept] = [yield* dead, yield* dead]
          for (let i = 0; i < 20; i++) {
            yield* n1.reconfigure(at({ n1: n1.url, kept: kept.url, [`gone-${i}`]: removed.url }))
            yield* Queue.take(removed.calls)
          }
          yield* n1.reconfigure(at({ n1: n1.url, kept: kept.url }))
          // Each may be called once more, for a last word.
          yield* Queue.clear(kept.calls)
          for (let i = 0; i < 5; i++) yield* Queue.take(kept.calls)
          yield* Queue.clear(removed.calls)
          for (let i = 0; i < 10; i++) yield* Queue.take(kept.calls)
          assert.deepStrictEqual(yield* Queue.clear(removed.calls), [])
          yield* n1.send("gone-19", heartbeat(1))
          for (let i = 0; i < 3; i++) yield* Queue.take(kept.calls)
          assert.deepStrictEqual(yield* Queue.clear(removed.calls), [])
        }))
    })

    describe("a server that is no member", () => {
      it.live("is told so when it calls, and says so in its log, once", () =>
        withLog((lines) =>
          Effect.gen(function*() {
            const { configuration, start } = yield* cluster()
            const n1 = yield* start("n1")
            for (let life = 1; life <= 3; life++) {
              const scope = yield* Scope.make()
              const n2 = yield* start("n2").pipe(Scope.provide(scope))
              const events = yield* listen(n2).pipe(Scope.provide(scope))
              yield* n2.reconfigure(life === 1 ? configuration("n1", "n2") : configuration("n2"))
              yield* sendUntilReceived(n1, "n2", heartbeat(life), events)
              yield* Scope.close(scope, Exit.void)
            }
            yield* takeLine(lines, "n1", "lost the connection to a peer")
            const said = (yield* Queue.clear(lines)).filter(({ text }) =>
              text.includes("count this server among the members")
            )
            assert.deepStrictEqual(said.map(({ annotations: { node, peer } }) => [node, peer]), [["n1", "n2"]])
          })
        ))

      it.live("keeps its conversation until so many others have called", () =>
        Effect.gen(function*() {
          const n2 = yield* startNode({ id: "n2", urls: new Map() })
          const events = yield* listen(n2)
          const client = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
          const ids = Array.from({ length: PeerRpc.strangersMax + 2 }, (_, i) => `s${i}`)
          const tokens: Array<string> = []
          for (const from of ids) tokens.push((yield* client.Hello({ ...hello, from })).token)
          const refused: Array<number> = []
          for (const [i, token] of tokens.entries()) {
            const delivered = yield* Effect.exit(
              client.Deliver({ token, messages: MessageFrame.encode([MessageCodec.toWire(heartbeat(i))]) })
            )
            if (Exit.isFailure(delivered)) refused.push(i)
          }
          assert.deepStrictEqual(refused, [0, 1])
          const heard = (yield* Queue.clear(events)).flatMap((event) => event._tag === "Received" ? [event.from] : [])
          assert.deepStrictEqual(heard, ids.slice(2))
        }))
    })
  })
}
