/**
 * Power is lost at every point of saving, receiving, installing and compacting: each image that the disk could be left with is recovered.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Path from "node:path"
import type { HardState, Write } from "../../src/domain/Command.ts"
import { type Configuration, ofVoters } from "../../src/domain/Configuration.ts"
import { type Entry, type EntryId, origin } from "../../src/domain/Entry.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import type { Storage, StorageError } from "../../src/services/Storage.ts"
import { idOf, readLatest, receive, save, sent } from "../contracts/sentSnapshots.ts"
import { entriesOf, initial, plain, session, writeOf } from "../contracts/storage.ts"
import { type PowerLoss, powerLosses } from "./powerLoss.ts"
import {
  type Change,
  type Image,
  imageOf,
  quietly,
  recoverOnly,
  restore,
  temporaryDirectory,
  watchChanges
} from "./storageDirectory.ts"

const layerOf = (directory: string) =>
  StorageFile.layer({ directory, clusterId: "c1", nodeId: "n1", segmentBytes: 6144 })

interface State {
  readonly hardState: HardState
  readonly prev: EntryId
  readonly configuration: Configuration
  readonly entries: ReadonlyArray<Entry>
  readonly latest: EntryId
}

const fresh: State = {
  hardState: { term: 0, votedFor: undefined },
  prev: origin,
  configuration: initial,
  entries: [],
  latest: origin
}

/** A call, and what is stored after it, step by step: each is one that a crash may leave. */
interface Act {
  readonly run: (storage: Storage["Service"]) => Effect.Effect<unknown, StorageError, Scope.Scope>
  readonly steps: (before: State) => ReadonlyArray<State>
}

const appendTo = (state: State, entries: ReadonlyArray<Entry>): State => ({
  ...state,
  entries: [...state.entries.slice(0, (entries[0]?.index ?? Infinity) - 1 - state.prev.index), ...entries]
})

const persist = (write: Write): Act => ({
  run: (storage) => storage.persist(write),
  steps: (before) => {
    const voted = { ...before, hardState: write.hardState ?? before.hardState }
    const { entries, install } = write
    if (install === undefined) return [appendTo(voted, entries)]
    const { snapshot: { configuration, last } } = install
    const installed = install.keepsLog
      ? { ...voted, latest: last }
      : { ...voted, latest: last, prev: last, configuration, entries: [] }
    return [voted, installed, appendTo(installed, entries)]
  }
})

const saveAt = (last: EntryId): Act => ({
  run: (storage) => save(storage, last, `${last.index}${".".repeat(400)}`),
  steps: (before) => [{ ...before, latest: last }]
})

const compact = (prev: EntryId, configuration: Configuration): Act => ({
  run: (storage) => storage.compact({ prev, configuration }),
  steps: (before) => [{ ...before, prev, configuration, entries: before.entries.slice(prev.index - before.prev.index) }]
})

const other = ofVoters(["n1", "n2"])
const incoming = (last: EntryId) => sent(last, `${last.index}${"!".repeat(600)}`, other)
const receiveAt = (last: EntryId): Act => ({
  run: (storage) => receive(storage, incoming(last), 250),
  steps: (before) => [before]
})
const installOf = (last: EntryId, keepsLog: boolean) => ({ snapshot: incoming(last).snapshot, keepsLog })

const script: ReadonlyArray<Act> = [
  persist(writeOf(entriesOf(1, 1, 6, 100), { term: 1, votedFor: "n2" })),
  saveAt(idOf(1, 4)),
  compact(idOf(1, 3), other),
  persist(writeOf(entriesOf(1, 7, 8, 700))),
  persist(writeOf(entriesOf(1, 9, 9, 1200), { term: 2, votedFor: undefined })),
  saveAt(idOf(1, 8)),
  compact(idOf(1, 8), initial),
  receiveAt(idOf(5, 12)),
  persist(writeOf(entriesOf(5, 13, 14, 30), { term: 5, votedFor: undefined }, installOf(idOf(5, 12), false))),
  persist(writeOf(entriesOf(5, 15, 17, 600))),
  receiveAt(idOf(5, 16)),
  persist(writeOf(entriesOf(5, 18, 18, 50), undefined, installOf(idOf(5, 16), true))),
  compact(idOf(5, 16), other),
  persist(writeOf(entriesOf(6, 17, 18, 900), { term: 6, votedFor: "n3" })),
  receiveAt(idOf(7, 17)),
  persist(writeOf([], { term: 7, votedFor: "n3" }, installOf(idOf(7, 17), false))),
  persist(writeOf(entriesOf(7, 18, 19, 900))),
  saveAt(idOf(7, 19)),
  compact(idOf(7, 19), other),
  receiveAt(idOf(7, 25)),
  persist(writeOf(entriesOf(7, 20, 20, 3000)))
]

/** `states[i]`: what may be found while call `i` is under way, and before it; the last ones, after all of them. */
const states: Array<ReadonlyArray<State>> = []
let known = fresh
for (const { steps } of script) {
  states.push([known, ...steps(known)])
  known = steps(known).at(-1) ?? known
}
states.push([known])

const print = ({ configuration, entries, hardState, latest, prev }: State): string =>
  JSON.stringify([hardState, prev, configuration, latest, plain(entries)])

