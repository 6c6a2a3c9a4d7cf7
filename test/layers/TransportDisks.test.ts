/**
 * A server is known by its disk: who comes back without the one that it promised on is refused.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { make, ofVoters } from "../../src/domain/Configuration.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import { type KnownDisks, Storage } from "../../src/services/Storage.ts"
import { heartbeat, listen, sendUntilReceived, takeUntil } from "../contracts/transport.ts"
import { disk, life, newDisk, refusal, startCalled, three } from "./peerDisks.ts"
import { admittedDisk, hello, layers, type Line, over, rawClient, serving, takeLine, withLog } from "./peerNode.ts"

const warnings = (lines: ReadonlyArray<Line>) =>
  lines.filter(({ level }) => level === "Warn").map(({ annotations, text }) => ({
    node: annotations["node"],
    text,
    why: String(annotations["reason"] ?? annotations["problem"])
  }))

for (const [kind, layer] of layers) {
  const { cluster, startNode } = over(layer)

  describe(kind, () => {
    describe("a server with another disk than before", () => {
      it.live("is refused when it calls, and both logs say why, and what to do", () =>
        withLog((lines) =>
          Effect.gen(function*() {
            const { configuration, start, urls } = yield* cluster()
            const n2 = yield* start("n2")
            const events = yield* listen(n2)
            yield* n2.reconfigure(configuration("n1", "n2"))
            yield* life(Effect.gen(function*() {
              const n1 = yield* start("n1")
              yield* sendUntilReceived(n1, "n2", heartbeat(1), events)
            }))
            yield* Queue.clear(events)
            // It took part before, elsewhere perhaps: so it goes on, and is heard by nobody.
            const n1 = yield* startNode({ id: "n1", urls, disk: yield* admittedDisk("n1") })
            const lost = yield* listen(n1)
            for (let attempts = 0; attempts < 3; attempts++) {
              yield* n1.send("n2", heartbeat(2))
              yield* takeUntil(lost, ({ _tag }) => _tag === "PeerLost")
            }
            yield* n2.send("n1", heartbeat(3))
            assert.isFalse(n1.isRefusedBy("n2"))
            // That n1's first life is over may be told late.
            const messages = (yield* Queue.clear(events)).filter(({ _tag }) => _tag === "Received")
            assert.deepStrictEqual(messages, [])
            const said = warnings(yield* Queue.clear(lines))
            for (const { why } of said) {
              assert.include(why, "n2 knows n1 with another disk")
              assert.include(why, "titan member replace n1 NEW=URL")
            }
            // n2 calls n1, too, and that is refused as well: each line is said once.
            const texts = said.map(({ node, text }) => `${node}: ${text}`)
            assert.includeMembers(texts, ["n1: a peer refused this server", "n2: refused a server that called"])
            assert.strictEqual(new Set(texts).size, texts.length)
          })
        ))

      it.live("is refused when it is called: it is neither sent to nor heard, and learns why", () =>
        withLog((lines) =>
          Effect.gen(function*() {
            const { configuration, start, urls } = yield* cluster()
            const n1 = yield* start("n1")
            yield* n1.reconfigure(configuration("n1", "n2"))
            const { url } = yield* life(Effect.tap(start("n2"), (n2) =>
              Effect.flatMap(listen(n2), (events) =>
                sendUntilReceived(n1, "n2", heartbeat(1), events))))
            const lost = yield* listen(n1)
            const port = Number(new URL(url).port)
            const n2 = yield* startNode({ id: "n2", urls: new Map(), port, disk: newDisk("n2") })
            const events = yield* listen(n2)
            for (let attempts = 0; attempts < 3; attempts++) {
              yield* n1.send("n2", heartbeat(2))
              yield* takeUntil(lost, ({ _tag }) =>
                _tag === "PeerLost")
            }
            const line = yield* takeLine(lines, "n1", "a peer has another disk than before and takes no part")
            assert.include(String(line.annotations["reason"]), "n1 knows n2 with another disk")
            assert.isTrue(n1.isRefusedBy("n2"))
            assert.include((yield* Effect.flip(n2.diskRefused)).message, "titan member replace n2 NEW=URL")
            assert.deepStrictEqual(yield* Queue.clear(events), [])
            assert.isTrue(urls.has("n2"))
          })
        ))

      it.live("is refused by who calls it even where it does not mind itself", () =>
        Effect.gen(function*() {
          const { configuration, start, urls } = yield* cluster()
          const n1 = yield* start("n1")
          const lost = yield* listen(n1)
          const delivered = yield* Queue.unbounded<string>()
          let diskId = disk("a")
          const inbox = PeerRpc.PeerInbox.of({
            id: "n2",
            clusterId: "c1",
            isStranger: () => false,
            isRefusedBy: () => false,
            greet: () => Effect.succeed({ diskId }),
            beforeHearing: () => undefined,
            deliver: () => void Queue.offerUnsafe(delivered, diskId),
            diskRefused: Effect.never
          })
          const scope = yield* Scope.make()
          const n2 = yield* serving(inbox).pipe(Scope.provide(scope))
          urls.set("n2", n2.url)
          yield* n1.reconfigure(configuration("n1", "n2"))
          yield* n1.send("n2", heartbeat(1))
          assert.strictEqual(yield* Queue.take(delivered), disk("a"))
          diskId = disk("b")
          yield* Scope.close(scope, Exit.void)
          yield* takeUntil(lost, ({ _tag }) => _tag === "PeerLost")
          yield* serving(inbox, Number(new URL(n2.url).port))
          for (let attempts = 0; attempts < 3; attempts++) {
            yield* n1.send("n2", heartbeat(2))
            yield* takeUntil(lost, ({ _tag }) => _tag === "PeerLost")
          }
          assert.deepStrictEqual(yield* Queue.clear(delivered), [])
          assert.isTrue(n1.isRefusedBy("n2"))
        }))

      it.live("is refused by a server that only heard of the other disk, from another one", () =>
        Effect.gen(function*() {
          const n2 = yield* startCalled(yield* admittedDisk("n2"), ofVoters(["n1", "n2", "n3", "n4"]))
          yield* n2.hello({ ...hello, from: "n1", diskId: disk("1"), disks: [["n3", disk("3")], ["n9", disk("9")]] })
          assert.strictEqual((yield* refusal(n2.hello({ ...hello, diskId: disk("4") }))).reason, "CallerDisk")
          const { disks, token } = yield* n2.hello({ ...hello, diskId: disk("3") })
          yield* n2.deliver(token, 1)
          // What it was told of those that are no members is nobody's business.
          assert.sameDeepMembers([...disks ?? []], [["n1", disk("1")], ["n3", disk("3")]])
          // Of what it knows, nobody else knows better.
          yield* n2.hello({ ...hello, from: "n1", diskId: disk("1"), disks: [["n3", disk("5")], ["n4", disk("4")]] })
          yield* n2.hello({ ...hello, diskId: disk("3") })
        }))

      it.live("is refused also after those that knew the first one have started again", () =>
        Effect.gen(function*() {
          const of = yield* admittedDisk("n2")
          yield* life(Effect.flatMap(startCalled(of), (n2) => n2.hello(hello)))
          for (let starts = 0; starts < 2; starts++) {
            yield* life(Effect.gen(function*() {
              const n2 = yield* startCalled(of)
              assert.strictEqual((yield* refusal(n2.hello({ ...hello, diskId: disk("4") }))).reason, "CallerDisk")
              yield* n2.hello(hello)
            }))
          }
        }))

      it.live("is welcome under its name once that has left the configuration and is in it again", () =>
        Effect.gen(function*() {
          const of = yield* admittedDisk("n2")
          const other = { ...hello, diskId: disk("4") }
          yield* life(Effect.gen(function*() {
            const n2 = yield* startCalled(of)
            yield* n2.hello(hello)
            yield* refusal(n2.hello(other))
            yield* n2.reconfigure(ofVoters(["n1", "n2"]))
            // Whoever is no member is not held to anything.
            yield* n2.hello(other)
            yield* n2.hello(hello)
            yield* n2.reconfigure(three)
            yield* n2.hello(other)
            assert.strictEqual((yield* refusal(n2.hello(hello))).reason, "CallerDisk")
          }))
          const n2 = yield* startCalled(of)
          assert.strictEqual((yield* refusal(n2.hello(hello))).reason, "CallerDisk")
        }))

      it.live("is spoken of only while its server is a member: by then the name may be another one's", () =>
        Effect.gen(function*() {
          const n2 = yield* startCalled(yield* admittedDisk("n2"))
          const from = { ...hello, from: "n1", diskId: disk("1") }
          yield* n2.hello(hello)
          assert.deepStrictEqual((yield* n2.hello(from)).disks?.map(([id]) => id).toSorted(), ["n1", "n3"])
          yield* n2.reconfigure(ofVoters(["n1", "n2"]), three)
          assert.deepStrictEqual((yield* n2.hello(from)).disks?.map(([id]) => id), ["n1"])
        }))

      it.live("is refused where the name has left the configuration, and that is taken back: it was never removed", () =>
        Effect.gen(function*() {
          const n2 = yield* startCalled(yield* admittedDisk("n2"))
          const other = { ...hello, diskId: disk("4") }
          const without = ofVoters(["n1", "n2"])
          yield* n2.hello(hello)
          yield* n2.reconfigure(without, three)
          yield* n2.reconfigure(three, three)
          assert.strictEqual((yield* refusal(n2.hello(other))).reason, "CallerDisk")
          // The removal is known to be committed once the name is added again.
          yield* n2.reconfigure(without, three)
          yield* n2.reconfigure(three, without)
          yield* n2.hello(other)
          assert.strictEqual((yield* refusal(n2.hello(hello))).reason, "CallerDisk")
        }))

      it.live("is welcome where the name stands for another address, since it was removed in between", () =>
        Effect.gen(function*() {
          const at = (url: string) => make({ ...three, addresses: new Map([["n3", url]]) })
          const n2 = yield* startCalled(yield* admittedDisk("n2"), at("http://127.0.0.1:1"))
          yield* n2.hello(hello)
          yield* n2.reconfigure(at("http://127.0.0.1:1"))
          yield* refusal(n2.hello({ ...hello, diskId: disk("4") }))
          yield* n2.reconfigure(at("http://127.0.0.1:2"))
          yield* n2.hello({ ...hello, diskId: disk("4") })
        }))
    })

    describe("a disk", () => {
      it.live("is remembered before its server is let in", () =>
        Effect.gen(function*() {
          const of = yield* admittedDisk("n2")
          const isWriting = yield* Deferred.make<void>()
          const canWrite = yield* Deferred.make<void>()
          const storage = Layer.effect(
            Storage,
            Effect.map(Storage, (memory) => ({
              ...memory,
              rememberDisks: (known: KnownDisks) =>
                Deferred.succeed(isWriting, undefined).pipe(
                  Effect.andThen(Deferred.await(canWrite)),
                  Effect.andThen(memory.rememberDisks(known))
                )
            }))
          ).pipe(Layer.provide(StorageMemory.layer({ disk: of })))
          const n2 = yield* startNode({ id: "n2", urls: new Map(), storage })
          yield* n2.reconfigure(three)
          const client = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
          const letIn = yield* Effect.forkChild(client.Hello(hello))
          yield* Deferred.await(isWriting)
          for (let i = 0; i < 100; i++) yield* Effect.yieldNow
          assert.isUndefined(letIn.pollUnsafe())
          yield* Deferred.succeed(canWrite, undefined)
          yield* Fiber.join(letIn)
        }))

      it.live("that cannot be remembered lets nobody in, until it can", () =>
        Effect.gen(function*() {
          const of = yield* admittedDisk("n2")
          const n2 = yield* startCalled(of)
          of.nextFailure = "DiskFull"
          const refused = yield* refusal(n2.hello(hello))
          assert.strictEqual(refused.reason, "NotRemembered")
          assert.include(refused.message, "n2 could not write down which disk n3 has: the disk is full")
          // It was not let in: another one may be met first.
          yield* n2.hello({ ...hello, diskId: disk("4") })
          assert.strictEqual((yield* refusal(n2.hello(hello))).reason, "CallerDisk")
        }))

      it.live("of a stranger is remembered once it is a member, before its messages count", () =>
        Effect.gen(function*() {
          const n2 = yield* startCalled(yield* admittedDisk("n2"), ofVoters(["n1", "n2"]))
          const { token } = yield* n2.hello(hello)
          yield* n2.deliver(token, 1)
          yield* n2.reconfigure(three)
          for (let round = 2; round <= 4; round++) yield* n2.deliver(token, round)
          assert.strictEqual((yield* Queue.clear(n2.events)).length, 4)
          assert.strictEqual((yield* refusal(n2.hello({ ...hello, diskId: disk("4") }))).reason, "CallerDisk")
        }))

      it.live("of a stranger that another one was met under the name of is heard no more", () =>
        Effect.gen(function*() {
          const n2 = yield* startCalled(yield* admittedDisk("n2"), ofVoters(["n1", "n2"]))
          const { token } = yield* n2.hello(hello)
          yield* n2.reconfigure(three)
          yield* n2.hello({ ...hello, from: "n1", diskId: disk("1"), disks: [["n3", disk("4")]] })
          assert.strictEqual((yield* refusal(n2.deliver(token, 1))).reason, "CallerDisk")
          assert.deepStrictEqual(yield* Queue.clear(n2.events), [])
        }))
    })
  })
}
