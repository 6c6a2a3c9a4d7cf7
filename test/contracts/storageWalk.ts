/**
 * A storage beside a model of it: both take the same long walk of writes, snapshots, installs, compactions and restarts, drawn from a seed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { HardState } from "../../src/domain/Command.ts"
import { type Configuration, ofVoters } from "../../src/domain/Configuration.ts"
import { type Entry, type EntryId, origin } from "../../src/domain/Entry.ts"
import type { Recovered, Storage, StorageError } from "../../src/services/Storage.ts"
import { idOf, readLatest, receive, save, sent } from "./sentSnapshots.ts"
import { entriesOf, type Harness, initial, plain, session, writeOf } from "./storage.ts"

interface Model {
  hardState: HardState
  prev: EntryId
  configuration: Configuration
  entries: ReadonlyArray<Entry>
  latest: { readonly last: EntryId; readonly text: string; readonly configuration: Configuration } | undefined
}

/** Whole numbers below `bound`, the same for the same seed. */
const draws = (seed: number) => {
  let state = seed
  return (bound: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor(state / 2 ** 32 * bound)
  }
}

const lastIndex = ({ entries, prev }: Model): number => prev.index + entries.length

const idAt = ({ entries, prev }: Model, index: number): EntryId => {
  const entry = entries[index - prev.index - 1]
  return entry === undefined ? prev : idOf(entry.term, index)
}

/** One random step of both. Gives what it was. */
const walk = Effect.fnUntraced(function*(storage: Storage["Service"], model: Model, draw: (bound: number) => number) {
  const settled = Math.max(model.prev.index, model.latest?.last.index ?? 0)
  const configuration = ofVoters([`n${draw(9)}`, "n9"])
  const text = `${"state ".repeat(draw(30))}${draw(1000)}`
  const kind = ["append", "cut", "vote", "save", "save", "compact", "compact", "keep", "reset"][draw(9)] ?? ""
  const appended = (term: number, from: number) => entriesOf(term, from, from + draw(4), 8 + draw(900))
  if (kind === "append" || kind === "cut") {
    const from = kind === "cut" ? Math.min(settled + 1 + draw(6), lastIndex(model) + 1) : lastIndex(model) + 1
    const term = model.hardState.term + (kind === "cut" ? 1 : 0)
    const entries = appended(term, from)
    yield* storage.persist(writeOf(entries, kind === "cut" ? { term, votedFor: undefined } : undefined))
    if (kind === "cut") model.hardState = { term, votedFor: undefined }
    model.entries = [...model.entries.slice(0, from - 1 - model.prev.index), ...entries]
  } else if (kind === "vote") {
    model.hardState = { term: model.hardState.term + 1, votedFor: `n${draw(3)}` }
    yield* storage.persist(writeOf([], model.hardState))
  } else if (kind === "save") {
    const index = model.prev.index + 1 + draw(Math.max(1, model.entries.length))
    if (index > lastIndex(model)) return `${kind} nothing`
    const last = idAt(model, index)
    const saved = yield* save(storage, last, text, configuration)
    if (last.index >= (model.latest?.last.index ?? 0)) model.latest = { last, text, configuration }
    assert.deepStrictEqual(saved.last, model.latest?.last)
  } else if (kind === "compact") {
    const index = model.prev.index + draw(settled - model.prev.index + 1)
    const prev = idAt(model, index)
    yield* storage.compact({ prev, configuration })
    if (index === model.prev.index) return `${kind} nothing`
    Object.assign(model, { prev, configuration, entries: model.entries.slice(index - model.prev.index) })
  } else {
    const keepsLog = kind === "keep" && lastIndex(model) > settled
    const last = keepsLog ? idAt(model, settled + 1) : idOf(model.hardState.term + 1, settled + 1 + draw(9))
    const incoming = sent(last, text, configuration)
    const hardState = draw(2) === 0 || !keepsLog ? { term: model.hardState.term + 1, votedFor: undefined } : undefined
    const from = keepsLog ? lastIndex(model) + 1 : last.index + 1
    const entries = draw(2) === 0 ? [] : appended(hardState?.term ?? model.hardState.term, from)
    assert.isUndefined(yield* receive(storage, incoming, 50))
    yield* storage.persist(writeOf(entries, hardState, { snapshot: incoming.snapshot, keepsLog }))
    model.hardState = hardState ?? model.hardState
    model.latest = { last, text, configuration }
    if (!keepsLog) Object.assign(model, { prev: last, configuration, entries: [] })
    model.entries = [...model.entries, ...entries]
  }
  return kind
})

const compare = Effect.fnUntraced(function*(
  storage: Storage["Service"],
  recovered: Recovered,
  model: Model,
  what: string
) {
  assert.deepStrictEqual(recovered.hardState, model.hardState, what)
  assert.deepStrictEqual(recovered.prev, model.prev, what)
  assert.deepStrictEqual(recovered.configuration, model.configuration, what)
  assert.deepStrictEqual(plain(recovered.entries), plain(model.entries), what)
  assert.isUndefined(recovered.damage, what)
  const latest = yield* readLatest(storage)
  assert.strictEqual(latest?.text, model.latest?.text, what)
  assert.deepStrictEqual(recovered.snapshot.last, model.latest?.last ?? origin, what)
  assert.deepStrictEqual(recovered.snapshot.configuration, model.latest?.configuration ?? model.configuration, what)
})

export const storageWalk = (
  name: string,
  makeHarness: Effect.Effect<Harness, StorageError, Scope.Scope>,
  seeds: number
) =>
  describe(`Storage contract, at length: ${name}`, () => {
    it.live("after every restart it holds what a model of it holds", () =>
      Effect.gen(function*() {
        const kinds = new Set<string>()
        for (let seed = 1; seed <= seeds; seed++) {
          const { layer } = yield* makeHarness
          const draw = draws(seed)
          const model: Model = {
            hardState: { term: 1, votedFor: undefined },
            prev: origin,
            configuration: initial,
            entries: [],
            latest: undefined
          }
          yield* session(layer, (storage) => storage.persist(writeOf([], model.hardState)))
          const taken: Array<string> = []
          for (let start = 0; start < 12; start++) {
            yield* session(
              layer,
              Effect.fnUntraced(function*(storage, recovered) {
                yield* compare(storage, recovered, model, `seed ${seed}: ${taken.join(", ")}`)
                for (let i = draw(8); i > 0; i--) taken.push(yield* walk(storage, model, draw))
                taken.push("restart")
              })
            )
          }
          for (const kind of taken) kinds.add(kind)
        }
        assert.includeMembers([...kinds], ["append", "cut", "vote", "save", "compact", "keep", "reset", "restart"])
      }), 60_000)
  })