const printAll = (found: ReadonlyArray<State>): string => found.map((state) => `\n${print(state)}`).join("")

interface Crash extends PowerLoss {
  /** The call that was under way. */
  readonly call: number
}

/** Runs the script in a new directory. Gives every crash of that. */
const crashes = Effect.scoped(Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const changes = yield* watchChanges
  const run: Array<Change> = []
  const calls: Array<number> = []
  const note = (call: number) => {
    for (const change of changes.splice(0)) calls[run.push(change) - 1] = call
  }
  yield* session(layerOf(directory), (storage) =>
    Effect.gen(function*() {
      note(0)
      for (const [i, act] of script.entries()) {
        yield* act.run(storage)
        // What is left to the background when a call ends counts as part of the next one.
        note(i)
      }
    }))
  note(script.length)
  return powerLosses(run, Path.basename(directory)).map(({ changes, image, what }): Crash => {
    const call = calls[changes - 1] ?? 0
    return { image, changes, what, call }
  })
}))

/** What the directory holds, by the code that recovers it, without the lock. */
const look = Effect.fnUntraced(function*(directory: string) {
  const { configuration, damage, entries, hardState, isReset, prev, snapshot } = yield* recoverOnly(directory)
  assert.isUndefined(damage)
  const state: State = {
    hardState: hardState ?? fresh.hardState,
    prev,
    configuration: configuration ?? initial,
    entries,
    latest: snapshot?.last ?? origin
  }
  return isReset && snapshot !== undefined
    ? { ...state, prev: snapshot.last, configuration: snapshot.configuration, entries: [] }
    : state
})

const hasLog = (image: Image): boolean => [...image.keys()].some((name) => name.endsWith(".wal"))

const check = (crash: Crash, found: State): void => {
  const allowed = states[crash.call] ?? []
  if (!allowed.some((state) => print(state) === print(found))) {
    assert.fail(`${crash.what}, call ${crash.call}: found\n${print(found)}, allowed are ${printAll(allowed)}`)
  }
}

describe("StorageFile, when power is lost", () => {
  it.live(
    "at any point of saving, receiving, installing and compacting, has all that was acknowledged",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const all = yield* crashes
        const found = new Set<string>()
        for (const crash of all) {
          if (!hasLog(crash.image)) {
            assert.strictEqual(crash.call, 0, crash.what)
            continue
          }
          restore(directory, crash.image)
          const state = yield* look(directory)
          check(crash, state)
          found.add(print(state))
        }
        // Each state was met, the ones in the middle of an install, too.
        for (const state of states.flat()) assert.isTrue(found.has(print(state)), print(state))
        assert.isAbove(all.length, 500)
      }).pipe(quietly),
    120_000
  )

  it.live("starts, goes on from there, and leaves no file that nobody needs", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const all = yield* crashes
      for (const [i, crash] of all.entries()) {
        if (!hasLog(crash.image) || (i % 23 !== 0 && !crash.what.includes("Rename"))) continue
        restore(directory, crash.image)
        // A start that nothing comes of must leave what the next one needs.
        yield* session(layerOf(directory), () => Effect.void)
        const before = yield* session(layerOf(directory), (storage, recovered) =>
          Effect.gen(function*() {
            const state: State = { ...recovered, latest: recovered.snapshot.last }
            check(crash, state)
            const latest = yield* readLatest(storage)
            assert.match(latest?.text ?? "0", new RegExp(`^${state.latest.index}(?!\\d)`))
            const next = state.prev.index + state.entries.length + 1
            yield* storage.persist(writeOf(entriesOf(9, next, next)))
            return appendTo(state, entriesOf(9, next, next))
          }))
        const names = [...imageOf(directory).keys()]
        assert.isTrue(names.every((name) => /^\d{15}(?:\.wal|-\d+\.snapshot)$/.test(name)), names.join())
        assert.isAtMost(names.filter((name) => name.endsWith(".snapshot")).length, 1, crash.what)
        yield* session(layerOf(directory), (_, recovered) =>
          Effect.sync(() =>
            assert.strictEqual(print({ ...recovered, latest: recovered.snapshot.last }), print(before), crash.what)
          ))
      }
    }).pipe(quietly), 120_000)

  it.live("again, while the first loss is being repaired, finds the same", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const inner = yield* temporaryDirectory
      const all = yield* crashes
      let resets = 0
      for (const [i, crash] of all.entries()) {
        if (!hasLog(crash.image)) continue
        restore(directory, crash.image)
        const { isReset } = yield* recoverOnly(directory)
        if (isReset) resets++
        if (isReset ? resets % 4 !== 0 : i % 101 !== 0) continue
        restore(directory, crash.image)
        const changes = yield* Effect.scoped(Effect.gen(function*() {
          const changes = yield* watchChanges
          yield* session(layerOf(directory), () => Effect.void)
          return changes
        }))
        for (const again of powerLosses(changes, Path.basename(directory), crash.image)) {
          restore(inner, again.image)
          check({ ...crash, what: `${crash.what}, then ${again.what}` }, yield* look(inner))
        }
      }
      assert.isAbove(resets, 10)
    }).pipe(quietly), 120_000)
})
