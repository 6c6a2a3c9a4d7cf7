/** The repair of diverged logs (paper §5.3, Figure 7): rules L7 and L8. */
import { assert, describe, it } from "@effect/vitest"
import type { HardState } from "../../src/domain/Command.ts"
import { entriesOf, repeat } from "./Given.ts"
import { type Packet, PureCluster } from "./PureCluster.ts"

const disk = (terms: ReadonlyArray<number>, term = Math.max(0, ...terms)) => {
  const hardState: HardState = { term, votedFor: undefined }
  return { hardState, entries: entriesOf(terms) }
}

const isRejection = ({ message }: Packet): boolean =>
  message._tag === "AppendEntriesResponse" && message.result._tag === "Rejected"

/** `n1` leads with `leader`, `n2` follows with `follower`: how many rejections until the logs are equal. */
const rejectionsToRepair = (leader: ReadonlyArray<number>, follower: ReadonlyArray<number>): number => {
  const term = Math.max(...leader, ...follower)
  const cluster = new PureCluster({
    voters: ["n1", "n2", "n3"],
    disks: { n1: disk(leader, term), n2: disk(follower, term), n3: disk(leader, term) }
  })
  let rejections = 0
  cluster.cut("n1", "n2")
  cluster.elect("n1")
  cluster.heal()
  cluster.timeout("n1")
  while (cluster.packets.length > 0) {
    rejections += cluster.packets.slice(0, 1).filter(isRejection).length
    cluster.deliverOne()
  }
  cluster.run(100)
  assert.deepEqual(cluster.termsOf("n2"), cluster.termsOf("n1"))
  assert.strictEqual(cluster.server("n2").applied.length, leader.length + 1)
  return rejections
}

