/**
 * What every `Storage` promises. Each implementation's test runs this on a harness of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { HardState, Install, Write } from "../../src/domain/Command.ts"
import { type Configuration, ofVoters } from "../../src/domain/Configuration.ts"
import { command, type Entry, noop, origin } from "../../src/domain/Entry.ts"
import { none } from "../../src/domain/Snapshot.ts"
import {
  type KnownDisks,
  noKnownDisks,
  type Recovered,
  Storage,
  type StorageError
} from "../../src/services/Storage.ts"

/** A new, empty storage: each time its layer is built, the same storage is opened again. */
export interface Harness {
  readonly layer: Layer.Layer<Storage, StorageError>
}

export const initial = ofVoters(["n1", "n2", "n3"])

/** The entry at `index` of `term`; its payload says both, in `payloadBytes` bytes. */
export const entryAt = (term: number, index: number, payloadBytes = 8): Entry => ({
  term,
  index,
  payload: payloadBytes === 0 ? noop : command(Buffer.alloc(payloadBytes, `${term}.${index};`))
})

export const entriesOf = (term: number, from: number, to: number, payloadBytes?: number): ReadonlyArray<Entry> =>
  Array.from({ length: to - from + 1 }, (_, i) => entryAt(term, from + i, payloadBytes))

export const writeOf = (entries: ReadonlyArray<Entry>, hardState?: HardState, install?: Install): Write => ({
  hardState,
  install,
  entries
})

/** Payload bytes in a form that compares the same whatever array holds them. */
export const plain = (entries: ReadonlyArray<Entry>): ReadonlyArray<string> =>
  entries.map(({ index, payload, term }) =>
    `${index}:${term}:${
      "bytes" in payload ? Buffer.from(payload.bytes).toString("latin1") : payload._tag.toLowerCase()
    }`
  )

/** Opens the storage, recovers it, runs `use` on it, and closes it. */
export const session = <A, E>(
  layer: Layer.Layer<Storage, StorageError>,
  use: (storage: Storage["Service"], recovered: Recovered) => Effect.Effect<A, E, Scope.Scope>,
  configuration: Configuration = initial
): Effect.Effect<A, E | StorageError> =>
  Effect.scoped(
    Effect.gen(function*() {
      const storage = yield* Storage
      const recovered = yield* storage.recover(configuration)
      return yield* use(storage, recovered)
    }).pipe(Effect.provide(layer, { local: true }))
  )

/** Opens the storage, and returns what it recovers. */
export const reopen = (layer: Layer.Layer<Storage, StorageError>, configuration?: Configuration) =>
  session(layer, (_, recovered) => Effect.succeed(recovered), configuration)

