/** Leader election as a whole (paper §5.2, thesis §9.6). */
import { assert, describe, it } from "@effect/vitest"
import { ticked } from "../../src/domain/Event.ts"
import { nextDeadlineMs } from "../../src/domain/Step.ts"
import { node, randomBelow, stepped } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

describe("§5.2: election timeouts", () => {
  it("are drawn from [min, max), over the whole range", () => {
    const drawn = Array.from({ length: 2000 }, (_, seed) => nextDeadlineMs(node({ seed, nowMs: 5000 })) - 5000)
    assert.isAtLeast(Math.min(...drawn), 150)
    assert.isBelow(Math.max(...drawn), 300)
    for (let tenth = 0; tenth < 10; tenth++) {
      const inTenth = drawn.filter((ms) => Math.floor((ms - 150) / 15) === tenth).length
      assert.isAbove(inTenth, 130, `150 + 15 × ${tenth} ms`)
      assert.isBelow(inTenth, 270, `150 + 15 × ${tenth} ms`)
    }
  })

  it("are redrawn for every election", () => {
    let state = node()
    const waits = new Set<number>()
    for (let i = 0; i < 20; i++) {
      const before = state.deadlineMs
      state = stepped(state, ticked, before).state
      waits.add(state.deadlineMs - before)
    }
    assert.isAbove(waits.size, 15)
  })

  it("a tick before the deadline changes nothing", () => {
    const state = node()
    assert.strictEqual(stepped(state, ticked, state.deadlineMs - 1).state, state)
  })
})

describe("§5.2: leader election", () => {
  it("a server alone elects itself, once its vote is on disk", () => {
    const cluster = new PureCluster({ voters: ["n1"] })
    cluster.holdDisk("n1")
    cluster.timeout("n1")
    assert.deepEqual(cluster.leaders(), [])
    cluster.releaseDisk("n1")
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.strictEqual(cluster.state("n1").commitIndex, 1)
  })

  it("a new leader speaks at once, with a no-op of its term (§5.2, §8)", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.elect("n1")
    assert.deepEqual(cluster.ids.map((id) => cluster.termsOf(id)), [[1], [1], [1]])
    assert.strictEqual(cluster.state("n1").commitIndex, 1)
  })

  it("pre-vote raises no term: one election, one term", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.timeout("n1")
    assert.deepEqual([cluster.state("n1").term, cluster.state("n1").role._tag], [0, "PreCandidate"])
    cluster.settle()
    assert.deepEqual([cluster.state("n1").term, cluster.state("n1").role._tag], [1, "Leader"])
  })

  it("a split vote resolves: two candidates of a term, then one leader of a later one", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3", "n4"] })
    for (const id of ["n1", "n2"]) cluster.timeout(id)
    cluster.settle(({ message }) => message._tag.startsWith("RequestPreVote"))
    assert.deepEqual(["n1", "n2"].map((id) => cluster.state(id).role._tag), ["Candidate", "Candidate"])
    cluster.deliverOne(({ from, to }) => from === "n1" && to === "n3")
    cluster.deliverOne(({ from, to }) => from === "n2" && to === "n4")
    cluster.settle()
    assert.deepEqual(cluster.leaders(), [])
    cluster.run(2000)
    assert.lengthOf(cluster.leaders(), 1)
    assert.isAbove(cluster.state("n1").term, 1)
  })

  it("a candidate gives way to a leader of its term, a leader to one of a later term", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { preVote: false } })
    cluster.timeout("n3")
    cluster.drop()
    cluster.timeout("n1")
    cluster.settle(({ to }) => to !== "n3")
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.strictEqual(cluster.state("n3").role._tag, "Candidate")
    cluster.settle()
    assert.deepEqual(cluster.state("n3").role, { _tag: "Follower", leaderId: "n1" })
    cluster.isolate("n1")
    cluster.elect("n2")
    assert.deepEqual(cluster.leaders(), ["n1", "n2"])
    cluster.heal()
    cluster.run(100)
    assert.deepEqual(cluster.leaders(), ["n2"])
  })

  it("a message of an older term teaches its sender the newer one", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.elect("n1")
    cluster.isolate("n1")
    cluster.elect("n2")
    cluster.heal()
    cluster.propose("n1", "a")
    cluster.deliverOne(({ from, to }) => from === "n1" && to === "n3")
    assert.isTrue(cluster.deliverOne(({ from, to }) => from === "n3" && to === "n1"))
    assert.deepEqual([cluster.state("n1").term, cluster.state("n1").role._tag], [2, "Follower"])
  })
})

/** Five servers whose messages take 0 to 400 ms, some of them forever: an election storm. */
const storm = (seed: number): PureCluster => {
  const below = randomBelow(seed)
  const cluster = new PureCluster({ voters: ["n1", "n2", "n3", "n4", "n5"], settings: stormSettings(seed), seed })
  const due = new Map<unknown, number>()
  for (const end = cluster.nowMs + 6000; cluster.nowMs < end; cluster.nowMs += 10) {
    for (const packet of cluster.packets) {
      const slow = below(10) === 0
      if (!due.has(packet)) due.set(packet, cluster.nowMs + (slow ? 100 + below(300) : below(40)))
    }
    cluster.drop((packet) => due.get(packet) === cluster.nowMs && below(20) === 0)
    for (const packet of cluster.packets.filter((packet) => (due.get(packet) ?? Infinity) <= cluster.nowMs)) {
      cluster.deliverOne((other) => other === packet)
    }
    for (const id of cluster.ids) if (nextDeadlineMs(cluster.state(id)) <= cluster.nowMs) cluster.step(id, ticked)
    if (below(60) === 0) cluster.isolate(cluster.leaders()[0] ?? "n1")
    if (below(20) === 0) cluster.heal()
  }
  return cluster
}

const stormSettings = (seed: number) => seed % 2 === 0 ? {} : { preVote: false, leaderStickiness: false }

describe("Figure 3: Election Safety", () => {
  it("200 storms of delayed, lost and cut messages: never two leaders of a term, and one once it is quiet", () => {
    let leaders = 0
    for (let seed = 0; seed < 200; seed++) {
      const cluster = storm(seed)
      cluster.converge()
      leaders += cluster.figure3.leaders.size
    }
    assert.isAbove(leaders, 900)
  })
})
