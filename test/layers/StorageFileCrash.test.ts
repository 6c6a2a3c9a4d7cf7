/**
 * Power is lost at every point of a scripted run: each image that the disk could be left with is recovered.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { HardState, Write } from "../../src/domain/Command.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import { entriesOf, entryAt, initial, plain, reopen, session, writeOf } from "../contracts/storage.ts"
import {
  applyChange,
  type Change,
  type Image,
  quietly,
  recoverOnly,
  restore,
  temporaryDirectory,
  watchChanges
} from "./storageDirectory.ts"

const sectorBytes = 512
const segmentBytes = 8192
const layerOf = (directory: string) => StorageFile.layer({ directory, clusterId: "c1", nodeId: "n1", segmentBytes })

const script: ReadonlyArray<Write> = [
  writeOf([], { term: 1, votedFor: "n2" }),
  writeOf(entriesOf(1, 1, 3, 300)),
  writeOf(entriesOf(1, 4, 4, 1900)),
  writeOf(entriesOf(2, 3, 6, 20), { term: 2, votedFor: undefined }),
  writeOf(entriesOf(2, 7, 8, 900)),
  writeOf([entryAt(3, 8, 12_000)], { term: 3, votedFor: "n1" }),
  writeOf(entriesOf(3, 9, 9, 10)),
  writeOf(entriesOf(4, 2, 3, 700)),
  writeOf([], { term: 5, votedFor: "n3" }),
  writeOf(entriesOf(5, 4, 6, 1000))
]

interface Logical {
  readonly hardState: HardState
  readonly entries: ReadonlyArray<Entry>
}

const fresh: Logical = { hardState: { term: 0, votedFor: undefined }, entries: [] }

const after = (state: Logical, write: Write): Logical => ({
  hardState: write.hardState ?? state.hardState,
  entries: write.entries.length === 0
    ? state.entries
    : [...state.entries.slice(0, (write.entries[0]?.index ?? 1) - 1), ...write.entries]
})

/** `states[i]` is what is stored once `i` writes of the script are. */
const states: Array<Logical> = [fresh]
for (const write of script) states.push(after(states.at(-1) ?? fresh, write))

const print = ({ entries, hardState }: Logical): string => JSON.stringify([hardState, plain(entries)])

/** One possible crash: what is on disk, and how many writes had been acknowledged and asked for. */
interface Crash {
  readonly image: Image
  readonly acknowledged: number
  readonly attempted: number
  readonly what: string
}

/** Each way in which the sectors of a write can have reached the disk: a prefix, all but one, only one, every other. */
const tornWrites = (change: Change & { readonly _tag: "Write" }, before: Image): ReadonlyArray<Change> => {
  const old = before.get(change.name) ?? Buffer.alloc(0)
  const first = Math.floor(change.position / sectorBytes)
  const last = Math.floor((change.position + change.bytes.length - 1) / sectorBytes)
  const some = (isWritten: (sector: number) => boolean): Change => {
    const bytes = Buffer.from(change.bytes)
    for (let i = 0; i < bytes.length; i++) {
      const at = change.position + i
      if (!isWritten(Math.floor(at / sectorBytes))) bytes[i] = old[at] ?? 0
    }
    return { ...change, bytes }
  }
  const sectors = Array.from({ length: last - first + 1 }, (_, i) => first + i)
  return [
    ...sectors.flatMap((sector) => [some((s) => s < sector), some((s) => s !== sector), some((s) => s === sector)]),
    some((s) => s % 2 === 0),
    some((s) => s % 2 === 1),
    change
  ]
}

interface Marked {
  readonly change: Change
  readonly acknowledged: number
  readonly attempted: number
}

const crashes = (run: ReadonlyArray<Marked>): ReadonlyArray<Crash> => {
  const all: Array<Crash> = []
  let image: Image = new Map()
  for (const [i, { change, ...counts }] of run.entries()) {
    const variants = change._tag === "Write" ? tornWrites(change, image) : [change]
    for (const [j, variant] of variants.entries()) {
      const what = `change ${i} of ${run.length}, ${change._tag} ${change.name}, variant ${j} of ${variants.length}`
      all.push({ image: applyChange(image, variant), what, ...counts })
    }
    image = applyChange(image, change)
  }
  return all
}

