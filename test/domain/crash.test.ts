/** Power is lost between any two things that a server does (paper §5.5, §7; rules V1 and L6). */
import { assert, describe, it } from "@effect/vitest"
import type { Settings } from "../../src/domain/Settings.ts"
import { PureCluster } from "./PureCluster.ts"

/** With them a snapshot is taken after every other entry, and who is behind is sent one. */
const compacting: Partial<Settings> = { snapshotEntries: 2, snapshotGrowthPercent: 0, logTailEntriesMax: 0 }

/** An election, writes, a deposed leader with an entry of its own, its repair, reads: what a server lives through. */
const script = (crashAt: number, settings: Partial<Settings> = {}): PureCluster => {
  const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { appendEntriesMax: 2, ...settings } })
  cluster.crashAt = crashAt
  const leader = () => cluster.leaders().at(-1) ?? "n1"
  const propose = (...values: ReadonlyArray<string>) => {
    if (cluster.isUp(leader())) cluster.propose(leader(), ...values)
  }
  const restart = () => {
    for (const id of cluster.ids) if (!cluster.isUp(id)) cluster.restart(id)
  }
  cluster.run(1000)
  propose("a", "b", "c")
  cluster.run(60)
  const first = leader()
  cluster.isolate(first)
  propose("lost")
  cluster.run(700)
  restart()
  propose("d")
  cluster.run(60)
  cluster.heal()
  cluster.run(500)
  if (cluster.isUp(leader())) cluster.read(leader())
  propose("e")
  cluster.run(500)
  return cluster
}

for (const [what, settings] of [["", {}], [", with snapshots taken and installed", compacting]] as const) {
  describe(`§5.5: a crash between any two commands${what}`, () => {
    const { boundaries } = script(-1, settings)

    it("the script passes many boundaries, and commits what it proposed", () => {
      const cluster = script(-1, settings)
      assert.isAbove(boundaries, 300)
      assert.isAtLeast(cluster.figure3.committed.length, 7)
      assert.isAtLeast(cluster.figure3.leaders.size, 2)
      const installs = cluster.records.filter(({ command }) => command._tag === "Restore")
      assert.strictEqual(installs.length > 0, settings === compacting)
    })

    it("each boundary in turn: no property breaks, and the cluster agrees afterwards", () => {
      for (let crashAt = 0; crashAt < boundaries; crashAt++) {
        const cluster = script(crashAt, settings)
        assert.isAbove(cluster.boundaries, crashAt, "the crash happened")
        cluster.converge()
      }
    })

    it("a power cut of the whole cluster at each boundary loses nothing that was committed", () => {
      for (let crashAt = 0; crashAt < boundaries; crashAt += 3) {
        const cluster = script(crashAt, settings)
        const { length } = cluster.figure3.committed
        for (const id of cluster.ids) if (cluster.isUp(id)) cluster.crash(id)
        cluster.drop()
        cluster.converge()
        for (const id of cluster.ids) assert.isAtLeast(cluster.server(id).appliedIndex, length)
      }
    })
  })
}
