/** The log as a value, against a plain array. */
import { assert, describe, it } from "@effect/vitest"
import { type Entry, noop, origin } from "../../src/domain/Entry.ts"
import * as Log from "../../src/domain/Log.ts"
import { entriesOf, entry, randomBelow, repeat } from "./Given.ts"

const contents = (log: Log.Log): ReadonlyArray<Entry> =>
  Log.slice(log, { from: Log.firstIndex(log), to: log.lastIndex })

/** Everything the log answers, as the array would answer it. */
const agree = (log: Log.Log, oracle: ReadonlyArray<Entry>, probes: ReadonlyArray<number>): void => {
  assert.strictEqual(log.lastIndex, oracle.length)
  assert.deepEqual(Log.lastId(log), { term: oracle[oracle.length - 1]?.term ?? 0, index: oracle.length })
  for (const index of probes) {
    assert.strictEqual(Log.entryAt(log, index), oracle[index - 1])
    assert.strictEqual(Log.termAt(log, index), index === 0 ? 0 : oracle[index - 1]?.term)
    const term = oracle[index - 1]?.term
    if (term === undefined) continue
    assert.strictEqual(Log.firstIndexOfTermAt(log, index), oracle.findIndex((entry) => entry.term === term) + 1)
    assert.strictEqual(Log.lastIndexUpToTerm(log, term), oracle.findLastIndex((entry) => entry.term <= term) + 1)
    assert.strictEqual(Log.lastIndexUpToTerm(log, term - 1), oracle.findLastIndex((entry) => entry.term < term) + 1)
  }
}

describe("Log", () => {
  it("an empty log ends at its prev", () => {
    const log = Log.empty(origin)
    assert.deepEqual([Log.lastId(log), Log.termAt(log, 0), Log.termAt(log, 1)], [origin, 0, undefined])
    assert.isTrue(Log.matches(log, origin))
    assert.strictEqual(Log.append(log, []), log)
  })

  it("a log after a snapshot answers for its prev, and for nothing before it", () => {
    const log = Log.append(Log.empty({ term: 3, index: 100 }), entriesOf([3, 3, 4], 101))
    assert.deepEqual([99, 100, 101, 103, 104].map((index) => Log.termAt(log, index)), [undefined, 3, 3, 4, undefined])
    assert.deepEqual([Log.entryAt(log, 100), Log.entryAt(log, 101)], [undefined, entry(3, 101)])
    assert.deepEqual(contents(Log.truncate(log, 101)), [entry(3, 101)])
    assert.deepEqual(Log.lastId(Log.truncate(log, 100)), { term: 3, index: 100 })
  })

  it("10,000 entries, appended one by one or at once, are the same log", () => {
    const entries = entriesOf([...repeat(1, 3000), ...repeat(2, 4000), ...repeat(7, 3000)])
    let one = Log.empty(origin)
    for (const entry of entries) one = Log.append(one, [entry])
    const all = Log.append(Log.empty(origin), entries)
    assert.deepEqual(contents(one), entries)
    assert.deepEqual(contents(all), entries)
    assert.deepEqual([one.terms, one.lastIndex], [all.terms, all.lastIndex])
    agree(all, entries, [0, 1, 1023, 1024, 1025, 2048, 3000, 3001, 7000, 7001, 10_000, 10_001])
  })

  it("two futures of one log do not see each other, at every boundary of a chunk", () => {
    for (const length of [0, 1, 1023, 1024, 1025, 2047, 2048, 2049]) {
      const past = Log.append(Log.empty(origin), entriesOf(repeat(1, length)))
      const left = Log.append(past, entriesOf(repeat(2, 1100), length + 1))
      const right = Log.append(past, entriesOf(repeat(3, 1100), length + 1))
      assert.deepEqual(contents(past), entriesOf(repeat(1, length)))
      assert.deepEqual(contents(left).slice(length), entriesOf(repeat(2, 1100), length + 1))
      assert.deepEqual(contents(right).slice(length), entriesOf(repeat(3, 1100), length + 1))
    }
  })

  it("truncating and appending elsewhere leaves the longer view as it was", () => {
    for (const length of [1, 500, 1024, 1500, 2048]) {
      const long = Log.append(Log.empty(origin), entriesOf(repeat(1, 2500)))
      const cut = Log.append(Log.truncate(long, length), entriesOf([2, 2], length + 1))
      assert.deepEqual(contents(long), entriesOf(repeat(1, 2500)))
      assert.deepEqual(contents(cut).slice(length), entriesOf([2, 2], length + 1))
    }
  })

  it("views that branch never disturb each other (60 seeds against arrays, up to 10,000 entries)", () => {
    for (let seed = 0; seed < 60; seed++) {
      const below = randomBelow(seed)
      const start = seed % 10 === 0 ? entriesOf(repeat(1, 9000)) : []
      const views = [{ log: Log.append(Log.empty(origin), start), oracle: start }]
      for (let i = 0; i < 40; i++) {
        const view = views[below(views.length)]
        if (view === undefined) continue
        const kept = below(2) === 0 ? view.oracle.length : below(view.oracle.length + 1)
        const term = (view.oracle[kept - 1]?.term ?? 0) + below(2)
        const added = Array.from({ length: below(10_000 - kept > 700 ? 700 : 2) }, (_, j): Entry => ({
          term,
          index: kept + 1 + j,
          payload: noop
        }))
        views.push({
          log: Log.append(Log.truncate(view.log, kept), added),
          oracle: [...view.oracle.slice(0, kept), ...added]
        })
      }
      for (const { log, oracle } of views) {
        const { length } = oracle
        agree(log, oracle, [
          0,
          1,
          1024,
          1025,
          length,
          length + 1,
          ...Array.from({ length: 20 }, () => below(length + 2))
        ])
      }
      const [some] = views.slice(-1)
      if (some !== undefined) assert.deepEqual(contents(some.log), some.oracle)
    }
  })

  it("entriesFrom is bounded by number and bytes, and yields at least one entry where there is one", () => {
    const log = Log.append(Log.empty(origin), entriesOf(repeat(1, 9)))
    const take = (from: number, entriesMax: number, bytesMax: number) =>
      Log.entriesFrom(log, from, { entriesMax, bytesMax }).map((entry) => entry.index)
    assert.deepEqual(take(3, 4, Infinity), [3, 4, 5, 6])
    assert.deepEqual(take(8, 4, Infinity), [8, 9])
    assert.deepEqual(take(1, 9, 27 * 3), [1, 2, 3])
    assert.deepEqual(take(1, 9, 27 * 3 - 1), [1, 2])
    assert.deepEqual(take(1, 9, 1), [1])
    assert.deepEqual(take(10, 9, 1), [])
  })
})