/** Runs the script in a new directory, noting each change of it. */
const record = Effect.scoped(Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const changes = yield* watchChanges
  const run: Array<Marked> = []
  const note = (acknowledged: number, attempted: number) => {
    for (const change of changes.splice(0)) run.push({ change, acknowledged, attempted })
  }
  yield* session(layerOf(directory), (storage) =>
    Effect.gen(function*() {
      note(0, 0)
      for (const [i, write] of script.entries()) {
        yield* storage.persist(write)
        note(i, i + 1)
      }
    }))
  note(script.length, script.length)
  return run
}))

const check = (crash: Crash, recovered: Logical): number => {
  const found = print(recovered)
  for (let i = crash.acknowledged; i <= crash.attempted; i++) if (print(states[i] ?? fresh) === found) return i
  return assert.fail(`${crash.what}: recovered ${found}, acknowledged ${print(states[crash.acknowledged] ?? fresh)}`)
}

describe("StorageFile, when power is lost", () => {
  it.live(
    "at any sector of any write, has every acknowledged write and at most the next one",
    () =>
      Effect.gen(function*() {
        const directory = yield* temporaryDirectory
        const all = crashes(yield* record)
        const outcomes = new Set<string>()
        for (const crash of all) {
          if (![...crash.image.keys()].some((name) => name.endsWith(".wal"))) {
            assert.strictEqual(crash.acknowledged, 0, crash.what)
            continue
          }
          restore(directory, crash.image)
          const { entries, hardState } = yield* recoverOnly(directory)
          const count = check(crash, { hardState: hardState ?? fresh.hardState, entries })
          outcomes.add(count === crash.attempted ? "attempted" : "acknowledged")
          // What was cut must be gone: the second time there is nothing to cut, and the same is found.
          const again = yield* recoverOnly(directory)
          assert.strictEqual(
            print({ hardState: again.hardState ?? fresh.hardState, entries: again.entries }),
            print({ hardState: hardState ?? fresh.hardState, entries }),
            crash.what
          )
        }
        assert.deepStrictEqual([...outcomes].toSorted(), ["acknowledged", "attempted"])
        assert.isAbove(all.length, 200)
      }).pipe(quietly),
    120_000
  )

  it.live("goes on writing over a torn tail, and recovers what it wrote", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const all = crashes(yield* record)
      for (const crash of all.filter((_, i) => i % 9 === 0)) {
        restore(directory, crash.image)
        const written = yield* session(layerOf(directory), (storage, { entries, hardState }) => {
          check(crash, { hardState, entries })
          const write = writeOf([entryAt(9, entries.length + 1, 5)])
          return Effect.as(storage.persist(write), after({ hardState, entries }, write))
        })
        const recovered = yield* reopen(layerOf(directory))
        assert.strictEqual(print(recovered), print(written), crash.what)
        assert.deepStrictEqual(recovered.configuration, initial)
      }
    }).pipe(quietly), 120_000)

  it.live("again, while a torn tail is being cut, still has every acknowledged write", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const torn = crashes(yield* record).filter(({ what }) => what.includes("Write 000"))
      for (const crash of torn.filter((_, i) => i % 7 === 0)) {
        restore(directory, crash.image)
        const changes = yield* Effect.scoped(Effect.gen(function*() {
          const changes = yield* watchChanges
          yield* recoverOnly(directory)
          return changes
        }))
        let image = crash.image
        for (const change of changes) {
          for (const variant of change._tag === "Write" ? tornWrites(change, image) : [change]) {
            restore(directory, applyChange(image, variant))
            const { entries, hardState } = yield* recoverOnly(directory)
            check(crash, { hardState: hardState ?? fresh.hardState, entries })
          }
          image = applyChange(image, change)
        }
      }
    }).pipe(quietly), 120_000)
})