export const storageContract = (
  name: string,
  makeHarness: Effect.Effect<Harness, StorageError, Scope.Scope>
) =>
  describe(`Storage contract: ${name}`, () => {
    it.live("new storage is empty and has the configuration it was first given", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        for (const configuration of [initial, ofVoters(["other"])]) {
          const recovered = yield* reopen(layer, configuration)
          assert.deepStrictEqual(recovered.hardState, { term: 0, votedFor: undefined })
          assert.deepStrictEqual(recovered.configuration, initial)
          assert.deepStrictEqual(recovered.entries, [])
          assert.deepStrictEqual(recovered.prev, origin)
          assert.deepStrictEqual(recovered.snapshot, none(initial))
          assert.isUndefined(recovered.damage)
        }
      }))

    it.live("what was persisted is recovered, however often it is opened", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        const expected: Array<Entry> = []
        for (let round = 1; round <= 12; round++) {
          const added = entriesOf(round, expected.length + 1, expected.length + 3, round % 4 === 0 ? 0 : round * 5)
          yield* session(layer, (storage, recovered) => {
            assert.deepStrictEqual(plain(recovered.entries), plain(expected))
            assert.strictEqual(recovered.hardState.term, round - 1)
            return storage.persist(writeOf(added, { term: round, votedFor: `n${round}` }))
          })
          expected.push(...added)
        }
        const last = yield* reopen(layer)
        assert.deepStrictEqual(plain(last.entries), plain(expected))
        assert.deepStrictEqual(last.hardState, { term: 12, votedFor: "n12" })
        assert.deepStrictEqual(last.configuration, initial)
      }))

    it.live("entries that overlap the log replace it from their first index on, and the rest is gone", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 9)))
            yield* storage.persist(writeOf(entriesOf(2, 4, 5)))
          }))
        const cut = [...entriesOf(1, 1, 3), ...entriesOf(2, 4, 5)]
        assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(cut))
        yield* session(layer, (storage) => storage.persist(writeOf(entriesOf(3, 1, 1))))
        assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(3, 1, 1)))
      }))

    it.live("of hard states the last one counts, with and without a vote", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        for (const votedFor of ["n2", undefined, "ñ3", ""]) {
          yield* session(layer, (storage) =>
            Effect.andThen(
              storage.persist(writeOf([], { term: 7, votedFor: "before" })),
              storage.persist(writeOf([], { term: 2 ** 47, votedFor }))
            ))
          assert.deepStrictEqual((yield* reopen(layer)).hardState, { term: 2 ** 47, votedFor })
        }
      }))

    it.live("an empty write changes nothing, and keeps what is there", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf([]))
            yield* storage.persist(writeOf(entriesOf(1, 1, 2), { term: 1, votedFor: "n1" }))
            yield* storage.persist(writeOf([]))
          }))
        const recovered = yield* reopen(layer)
        assert.deepStrictEqual(plain(recovered.entries), plain(entriesOf(1, 1, 2)))
        assert.deepStrictEqual(recovered.hardState, { term: 1, votedFor: "n1" })
      }))

    it.live("entries that would leave a gap are refused, and so is every later write", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        yield* session(layer, (storage) =>
          Effect.gen(function*() {
            yield* storage.persist(writeOf(entriesOf(1, 1, 2)))
            const gap = yield* Effect.flip(storage.persist(writeOf(entriesOf(1, 4, 4))))
            assert.strictEqual(gap.reason, "Failed")
            assert.include(gap.message, "index 4")
            for (const write of [writeOf(entriesOf(1, 3, 3)), writeOf([])]) {
              assert.strictEqual((yield* Effect.flip(storage.persist(write))).reason, "Failed")
            }
          }))
        assert.deepStrictEqual(plain((yield* reopen(layer)).entries), plain(entriesOf(1, 1, 2)))
      }))

    it.live("it is recovered once, and before anything is written", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        const tooEarly = yield* Effect.scoped(
          Effect.gen(function*() {
            const storage = yield* Storage
            return yield* Effect.flip(storage.persist(writeOf(entriesOf(1, 1, 1))))
          }).pipe(Effect.provide(layer, { local: true }))
        )
        assert.strictEqual(tooEarly.reason, "Failed")
        const twice = yield* session(layer, (storage) => Effect.flip(storage.recover(initial)))
        assert.strictEqual(twice.reason, "Failed")
      }))

    it.live("it has an id that stays, and that no other storage has", () =>
      Effect.gen(function*() {
        const [one, other] = [yield* makeHarness, yield* makeHarness]
        const diskIdOf = ({ layer }: Harness) => session(layer, (storage) => Effect.succeed(storage.identity.diskId))
        const diskId = yield* diskIdOf(one)
        assert.match(diskId, /^[0-9a-f]{32}$/)
        assert.strictEqual(yield* diskIdOf(one), diskId)
        assert.notStrictEqual(yield* diskIdOf(other), diskId)
      }))

    it.live("what was last remembered of disks is there when it is opened again; new storage knows none", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        const opened = (use: (storage: Storage["Service"]) => Effect.Effect<void, StorageError>) =>
          Effect.scoped(Effect.flatMap(Storage, use).pipe(Effect.provide(layer, { local: true })))
        const memories: ReadonlyArray<KnownDisks> = [
          { isAdmitted: true, disks: new Map([["n2", "a".repeat(32)], ["__proto__", "ñ"]]) },
          { isAdmitted: true, disks: new Map([["n3", "b".repeat(32)]]) },
          { isAdmitted: false, disks: new Map() }
        ]
        let before = noKnownDisks
        for (const known of memories) {
          // Before recovery, and twice in one life: the last one counts.
          yield* opened((storage) => {
            assert.deepStrictEqual(storage.knownDisks, before)
            return Effect.andThen(storage.rememberDisks(noKnownDisks), storage.rememberDisks(known))
          })
          before = known
        }
      }))

    it.live("remembering disks and writing do not mind each other", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        const known = (i: number): KnownDisks => ({ isAdmitted: true, disks: new Map([["n2", `disk ${i}`]]) })
        const rounds = [1, 2, 3, 4, 5, 6, 7, 8]
        yield* session(layer, (storage) =>
          Effect.all([
            Effect.forEach(rounds, (i) => storage.persist(writeOf(entriesOf(1, i, i)))),
            Effect.forEach(rounds, (i) => storage.rememberDisks(known(i)))
          ], { concurrency: 2 }))
        yield* session(layer, (storage, { entries }) => {
          assert.deepStrictEqual(plain(entries), plain(entriesOf(1, 1, 8)))
          assert.deepStrictEqual(storage.knownDisks, known(8))
          return Effect.void
        })
      }))

    it.live("while it is open it cannot be opened again; once closed it can", () =>
      Effect.gen(function*() {
        const { layer } = yield* makeHarness
        const second = yield* session(layer, () => Effect.flip(reopen(layer)))
        assert.strictEqual(second.reason, "Locked")
        yield* reopen(layer)
      }))
  })
