/** Power is lost between any two things that a server does (paper §5.5; rules V1 and L6). */
import { assert, describe, it } from "@effect/vitest"
import { PureCluster } from "./PureCluster.ts"

/** An election, writes, a deposed leader with an entry of its own, its repair, reads: what a server lives through. */
const script = (crashAt: number): PureCluster => {
  const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { appendEntriesMax: 2 } })
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

describe("§5.5: a crash between any two commands", () => {
  const boundaries = script(-1).boundaries

  it("the script passes many boundaries, and commits what it proposed", () => {
    const cluster = script(-1)
    assert.isAbove(boundaries, 300)
    assert.isAtLeast(cluster.figure3.committed.length, 7)
    assert.isAtLeast(cluster.figure3.leaders.size, 2)
  })

  it("each boundary in turn: no property breaks, and the cluster agrees afterwards", () => {
    for (let crashAt = 0; crashAt < boundaries; crashAt++) {
      const cluster = script(crashAt)
      assert.isAbove(cluster.boundaries, crashAt, "the crash happened")
      cluster.converge()
    }
  })

  it("a power cut of the whole cluster at each boundary loses nothing that was committed", () => {
    for (let crashAt = 0; crashAt < boundaries; crashAt += 3) {
      const cluster = script(crashAt)
      const { length } = cluster.figure3.committed
      for (const id of cluster.ids) if (cluster.isUp(id)) cluster.crash(id)
      cluster.drop()
      cluster.converge()
      for (const id of cluster.ids) assert.isAtLeast(cluster.server(id).applied.length, length)
    }
  })
})
