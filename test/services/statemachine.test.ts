/**
 * The state machines that `StateMachine.make` makes, and their snapshots.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as StateMachine from "../../src/services/StateMachine.ts"

const Change = Schema.Struct({ name: Schema.String, add: Schema.Int })
type Change = typeof Change.Type

const Tallies = Schema.Struct({
  all: Schema.Array(Schema.Struct({ name: Schema.String, count: Schema.Int })),
  lastIndex: Schema.Int
})

/** How much was added to each name, and the index of the last command; `state` is what snapshots hold. */
const talliesAs = <S extends typeof Tallies.Type>(state: Schema.Codec<S, unknown>, initial: S) =>
  StateMachine.make({
    command: Change,
    result: Schema.Int,
    query: Schema.Void,
    answer: state,
    state,
    initial,
    apply: (before: S, { add, name }, { index }) => {
      const count = (before.all.find((tally) => tally.name === name)?.count ?? 0) + add
      const all = [...before.all.filter((tally) => tally.name !== name), { name, count }]
      return { state: { ...before, all, lastIndex: index }, result: count }
    },
    respond: (now) => now
  })

const tallies = talliesAs(Tallies, { all: [], lastIndex: 0 })

/** A machine of its own, as a node has one, and what a caller may do with it. */
const started = Effect.fnUntraced(function*<S, R, A>(machine: StateMachine.Machine<S, Change, R, void, A>) {
  const served = yield* StateMachine.StateMachine.pipe(Effect.provide(machine.layer, { local: true }))
  let index = 0
  const access = machine.on({
    propose: (command) =>
      Effect.map(served.apply([{ index: ++index, term: 1, command }]), ([result]) => result ?? new Uint8Array()),
    read: served.query
  })
  return {
    ...served,
    addAll: (changes: ReadonlyArray<Change>) => Effect.forEach(changes, access.propose),
    state: access.read(),
    content: Effect.flatMap(served.snapshot, Stream.mkUint8Array)
  }
})

const piecesOf = (bytes: Uint8Array, size: number): Stream.Stream<Uint8Array> =>
  Stream.fromArray(
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => bytes.slice(i * size, (i + 1) * size))
  )

const defectOf = <E>(effect: Effect.Effect<unknown, E>): Effect.Effect<string> =>
  Effect.map(
    Effect.exit(effect),
    (exit) => Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? String(Cause.squash(exit.cause)) : "no defect"
  )

describe("a snapshot of a machine that make made", () => {
  it.effect.prop(
    "restores to the state at the time it was taken, whatever was applied before its stream was run",
    { before: Schema.Array(Change), after: Schema.Array(Change), size: Schema.Literals([1, 7, 1 << 20]) },
    ({ after, before, size }) =>
      Effect.gen(function*() {
        const machine = yield* started(tallies)
        yield* machine.addAll(before)
        const [state, content] = [yield* machine.state, yield* machine.content]
        const snapshot = yield* machine.snapshot
        yield* machine.addAll(after)
        const written = yield* Stream.mkUint8Array(snapshot)
        assert.deepStrictEqual(written, content)
        const other = yield* started(tallies)
        yield* other.addAll(after)
        yield* other.restore(piecesOf(written, size))
        assert.deepStrictEqual(yield* other.state, state)
        assert.deepStrictEqual(yield* other.content, content)
      }),
    { arbitrary: { runs: 100, seed: 1 } }
  )

  it.effect("taken before the first command restores to the initial state", () =>
    Effect.gen(function*() {
      const machine = yield* started(tallies)
      const snapshot = yield* machine.snapshot
      yield* machine.addAll([{ name: "a", add: 1 }])
      yield* machine.restore(snapshot)
      assert.deepStrictEqual(yield* machine.state, { all: [], lastIndex: 0 })
    }))

  it.effect("of a large state comes in pieces of at most 64 KiB", () =>
    Effect.gen(function*() {
      const machine = yield* started(tallies)
      yield* machine.addAll([{ name: "long".repeat(50_000), add: 3 }])
      const pieces = yield* Stream.runCollect(yield* machine.snapshot)
      assert.deepStrictEqual(pieces.slice(0, 3).map((piece) => piece.length), [65536, 65536, 65536])
      const other = yield* started(tallies)
      yield* other.restore(Stream.fromArray(pieces))
      assert.deepStrictEqual(yield* other.state, yield* machine.state)
    }))

  it.effect("is encoded only when its stream is run", () =>
    Effect.gen(function*() {
      let encoded = 0
      const Counted = Tallies.check(Schema.makeFilter(() => ++encoded > 0))
      const machine = yield* started(talliesAs(Counted, { all: [], lastIndex: 0 }))
      yield* machine.addAll([{ name: "a", add: 1 }])
      encoded = 0
      const snapshot = yield* machine.snapshot
      assert.strictEqual(encoded, 0)
      yield* Stream.runDrain(snapshot)
      assert.isAbove(encoded, 0)
    }))
})

describe("restoring", () => {
  const Later = Schema.Struct({ ...Tallies.fields, comment: Schema.optionalKey(Schema.String) })
  const later = talliesAs(Later, { all: [], lastIndex: 0, comment: "none" })

  it.effect("goes between versions that differ in an optional field, both ways", () =>
    Effect.gen(function*() {
      const [old, recent] = [yield* started(tallies), yield* started(later)]
      yield* old.addAll([{ name: "a", add: 1 }])
      yield* recent.addAll([{ name: "b", add: 2 }])
      const written = yield* recent.content
      yield* recent.restore(yield* old.snapshot)
      assert.deepStrictEqual(yield* recent.state, { all: [{ name: "a", count: 1 }], lastIndex: 1 })
      yield* old.restore(piecesOf(written, 10))
      assert.deepStrictEqual(yield* old.state, { all: [{ name: "b", count: 2 }], lastIndex: 1 })
    }))

  it.effect("what it cannot decode is a defect that asks for the version, and leaves the state as it was", () =>
    Effect.gen(function*() {
      const Incompatible = Schema.Struct({ ...Tallies.fields, lastIndex: Schema.String })
      const machine = yield* started(tallies)
      yield* machine.addAll([{ name: "a", add: 1 }])
      const state = yield* machine.state
      const whole = yield* machine.content
      const foreign = StateMachine.make({
        command: Change,
        result: Schema.Void,
        query: Schema.Void,
        answer: Schema.Void,
        state: Incompatible,
        initial: { all: [], lastIndex: "none" },
        apply: (now) => ({ state: now, result: undefined }),
        respond: () => undefined
      })
      const contents = [
        yield* (yield* started(foreign)).content,
        whole.subarray(0, -1),
        new Uint8Array(),
        new Uint8Array(100).fill(0xff)
      ]
      for (const content of contents) {
        assert.match(
          yield* defectOf(machine.restore(piecesOf(content, 8))),
          /the snapshot holds no state of this state machine; was it taken by another version of it\?/
        )
        assert.deepStrictEqual(yield* machine.state, state)
      }
    }))

  it.effect("from a stream that fails, fails with its error, and leaves the state as it was", () =>
    Effect.gen(function*() {
      const machine = yield* started(tallies)
      yield* machine.addAll([{ name: "a", add: 1 }])
      const state = yield* machine.state
      const content = Stream.concat(piecesOf(Uint8Array.of(1), 1), Stream.fail("the disk is gone"))
      assert.strictEqual(yield* Effect.flip(machine.restore(content)), "the disk is gone")
      assert.deepStrictEqual(yield* machine.state, state)
    }))
})
