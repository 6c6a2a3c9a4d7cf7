/** The log as a value, against a plain array. */
import { assert, describe, it } from "@effect/vitest"
import { type Entry, type EntryId, noop, origin, sizeBytes } from "../../src/domain/Entry.ts"
import * as Log from "../../src/domain/Log.ts"
import { entriesOf, entry, randomBelow, repeat } from "./Given.ts"

const contents = (log: Log.Log): ReadonlyArray<Entry> =>
  Log.slice(log, { from: Log.firstIndex(log), to: log.lastIndex })

/** Everything the log answers, as the array of the entries after `prev` would answer it. */
const agree = (
  log: Log.Log,
  oracle: ReadonlyArray<Entry>,
  probes: ReadonlyArray<number>,
  prev: EntryId = origin
): void => {
  const last = prev.index + oracle.length
  assert.deepEqual([log.prev, Log.firstIndex(log), log.lastIndex], [prev, prev.index + 1, last])
  assert.deepEqual(Log.lastId(log), { term: oracle[oracle.length - 1]?.term ?? prev.term, index: last })
  for (const index of probes) {
    const held = oracle[index - prev.index - 1]
    assert.strictEqual(Log.entryAt(log, index), held)
    const term = index === prev.index ? prev.term : held?.term
    assert.strictEqual(Log.termAt(log, index), term)
    assert.isTrue(term === undefined || Log.matches(log, { term, index }))
    if (held === undefined) continue
    const before = (found: number): number => prev.index + found + 1
    assert.strictEqual(
      Log.firstIndexOfTermAt(log, index),
      before(oracle.findIndex((entry) => entry.term === held.term))
    )
    for (const upTo of [held.term, held.term - 1]) {
      assert.strictEqual(
        Log.lastIndexUpToTerm(log, upTo),
        before(oracle.findLastIndex((entry) => entry.term <= upTo))
      )
    }
    const range = { from: index - 20, to: index + 20 }
    const inRange = oracle.slice(Math.max(range.from - prev.index - 1, 0), range.to - prev.index)
    assert.strictEqual(Log.bytesOf(log, range), inRange.reduce((sum, entry) => sum + sizeBytes(entry), 0))
  }
}

interface View {
  readonly log: Log.Log
  readonly oracle: ReadonlyArray<Entry>
  readonly prev: EntryId
}

/** Cut somewhere, and with other entries after that. */
const branched = ({ log, oracle, prev }: View, below: (max: number) => number): View => {
  const kept = below(2) === 0 ? oracle.length : below(oracle.length + 1)
  const term = (oracle[kept - 1]?.term ?? prev.term) + below(2)
  const added = Array.from({ length: below(10_000 - kept > 700 ? 700 : 2) }, (_, j): Entry => ({
    term,
    index: prev.index + kept + 1 + j,
    payload: noop
  }))
  return {
    log: Log.append(Log.truncate(log, prev.index + kept), added),
    oracle: [...oracle.slice(0, kept), ...added],
    prev
  }
}

/** Compacted somewhere: near the end of a chunk, wherever that begins, as often as anywhere else. */
const compacted = ({ log, oracle, prev }: View, below: (max: number) => number): View => {
  const border = 1024 * below(10) - log.offset - 1 + below(3)
  const given = below(2) === 0 && border <= oracle.length ? Math.max(border, 0) : below(oracle.length + 1)
  const last = oracle[given - 1]
  return {
    log: Log.compact(log, prev.index + given),
    oracle: oracle.slice(given),
    prev: last === undefined ? prev : { term: last.term, index: last.index }
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

  it("views that branch never disturb each other, compacted or not (60 seeds against arrays, up to 10,000 entries)", () => {
    for (let seed = 0; seed < 60; seed++) {
      const below = randomBelow(seed)
      const start = seed % 10 === 0 ? entriesOf(repeat(1, 9000)) : []
      const views: Array<View> = [{ log: Log.append(Log.empty(origin), start), oracle: start, prev: origin }]
      for (let i = 0; i < 40; i++) {
        const view = views[below(views.length)]
        if (view !== undefined) views.push(below(3) === 0 ? compacted(view, below) : branched(view, below))
      }
      for (const { log, oracle, prev } of views) {
        const last = prev.index + oracle.length
        const probes = Array.from({ length: 20 }, () => prev.index + below(oracle.length + 2))
        agree(log, oracle, [0, 1, 1024, 1025, prev.index, prev.index + 1, last, last + 1, ...probes], prev)
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

describe("§7: compaction", () => {
  const entries = entriesOf([...repeat(1, 1000), ...repeat(2, 30), ...repeat(5, 1070)])
  const wholeLog = () => Log.append(Log.empty(origin), entries)

  it("at every position the rest is what it was, and what lies before is no longer answered for", () => {
    const whole = wholeLog()
    for (let index = 1; index <= entries.length; index++) {
      const log = Log.compact(whole, index)
      const prev = { term: entries[index - 1]?.term ?? 0, index }
      agree(log, entries.slice(index), [index - 1, index, index + 1, 2100, 2101], prev)
    }
  })

  it("at every position, appending and truncating go on as on an array, and older views see nothing of it", () => {
    const whole = wholeLog()
    for (const index of [1, 999, 1000, 1001, 1023, 1024, 1025, 1030, 2047, 2048, 2049, 2099, 2100]) {
      const log = Log.compact(whole, index)
      const prev = { term: entries[index - 1]?.term ?? 0, index }
      const more = entriesOf(repeat(7, 1100), 2101)
      const longer = Log.append(log, more)
      agree(longer, [...entries.slice(index), ...more], [index, index + 1, 2100, 2101, 3200, 3201], prev)
      const others = entriesOf([8, 8], index + 1)
      const cut = Log.append(Log.truncate(log, index), others)
      agree(cut, others, [index, index + 1, index + 2, index + 3], prev)
      const twice = Log.compact(longer, 2500)
      agree(twice, more.slice(400), [2499, 2500, 2501, 3200], { term: 7, index: 2500 })
      assert.deepEqual([contents(log), contents(longer).length], [entries.slice(index), 3200 - index])
    }
    assert.deepEqual(contents(whole), entries)
  })

  it("whole chunks are given up, and of the one that is cut what came before is cleared", () => {
    const whole = wholeLog()
    const held = (log: Log.Log) => log.chunks.flat().filter((entry) => entry.index > 0).map((entry) => entry.index)
    for (const index of [1, 1023, 1024, 1025, 2048, 2099]) {
      assert.deepEqual(held(Log.compact(whole, index)), entries.slice(index).map((entry) => entry.index))
    }
    assert.deepEqual(Log.compact(whole, 2100), Log.empty({ term: 5, index: 2100 }))
  })

  it("where the log holds nothing, or begins already, nothing changes", () => {
    const log = Log.compact(wholeLog(), 50)
    for (const index of [0, 49, 50, 2101]) assert.strictEqual(Log.compact(log, index), log)
  })

  it("bytesOf counts what is held of a range", () => {
    const log = Log.compact(Log.append(Log.empty(origin), entriesOf(repeat(1, 9))), 4)
    const bytes = (from: number, to: number) => Log.bytesOf(log, { from, to })
    assert.deepEqual([bytes(5, 9), bytes(1, 99), bytes(6, 7), bytes(1, 4), bytes(8, 7)], [135, 135, 54, 0, 0])
  })
})
