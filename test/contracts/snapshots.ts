/**
 * What every `Storage` promises about snapshots and the beginning of its log. Each implementation's test runs this, too.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Install } from "../../src/domain/Command.ts"
import { type Configuration, ofVoters } from "../../src/domain/Configuration.ts"
import { type EntryId, origin } from "../../src/domain/Entry.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import type { Storage, StorageError } from "../../src/services/Storage.ts"
import { idOf, readLatest, receive, save, sent, streamOf, textOf } from "./sentSnapshots.ts"
import { entriesOf, entryAt, type Harness, initial, plain, reopen, session, writeOf } from "./storage.ts"

const other = ofVoters(["n2", "n7"])

type MakeHarness = Effect.Effect<Harness, StorageError, Scope.Scope>

const savingContract = (makeHarness: MakeHarness) => {
  it.live("a saved snapshot is the latest, then and after every start, and the log stays", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const saved = yield* session(layer, (storage) =>
        Effect.gen(function*() {
          assert.isUndefined(yield* readLatest(storage))
          yield* storage.persist(writeOf(entriesOf(1, 1, 5)))
          const snapshot = yield* save(storage, idOf(1, 3), "the state at 3", other)
          assert.deepStrictEqual(snapshot, { last: idOf(1, 3), configuration: other, sizeBytes: snapshot.sizeBytes })
          assert.deepStrictEqual(yield* readLatest(storage), { snapshot, text: "the state at 3" })
          return snapshot
        }))
      for (let start = 1; start <= 2; start++) {
        yield* session(layer, (storage, recovered) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(recovered.snapshot, saved)
            assert.deepStrictEqual(recovered.prev, origin)
            assert.deepStrictEqual(recovered.configuration, initial)
            assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(1, 1, 5)))
            assert.isUndefined(recovered.damage)
            assert.deepStrictEqual(yield* readLatest(storage), { snapshot: saved, text: "the state at 3" })
          }))
      }
    }))

  it.live("content comes back as it was, whatever its pieces, and the file can be read from anywhere", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const large = Buffer.from(Uint8Array.from({ length: 700_000 }, (_, i) => (i * 31 + (i >> 9)) & 0xff))
      const contents = [[], [""], ["a", "", "bc"], [large], ["x", large.subarray(0, 300_000), "y", large]]
      for (const [i, pieces] of contents.entries()) {
        yield* session(layer, (storage) =>
          Effect.scoped(Effect.gen(function*() {
            const snapshot = yield* storage.saveSnapshot(
              { last: idOf(1, i + 1), configuration: initial },
              streamOf(...pieces)
            )
            const expected = Buffer.concat(pieces.map((piece) => Buffer.from(piece)))
            const reader = yield* storage.openSnapshot
            if (reader === undefined) return assert.fail("no snapshot")
            const found = Buffer.concat(yield* Stream.runCollect(reader.content))
            assert.isTrue(found.equals(expected), `contents ${i}`)
            const file = Buffer.from(yield* reader.read(0, Infinity))
            assert.strictEqual(file.length, snapshot.sizeBytes)
            assert.isTrue(file.includes(expected))
            for (const [at, length] of [[0, 10], [13, 100], [file.length - 4, 100], [file.length, 5]] as const) {
              const part = Buffer.from(yield* reader.read(at, length))
              assert.isTrue(part.equals(file.subarray(at, at + length)), `${at}`)
            }
          })))
      }
    }))

  it.live("of snapshots the one that reaches furthest counts; one that comes late is given up", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const latest = yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 9)))
          yield* save(storage, idOf(1, 5), "five")
          const eight = yield* save(storage, idOf(1, 8), "eight")
          assert.deepStrictEqual(yield* save(storage, idOf(1, 3), "three"), eight)
          assert.deepStrictEqual(yield* readLatest(storage), { snapshot: eight, text: "eight" })
          return eight
        }))
      assert.deepStrictEqual((yield* reopen(layer)).snapshot, latest)
    }))

  it.live("writes go on while one is saved", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 2)))
          const written = yield* Deferred.make<void>()
          const content = Stream.concat(
            streamOf("before, "),
            Stream.fromEffect(Effect.as(Deferred.await(written), Buffer.from("after")))
          )
          const saving = yield* Effect.forkChild(
            storage.saveSnapshot({ last: idOf(1, 2), configuration: initial }, content),
            { startImmediately: true }
          )
          yield* storage.persist(writeOf(entriesOf(1, 3, 4)))
          yield* Deferred.succeed(written, undefined)
          yield* Fiber.join(saving)
          assert.strictEqual((yield* readLatest(storage))?.text, "before, after")
        }))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 4)))
    }))

  it.live("one whose content dies, or that is interrupted, leaves everything as before", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const of = { last: idOf(1, 4), configuration: initial }
      const saved = yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 4)))
          const before = yield* save(storage, idOf(1, 2), "two")
          const dying = Stream.concat(streamOf("x"), Stream.die(new Error("the state machine is broken")))
          const exit = yield* Effect.exit(storage.saveSnapshot(of, dying))
          assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
          const begun = yield* Deferred.make<void>()
          const endless = Stream.concat(
            streamOf("x"),
            Stream.fromEffect(Effect.andThen(Deferred.succeed(begun, undefined), Effect.never))
          )
          const fiber = yield* Effect.forkChild(storage.saveSnapshot(of, endless))
          yield* Deferred.await(begun)
          yield* Fiber.interrupt(fiber)
          assert.deepStrictEqual(yield* readLatest(storage), { snapshot: before, text: "two" })
          return before
        }))
      assert.deepStrictEqual((yield* reopen(layer)).snapshot, saved)
    }))

  it.live("one that is open can be read to its end, whatever comes after it", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 9)))
          yield* save(storage, idOf(1, 3), "three")
          yield* Effect.scoped(Effect.gen(function*() {
            const reader = yield* storage.openSnapshot
            yield* save(storage, idOf(1, 8), "eight")
            yield* storage.compact({ prev: idOf(1, 8), configuration: initial })
            assert.strictEqual(reader === undefined ? "" : yield* textOf(reader.content), "three")
            assert.strictEqual((yield* readLatest(storage))?.text, "eight")
          }))
        }))
    }))
}

const receivingContract = (makeHarness: MakeHarness) => {
  const install = (snapshot: Snapshot, keepsLog: boolean): Install => ({ snapshot, keepsLog })

  it.live("one that was received and installed is the latest; a log that it keeps goes on", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const incoming = sent(idOf(1, 3), "from the leader", other)
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 5)))
          yield* save(storage, idOf(1, 2), "own")
          assert.isUndefined(yield* receive(storage, incoming))
          assert.strictEqual((yield* readLatest(storage))?.text, "own")
          yield* storage.persist(writeOf(entriesOf(1, 6, 6), undefined, install(incoming.snapshot, true)))
          yield* storage.persist(writeOf(entriesOf(1, 7, 7)))
          const expected = { snapshot: incoming.snapshot, text: "from the leader" }
          assert.deepStrictEqual(yield* readLatest(storage), expected)
        }))
      const recovered = yield* reopen(layer)
      assert.deepStrictEqual(recovered.snapshot, incoming.snapshot)
      assert.deepStrictEqual(recovered.prev, origin)
      assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(1, 1, 7)))
    }))

  it.live("one that does not keep the log empties it: it goes on behind the snapshot", () =>
    Effect.gen(function*() {
      for (const stored of [0, 3, 12]) {
        const { layer } = yield* makeHarness
        const incoming = sent(idOf(4, 8), `over ${stored}`, other)
        const check = (entries: number) =>
          session(layer, (storage, recovered) =>
            Effect.gen(function*() {
              assert.deepStrictEqual(recovered.snapshot, incoming.snapshot)
              assert.deepStrictEqual(recovered.prev, idOf(4, 8))
              assert.deepStrictEqual(recovered.configuration, other)
              assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(5, 9, 8 + entries)))
              assert.isUndefined(recovered.damage)
              assert.strictEqual((yield* readLatest(storage))?.text, `over ${stored}`)
            }))
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            if (stored > 0) yield* storage.persist(writeOf(entriesOf(2, 1, stored)))
            assert.isUndefined(yield* receive(storage, incoming))
            yield* storage.persist(writeOf([], undefined, install(incoming.snapshot, false)))
          }))
        yield* check(0)
        yield* session(layer, (storage) => storage.persist(writeOf(entriesOf(5, 9, 11))))
        yield* check(3)
      }
    }))

  it.live("an install comes with a vote before it and entries behind it, in one write", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const incoming = sent(idOf(4, 8), "s", other)
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(2, 1, 9), { term: 2, votedFor: "n1" }))
          yield* receive(storage, incoming)
          const hardState = { term: 5, votedFor: undefined }
          yield* storage.persist(writeOf(entriesOf(5, 9, 10), hardState, install(incoming.snapshot, false)))
        }))
      const recovered = yield* reopen(layer)
      assert.deepStrictEqual(recovered.hardState, { term: 5, votedFor: undefined })
      assert.deepStrictEqual(recovered.snapshot, incoming.snapshot)
      assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(5, 9, 10)))
    }))

  it.live("what comes in and is not what was announced is refused with its reason, and cannot be installed", () =>
    Effect.gen(function*() {
      const good = sent(idOf(2, 6), "the state of the leader", other)
      const flipped = Buffer.from(good.bytes)
      flipped.writeUInt8(flipped.readUInt8(good.bytes.length - 20) ^ 4, good.bytes.length - 20)
      const { snapshot } = good
      const cases: ReadonlyArray<readonly [string, ReturnType<typeof sent>]> = [
        ["CRC", { snapshot, bytes: flipped }],
        ["bytes", { snapshot, bytes: good.bytes.subarray(0, -1) }],
        ["bytes", { snapshot, bytes: Buffer.concat([good.bytes, Buffer.alloc(3)]) }],
        ["bytes", { snapshot: { ...snapshot, sizeBytes: snapshot.sizeBytes + 1 }, bytes: good.bytes }],
        ["bytes", { snapshot, bytes: Buffer.alloc(0) }],
        ["cluster c2", { ...sent(snapshot.last, "the state of the leader", other, "c2"), snapshot }],
        ["index 7", { snapshot, bytes: sent(idOf(2, 7), "the state of the leader", other).bytes }],
        ["term 3", { snapshot, bytes: sent(idOf(3, 6), "the state of the leader", other).bytes }],
        ["configuration", {
          snapshot,
          bytes: sent(snapshot.last, "the state of the leader", ofVoters(["n2", "n8"])).bytes
        }]
      ]
      for (const [reason, incoming] of cases) {
        const { layer } = yield* makeHarness
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 2)))
            assert.include(yield* receive(storage, incoming), reason)
            const refused = yield* Effect.flip(storage.persist(writeOf([], undefined, install(snapshot, false))))
            assert.strictEqual(refused.reason, "Failed")
            assert.strictEqual((yield* Effect.flip(storage.persist(writeOf(entriesOf(1, 3, 3))))).reason, "Failed")
          }))
        const recovered = yield* reopen(layer)
        assert.strictEqual(recovered.snapshot.last.index, 0, reason)
        assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(1, 1, 2)), reason)
      }
    }))

  it.live("one that was discarded, not finished, or installed before a restart cannot be installed", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const incoming = sent(idOf(2, 6), "s")
      const refusal = (storage: Storage["Service"]) =>
        Effect.flip(storage.persist(writeOf([], undefined, install(incoming.snapshot, false))))
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.discardSnapshot(incoming.snapshot.last)
          yield* receive(storage, incoming)
          yield* storage.discardSnapshot(incoming.snapshot.last)
          assert.include((yield* refusal(storage)).message, "was received")
        }))
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* Effect.scoped(
            Effect.flatMap(storage.receiveSnapshot(incoming.snapshot), (writer) => writer.write(incoming.bytes))
          )
          assert.include((yield* refusal(storage)).message, "was received")
        }))
      yield* session(layer, (storage) => receive(storage, incoming))
      yield* session(layer, (storage, recovered) =>
        Effect.gen(function*() {
          assert.strictEqual(recovered.snapshot.last.index, 0)
          assert.include((yield* refusal(storage)).message, "was received")
        }))
    }))

  it.live("one that a later snapshot has overtaken does not take its place", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      const incoming = sent(idOf(1, 3), "three")
      const own = yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 5)))
          yield* receive(storage, incoming)
          const snapshot = yield* save(storage, idOf(1, 5), "five")
          yield* storage.persist(writeOf([], undefined, install(incoming.snapshot, true)))
          assert.strictEqual((yield* readLatest(storage))?.text, "five")
          return snapshot
        }))
      assert.deepStrictEqual((yield* reopen(layer)).snapshot, own)
    }))
}

const compactingContract = (makeHarness: MakeHarness) => {
  it.live("a compacted log begins behind what it gave up, once and again, and goes on", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf([...entriesOf(1, 1, 4), ...entriesOf(2, 5, 8)]))
          yield* save(storage, idOf(2, 7), "seven", other)
          yield* storage.compact({ prev: idOf(1, 4), configuration: other })
          yield* storage.persist(writeOf(entriesOf(3, 8, 9)))
        }))
      const expect = (prev: EntryId, first: number, configuration: Configuration, next: number) =>
        session(layer, (storage, recovered) => {
          assert.deepStrictEqual(recovered.prev, prev)
          assert.deepStrictEqual(recovered.configuration, configuration)
          const all = [...entriesOf(1, 1, 4), ...entriesOf(2, 5, 7), ...entriesOf(3, 8, next - 1)]
          assert.deepStrictEqual(plain(recovered.entries), plain(all.slice(first - 1)))
          assert.isUndefined(recovered.damage)
          return Effect.andThen(
            storage.compact({ prev, configuration: initial }),
            storage.persist(writeOf([entryAt(3, next)]))
          )
        })
      yield* expect(idOf(1, 4), 5, other, 10)
      yield* expect(idOf(1, 4), 5, other, 11)
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.compact({ prev: idOf(2, 7), configuration: initial })
          yield* storage.compact({ prev: idOf(2, 6), configuration: other })
          yield* storage.compact({ prev: origin, configuration: other })
        }))
      yield* expect(idOf(2, 7), 8, initial, 12)
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* save(storage, idOf(3, 12), "twelve")
          yield* storage.compact({ prev: idOf(3, 12), configuration: initial })
        }))
      yield* expect(idOf(3, 12), 13, initial, 13)
      yield* expect(idOf(3, 12), 13, initial, 14)
    }))

  it.live("entries that were given up cannot be replaced", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 6)))
          yield* save(storage, idOf(1, 4), "four")
          yield* storage.compact({ prev: idOf(1, 4), configuration: initial })
          assert.strictEqual((yield* Effect.flip(storage.persist(writeOf(entriesOf(2, 4, 5))))).reason, "Failed")
        }))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 5, 6)))
    }))

  it.live("nothing is given up that no durable snapshot stands for", () =>
    Effect.gen(function*() {
      const { layer } = yield* makeHarness
      yield* session(layer, (storage) =>
        Effect.gen(function*() {
          yield* storage.persist(writeOf(entriesOf(1, 1, 6)))
          const none = yield* Effect.flip(storage.compact({ prev: idOf(1, 1), configuration: initial }))
          assert.strictEqual(none.reason, "Failed")
          yield* save(storage, idOf(1, 4), "four")
          const beyond = yield* Effect.flip(storage.compact({ prev: idOf(1, 5), configuration: initial }))
          assert.strictEqual(beyond.reason, "Failed")
          assert.include(beyond.message, "ends at 4")
        }))
      assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 6)))
    }))
}

export const snapshotContract = (name: string, makeHarness: MakeHarness) =>
  describe(`Storage contract, snapshots: ${name}`, () => {
    savingContract(makeHarness)
    receivingContract(makeHarness)
    compactingContract(makeHarness)
  })
