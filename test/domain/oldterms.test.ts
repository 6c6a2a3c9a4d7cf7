/**
 * What is left over from earlier terms, from strangers, and from nowhere.
 */
import { assert, describe, it } from "@effect/vitest"
import { received } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

const voters = ["n1", "n2", "n3"]

describe("an AppendEntries of an older term", () => {
  it("confirms nothing to its sender, which leads again by then (rule R2)", () => {
    const cluster = new PureCluster({ voters })
    const confirmReads = (count: number) => {
      for (let i = 0; i < count; i++) {
        cluster.read("n1")
        cluster.settle()
      }
    }
    cluster.elect("n1")
    cluster.run(60)
    confirmReads(3)
    cluster.read("n1")
    const delayed = cluster.drop().filter(({ message, to }) => to === "n2" && message._tag === "AppendEntries")
    assert.isNotEmpty(delayed)
    cluster.elect("n3")
    cluster.settle()
    cluster.elect("n1")
    cluster.run(60)
    for (const packet of delayed) cluster.hand(packet)
    const late = cluster.drop().filter(({ to }) => to === "n1")
    assert.isNotEmpty(late)
    confirmReads(3)
    cluster.isolate("n1")
    cluster.elect("n2")
    cluster.propose("n2", "newer")
    cluster.settle()
    const read = cluster.read("n1")
    cluster.heal()
    for (const packet of late) cluster.hand(packet)
    assert.isUndefined(cluster.replies.get(read))
  })

  it("is answered with the term and nothing else, so that it moves no follower's progress", () => {
    const cluster = new PureCluster({ voters })
    cluster.elect("n1")
    cluster.run(60)
    const { term } = cluster.state("n1")
    const before = cluster.leaderState("n1").role.progress
    cluster.step(
      "n1",
      received("n2", { _tag: "AppendEntriesResponse", term, round: 0, result: { _tag: "Stale" } })
    )
    assert.strictEqual(cluster.leaderState("n1").role.progress, before)
  })
})

describe("an answer from a server outside of the configuration", () => {
  it("is ignored, whatever its term", () => {
    const cluster = new PureCluster({ voters })
    cluster.elect("n1")
    cluster.run(60)
    const before = cluster.state("n1")
    cluster.step("n1", received("n9", { _tag: "RequestVoteResponse", term: 90, voteGranted: false }))
    cluster.step("n1", received("n9", { _tag: "RequestPreVoteResponse", term: 90, voteGranted: false }))
    const stale = { _tag: "Stale" } as const
    cluster.step("n1", received("n9", { _tag: "AppendEntriesResponse", term: 90, round: 0, result: stale }))
    assert.deepEqual([cluster.state("n1").term, cluster.state("n1").role._tag], [before.term, "Leader"])
  })
})

describe("a term that no election ever reached", () => {
  it("is not believed, from anybody, in any message", () => {
    const cluster = new PureCluster({ voters })
    cluster.elect("n1")
    cluster.run(60)
    const { term } = cluster.state("n2")
    const far = 2 ** 47
    cluster.nowMs += 1000
    cluster.step(
      "n2",
      received("n3", { _tag: "RequestVote", term: far, last: { term: far, index: 9 }, isTransfer: false })
    )
    cluster.step("n2", received("n3", { _tag: "RequestVoteResponse", term: far, voteGranted: false }))
    cluster.step(
      "n2",
      received("n3", {
        _tag: "AppendEntries",
        term: far,
        prev: { term: 0, index: 0 },
        entries: [],
        leaderCommit: 0,
        round: 1
      })
    )
    assert.strictEqual(cluster.state("n2").term, term)
  })
})
