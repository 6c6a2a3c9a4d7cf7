/** Durability rule 4: a merged write leaves on disk what its parts would, one after the other. */
import { assert, describe, it } from "@effect/vitest"
import { isEmptyWrite, mergeWrites, type Write } from "../../src/domain/Command.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import { applyWrite } from "./Disk.ts"
import { entriesOf, randomBelow } from "./Given.ts"

const emptyDisk = () => ({ hardState: { term: 0, votedFor: undefined }, entries: new Array<Entry>() })

/** Writes as a server makes them: each follows what the earlier ones left, where it does not cut it. */
const randomWrites = (below: (max: number) => number): ReadonlyArray<Write> => {
  let length = 0
  return Array.from({ length: below(8) }, (_, i) => {
    const first = 1 + below(length + 1)
    const terms = Array.from({ length: below(4) }, () => i + 1)
    if (terms.length > 0) length = first + terms.length - 1
    return {
      hardState: below(3) === 0 ? { term: i + 1, votedFor: below(2) === 0 ? undefined : "n1" } : undefined,
      entries: entriesOf(terms, first)
    }
  })
}

describe("mergeWrites", () => {
  it("merge, then write = write one after the other (5,000 seeds)", () => {
    for (let seed = 0; seed < 5000; seed++) {
      const writes = randomWrites(randomBelow(seed))
      const [one, all] = [emptyDisk(), emptyDisk()]
      for (const write of writes) applyWrite(one, write)
      applyWrite(all, mergeWrites(writes))
      assert.deepEqual(all, one, `seed ${seed}`)
    }
  })

  it("merging in two goes is merging at once (5,000 seeds)", () => {
    for (let seed = 0; seed < 5000; seed++) {
      const below = randomBelow(seed)
      const writes = randomWrites(below)
      const at = below(writes.length + 1)
      const inTwo = mergeWrites([mergeWrites(writes.slice(0, at)), mergeWrites(writes.slice(at))])
      assert.deepEqual(inTwo, mergeWrites(writes), `seed ${seed}`)
    }
  })

  it("nothing, or only barriers, merge to an empty write", () => {
    const barrier: Write = { hardState: undefined, entries: [] }
    assert.isTrue(isEmptyWrite(mergeWrites([])))
    assert.isTrue(isEmptyWrite(mergeWrites([barrier, barrier])))
  })

  it("changes none of its parts", () => {
    const parts: ReadonlyArray<Write> = [
      { hardState: undefined, entries: entriesOf([1, 1, 1]) },
      { hardState: { term: 2, votedFor: undefined }, entries: entriesOf([2], 2) }
    ]
    assert.deepEqual(mergeWrites(parts).entries.map(({ term }) => term), [1, 2])
    assert.deepEqual(parts[0]?.entries.map(({ term }) => term), [1, 1, 1])
  })
})
