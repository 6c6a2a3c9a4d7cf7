/** Durability rule 4: a merged write leaves on disk what its parts would, one after the other. */
import { assert, describe, it } from "@effect/vitest"
import { isEmptyWrite, mergeWrites, type Write } from "../../src/domain/Command.ts"
import { ofVoters } from "../../src/domain/Configuration.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import { none } from "../../src/domain/Snapshot.ts"
import { applyWrite, Disk, type Kept } from "./Disk.ts"
import { entriesOf, randomBelow } from "./Given.ts"

const configuration = ofVoters(["n1", "n2", "n3"])

const emptyDisk = (): Kept => ({
  hardState: { term: 0, votedFor: undefined },
  snapshot: none(configuration),
  configuration,
  prev: { term: 0, index: 0 },
  entries: new Array<Entry>()
})

/**
 * Writes as a server makes them: each follows what the earlier ones left, where it does not cut it. Installed snapshots are of ever later
 * entries; some are of one that the log holds, so that it stays.
 */
const randomWrites = (
  below: (max: number) => number,
  installs: "Nowhere" | "First" | "Anywhere"
): ReadonlyArray<Write> => {
  let log: ReadonlyArray<number> = []
  let prev = 0
  let committed = 0
  return Array.from({ length: below(8) }, (_, i) => {
    let install: Write["install"]
    if ((installs === "Anywhere" && below(3) === 0) || (installs === "First" && i === 0)) {
      const index = committed + 1 + below(4)
      const held = log[index - prev - 1]
      const last = { term: held ?? i + 1, index }
      install = { snapshot: { last, configuration, sizeBytes: 1 }, keepsLog: held !== undefined }
      committed = index
      if (held === undefined) [log, prev] = [[], index]
    }
    const first = Math.max(prev, committed) + 1 + below(prev + log.length - Math.max(prev, committed) + 1)
    const terms = Array.from({ length: below(4) }, () => i + 1)
    if (terms.length > 0) log = [...log.slice(0, first - 1 - prev), ...terms]
    return {
      hardState: below(3) === 0 ? { term: i + 1, votedFor: below(2) === 0 ? undefined : "n1" } : undefined,
      install,
      entries: entriesOf(terms, first)
    }
  })
}

describe("mergeWrites", () => {
  it("merge, then write = write one after the other (5,000 seeds)", () => {
    for (let seed = 0; seed < 5000; seed++) {
      const writes = randomWrites(randomBelow(seed), seed % 2 === 0 ? "Nowhere" : "First")
      const [one, all] = [emptyDisk(), emptyDisk()]
      for (const write of writes) applyWrite(one, write)
      applyWrite(all, mergeWrites(writes))
      assert.deepEqual(all, one, `seed ${seed}`)
    }
  })

  it("§7: cut before each write that installs a snapshot, any writes can be merged (5,000 seeds)", () => {
    for (let seed = 0; seed < 5000; seed++) {
      const writes = randomWrites(randomBelow(seed), "Anywhere")
      const one = emptyDisk()
      const disk = new Disk(one.configuration)
      disk.snapshot = one.snapshot
      for (const write of writes) {
        applyWrite(one, write)
        if (write.install !== undefined) disk.received.set(write.install.snapshot.last.index, write.install.snapshot)
        disk.submit(write, [])
      }
      disk.flush()
      const { configuration, entries, hardState, prev, snapshot } = disk
      assert.deepEqual({ configuration, entries, hardState, prev, snapshot }, one, `seed ${seed}`)
    }
  })

  it("merging in two goes is merging at once (5,000 seeds)", () => {
    for (let seed = 0; seed < 5000; seed++) {
      const below = randomBelow(seed)
      const writes = randomWrites(below, seed % 2 === 0 ? "Nowhere" : "First")
      // What installs a snapshot stays in front.
      const at = Math.min(1 + below(writes.length + 1), writes.length)
      const inTwo = mergeWrites([mergeWrites(writes.slice(0, at)), mergeWrites(writes.slice(at))])
      assert.deepEqual(inTwo, mergeWrites(writes), `seed ${seed}`)
    }
  })

  it("nothing, or only barriers, merge to an empty write", () => {
    const barrier: Write = { hardState: undefined, install: undefined, entries: [] }
    assert.isTrue(isEmptyWrite(mergeWrites([])))
    assert.isTrue(isEmptyWrite(mergeWrites([barrier, barrier])))
    const install = { snapshot: none(configuration), keepsLog: true }
    assert.isFalse(isEmptyWrite(mergeWrites([{ ...barrier, install }, barrier])))
  })

  it("changes none of its parts", () => {
    const parts: ReadonlyArray<Write> = [
      { hardState: undefined, install: undefined, entries: entriesOf([1, 1, 1]) },
      { hardState: { term: 2, votedFor: undefined }, install: undefined, entries: entriesOf([2], 2) }
    ]
    assert.deepEqual(mergeWrites(parts).entries.map(({ term }) => term), [1, 2])
    assert.deepEqual(parts[0]?.entries.map(({ term }) => term), [1, 1, 1])
  })
})
