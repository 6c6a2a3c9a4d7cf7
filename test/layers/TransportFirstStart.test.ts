/**
 * A new disk may stand for a lost one: its server asks the others before it takes part.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Net from "node:net"
import { make, ofVoters, unknown } from "../../src/domain/Configuration.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import { Admission } from "../../src/layers/peer/Admission.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import { heartbeat, listen, sendUntilReceived, takeUntil } from "../contracts/transport.ts"
import { disk, life, newDisk, refusal, startCalled, three } from "./peerDisks.ts"
import { hello, layers, over, rawClient } from "./peerNode.ts"

for (const [kind, layer] of layers) {
  const { cluster, startNode } = over(layer)

  describe(kind, () => {
    describe("the first start on a new disk", () => {
      /** n1 starts for the first time as one of three; the others are where the test says. */
      const startNew = Effect.fnUntraced(function*(others: ReadonlyArray<readonly [string, string]>) {
        const n1 = yield* startNode({ id: "n1", urls: new Map(others), disk: newDisk("n1"), connectTimeoutMs: 600_000 })
        const events = yield* listen(n1)
        yield* n1.reconfigure(three)
        const client = yield* rawClient(n1.url, PeerRpc.PeerRpcs)
        const { token } = yield* client.Hello({ ...hello, to: "n1" })
        const deliver = (round: number) =>
          client.Deliver({ token, messages: MessageFrame.encode([MessageCodec.toWire(heartbeat(round))]) })
        return { ...n1, client, deliver, events }
      })

      const nobody = "http://127.0.0.1:1"

      it.live("neither sends nor delivers while no majority has let it in; calls are answered meanwhile", () =>
        Effect.gen(function*() {
          const { start, urls } = yield* cluster()
          const { url } = yield* life(start("n2"))
          const n1 = yield* startNew([["n2", url], ["n3", nobody]])
          yield* n1.deliver(1)
          assert.deepStrictEqual(yield* Queue.clear(n1.events), [])
          urls.set("n2", url)
          const n2 = yield* start("n2")
          const events = yield* listen(n2)
          yield* sendUntilReceived(n1, "n2", heartbeat(2), events)
          yield* n1.deliver(3)
          const heard = yield* takeUntil(n1.events, ({ _tag }) => _tag === "Received")
          assert.deepStrictEqual(heard, { _tag: "Received", from: "n3", message: heartbeat(3) })
        }))

      it.live("waits for every other server to have been called, though a majority has let it in", () =>
        Effect.gen(function*() {
          const { start } = yield* cluster()
          const n2 = yield* start("n2")
          const events = yield* listen(n2)
          // Listens, and never answers until it is closed.
          const sockets: Array<Net.Socket> = []
          const called = yield* Deferred.make<void>()
          const silent = Net.createServer((socket) => {
            sockets.push(socket.on("error", () => {}))
            Deferred.doneUnsafe(called, Exit.void)
          })
          const close = () => void (silent.close(), sockets.forEach((socket) => socket.destroy()))
          yield* Effect.acquireRelease(
            Effect.callback<void>((resume) => void silent.listen(0, "127.0.0.1", () => resume(Effect.void))),
            () => Effect.sync(close)
          )
          const address = silent.address()
          const n3Url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`
          const n1 = yield* startNew([["n2", n2.url], ["n3", n3Url]])
          yield* Deferred.await(called)
          yield* n1.send("n2", heartbeat(1))
          yield* n1.deliver(2)
          for (let i = 0; i < 100; i++) yield* Effect.yieldNow
          assert.deepStrictEqual([yield* Queue.clear(n1.events), yield* Queue.clear(events)], [[], []])
          close()
          // What waited is sent.
          assert.deepStrictEqual(yield* Queue.take(events), { _tag: "Received", from: "n1", message: heartbeat(1) })
          yield* n1.deliver(3)
          assert.deepStrictEqual(yield* Queue.take(n1.events), { _tag: "Received", from: "n3", message: heartbeat(3) })
        }))

      it.live("is over where a server knows another disk: nothing is sent or delivered any more", () =>
        Effect.gen(function*() {
          const { configuration, start } = yield* cluster()
          const n2 = yield* start("n2")
          const events = yield* listen(n2)
          yield* n2.reconfigure(configuration("n1", "n2", "n3"))
          const raw = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
          yield* raw.Hello({ ...hello, from: "n1", diskId: disk("1") })
          const n1 = yield* startNew([["n2", n2.url], ["n3", nobody]])
          const { message } = yield* Effect.flip(n1.diskRefused)
          assert.include(message, "n2 knows n1 with another disk: that one was lost, replaced or emptied.")
          assert.include(message, "Run titan member replace n1 NEW=URL, with a new server under a new id")
          yield* n1.deliver(1)
          yield* n1.send("n2", heartbeat(2))
          for (let i = 0; i < 100; i++) yield* Effect.yieldNow
          // Whether the second message is dropped before the refused call has ended, which is told, depends on who is faster.
          const heard = [...yield* Queue.clear(n1.events), ...yield* Queue.clear(events)]
          assert.deepStrictEqual(heard.filter(({ _tag }) => _tag !== "PeerLost"), [])
        }))

      it.live("is over too where whoever calls knows another disk, also later in that life", () =>
        Effect.gen(function*() {
          const of = newDisk("n2")
          yield* life(Effect.gen(function*() {
            // It waits to be added: nobody has to be asked.
            const n2 = yield* startCalled(of, unknown)
            const { token } = yield* n2.hello(hello)
            yield* n2.deliver(token, 1)
            assert.strictEqual((yield* Queue.clear(n2.events)).length, 1)
            const refused = yield* refusal(n2.hello({ ...hello, disks: [["n2", disk("2")]] }))
            assert.strictEqual(refused.reason, "CalledDisk")
            assert.strictEqual((yield* Effect.flip(n2.diskRefused)).message, refused.message)
            yield* n2.deliver(token, 2)
            assert.deepStrictEqual(yield* Queue.clear(n2.events), [])
          }))
          // In a later life that is no reason to stop: it is told, and goes on with the others.
          const n2 = yield* startCalled(of, unknown)
          const { token } = yield* n2.hello(hello)
          yield* refusal(n2.hello({ ...hello, from: "n1", disks: [["n2", disk("2")]] }))
          const stopped = yield* Effect.forkChild(n2.diskRefused, { startImmediately: true })
          yield* n2.deliver(token, 3)
          assert.strictEqual((yield* Queue.clear(n2.events)).length, 1)
          assert.isUndefined(stopped.pollUnsafe())
        }))

      it.live("is not over where a server that was removed, or never was a member, knows another disk", () =>
        Effect.gen(function*() {
          const n2 = yield* startCalled(newDisk("n2"), ofVoters(["n2"]))
          const strangers = { ...hello, disks: [["n2", disk("2")], ["n1", disk("1")]] as const }
          assert.strictEqual((yield* refusal(n2.hello(strangers))).reason, "CalledDisk")
          yield* n2.reconfigure(ofVoters(["n1", "n2"]))
          yield* refusal(n2.hello(strangers))
          // Nor is what it says of others believed.
          const { token } = yield* n2.hello({ ...hello, from: "n1", diskId: disk("4") })
          yield* n2.deliver(token, 1)
          assert.strictEqual((yield* Queue.clear(n2.events)).length, 1)
        }))

      it.live("is once: a server that took part asks nobody, whoever is down", () =>
        Effect.gen(function*() {
          const { start } = yield* cluster()
          const other = yield* start("n1")
          const of = newDisk("n2")
          const urls = new Map([["n1", other.url], ["n3", nobody]])
          yield* life(Effect.gen(function*() {
            const n2 = yield* startNode({ id: "n2", urls: new Map(urls), disk: of })
            yield* n2.reconfigure(three)
            yield* sendUntilReceived(n2, "n1", heartbeat(1), yield* listen(other))
          }))
          const n2 = yield* startCalled(of)
          const { token } = yield* n2.hello(hello)
          yield* n2.deliver(token, 2)
          assert.strictEqual((yield* Queue.clear(n2.events)).length, 1)
        }))

      const asking = (voters: ReadonlyArray<string>, isAdmitted = false) => {
        const admission = new Admission("n1", isAdmitted)
        admission.begin(ofVoters(voters))
        return admission
      }
      const anybody = () => true

      it("asks nobody in a cluster of one, as one that waits to be added or learns, or on a disk that took part", () => {
        const learner = new Admission("n1", false)
        learner.begin(make({ voters: ["n2", "n3"], learners: ["n1"] }))
        const all = [asking(["n1"]), asking([]), learner, asking(["n1", "n2", "n3"], true)]
        assert.deepStrictEqual(all.map(({ isOpen }) => isOpen), [true, true, true, true])
        assert.deepStrictEqual([asking(["n1", "n2"]).isOpen, asking(["n1", "n2", "n3"]).isOpen], [false, false])
      })

      it("ends when all were called and a majority has let it in, in whatever order", () => {
        const admission = asking(["n1", "n2", "n3", "n4", "n5"])
        const steps = [["n2", true], ["n3", false], ["n2", false], ["n4", false], ["n5", false], ["n5", true]] as const
        const due = steps.map(([peer, isLetIn]) => {
          admission.called(peer, isLetIn)
          return admission.isDue(anybody)
        })
        assert.deepStrictEqual(due, [false, false, false, false, false, true])
        assert.isFalse(admission.isOpen)
        admission.open()
        assert.isTrue(admission.isOpen)
      })

      it("does not wait for whom it cannot call, and never ends once it was refused", () => {
        const admission = asking(["n1", "n2", "n3"])
        admission.called("n2", true)
        assert.isFalse(admission.isDue(anybody))
        assert.isTrue(admission.isDue((id) => id !== "n3"))
        admission.shut()
        assert.isFalse(admission.isDue(() => false))
        admission.open()
        assert.isFalse(admission.isOpen)
      })
    })
  })
}