describe("§5.3, Figure 7: a leader makes every follower's log its own", () => {
  const leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
  const followers: Readonly<Record<string, ReadonlyArray<number>>> = {
    a: [1, 1, 1, 4, 4, 5, 5, 6, 6],
    b: [1, 1, 1, 4],
    c: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    d: [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    e: [1, 1, 1, 4, 4, 4, 4],
    f: [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]
  }
  const bounds: Readonly<Record<string, number>> = { a: 1, b: 1, c: 0, d: 0, e: 2, f: 2 }

  for (const [name, terms] of Object.entries(followers)) {
    it(`follower ${name} is repaired after at most ${bounds[name]} rejections`, () => {
      assert.isAtMost(rejectionsToRepair(leader, terms), bounds[name] ?? 0)
    })
  }

  it("all six at once are repaired, under one leader of term 8", () => {
    const names = Object.keys(followers)
    const cluster = new PureCluster({
      voters: ["n1", ...names],
      disks: {
        n1: disk(leader, 7),
        ...Object.fromEntries(Object.entries(followers).map(([name, terms]) => [name, disk(terms, 7)]))
      }
    })
    assert.strictEqual(cluster.elect("n1").term, 8)
    cluster.run(200)
    for (const name of names) assert.deepEqual(cluster.termsOf(name), [...leader, 8])
    assert.strictEqual(cluster.state("n1").commitIndex, 11)
  })
})

describe("rule L8, §5.3: at most one rejection per conflicting term, whatever the log's length", () => {
  const terms = (from: number, to: number, each: number): ReadonlyArray<number> =>
    Array.from({ length: to - from + 1 }, (_, i) => repeat(from + i, each)).flat()

  const shapes: ReadonlyArray<readonly [string, ReadonlyArray<number>, ReadonlyArray<number>, number]> = [
    ["one long divergent tail", [...repeat(1, 100), ...repeat(3, 9900)], [...repeat(1, 100), ...repeat(2, 9900)], 1],
    [
      "a divergent tail of ten terms",
      [...repeat(1, 5000), ...repeat(20, 5000)],
      [...repeat(1, 5000), ...terms(2, 11, 500)],
      10
    ],
    ["ten terms of the leader's own", [...repeat(1, 5000), ...terms(3, 12, 500)], [
      ...repeat(1, 5000),
      ...repeat(2, 5000)
    ], 1],
    [
      "terms that alternate",
      [1, ...Array.from({ length: 100 }, (_, i) => repeat(2 * i + 3, 100)).flat()],
      [1, ...Array.from({ length: 100 }, (_, i) => repeat(2 * i + 2, 100)).flat()],
      100
    ],
    ["a follower that is longer", [...repeat(1, 100), ...repeat(3, 100)], [...repeat(1, 100), ...repeat(2, 9900)], 1],
    ["a follower that is shorter", [...repeat(1, 100), ...repeat(3, 9900)], repeat(1, 50), 1],
    ["a follower that is shorter and diverged", [...repeat(1, 100), ...repeat(3, 9900)], [
      ...repeat(1, 50),
      ...repeat(2, 200)
    ], 2],
    ["an empty follower", repeat(1, 10_000), [], 1],
    [
      "a term that both hold, to different lengths",
      [...repeat(1, 100), ...repeat(2, 100), ...repeat(4, 9800)],
      [...repeat(1, 100), ...repeat(2, 9900)],
      1
    ]
  ]
  for (const [shape, leader, follower, bound] of shapes) {
    it(`${shape}: at most ${bound}, and the logs end equal`, () => {
      assert.isAtMost(rejectionsToRepair(leader, follower), bound)
    })
  }
})

describe("rule L7: progress can always move again", () => {
  const small = { inflightMessagesMax: 3, appendEntriesMax: 1 }
  const three = (settings = {}) => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings })
    cluster.elect("n1")
    cluster.run(100)
    return cluster
  }
  const equal = (cluster: PureCluster) => {
    for (const id of cluster.ids) assert.deepEqual(cluster.termsOf(id), cluster.termsOf("n1"))
    assert.strictEqual(cluster.state("n1").commitIndex, cluster.state("n1").log.lastIndex)
  }

  it("a full window whose messages were all lost is found out by the next heartbeat", () => {
    const cluster = three(small)
    for (let i = 0; i < 10; i++) cluster.propose("n1", `v${i}`)
    assert.lengthOf(cluster.drop(({ to }) => to === "n2"), 3)
    cluster.drop()
    cluster.timeout("n1")
    cluster.settle()
    equal(cluster)
  })

  it("a full window whose answers were all lost is found out by the next heartbeat", () => {
    const cluster = three(small)
    for (let i = 0; i < 10; i++) cluster.propose("n1", `v${i}`)
    cluster.settle(({ from }) => from === "n1")
    cluster.drop()
    cluster.timeout("n1")
    cluster.settle()
    equal(cluster)
  })

  it("one message lost in the middle of a window is sent again", () => {
    const cluster = three({ appendEntriesMax: 1 })
    for (let i = 0; i < 5; i++) cluster.propose("n1", `v${i}`)
    cluster.drop(({ message }) => message._tag === "AppendEntries" && message.prev.index === 3)
    cluster.settle()
    equal(cluster)
  })

  it("a probe that was lost, or whose answer was, is found out by the next heartbeat", () => {
    for (const lost of ["AppendEntries", "AppendEntriesResponse"]) {
      const cluster = new PureCluster({
        voters: ["n1", "n2", "n3"],
        disks: { n1: disk([1, 1, 1]), n2: disk([1]), n3: disk([1, 1, 1]) }
      })
      cluster.nowMs += 1000
      cluster.timeout("n1")
      cluster.settle(({ message }) => message._tag !== lost)
      cluster.drop(({ message }) => message._tag === lost)
      cluster.timeout("n1")
      cluster.settle()
      equal(cluster)
    }
  })

  it("an unreachable peer that returns catches up, though everything sent meanwhile was lost", () => {
    const cluster = three(small)
    cluster.isolate("n3")
    for (let i = 0; i < 50; i++) cluster.propose("n1", `v${i}`)
    cluster.run(1000)
    cluster.heal()
    cluster.run(200)
    equal(cluster)
  })

  it("after PeerLost one message at a time goes out, and never again what the peer has proved", () => {
    const cluster = three(small)
    cluster.propose("n1", "a", "b", "c", "d")
    cluster.settle(({ from, to }) => from === "n1" && to === "n3")
    cluster.settle(({ from }) => from === "n3")
    cluster.settle()
    cluster.propose("n1", "e", "f")
    cluster.drop()
    cluster.step("n1", { _tag: "PeerLost", peer: "n2" })
    const progress = cluster.leaderState("n1").role.progress.get("n2")
    assert.deepEqual([progress?._tag, progress?.nextIndex], ["Probe", 6])
    cluster.propose("n1", "g")
    assert.lengthOf(cluster.packets.filter(({ to }) => to === "n2"), 1)
    cluster.settle()
    equal(cluster)
  })
})
