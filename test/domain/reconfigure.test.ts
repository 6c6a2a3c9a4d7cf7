/**
 * What a change of the membership meets that others have left behind: changes under way, servers that were removed, leaderships that begin or end.
 */
import { assert, describe, it } from "@effect/vitest"
import type * as Configuration from "../../src/domain/Configuration.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import { add, configurationOf, demote, leading, promote, refusal, remove, votersOf } from "./Changes.ts"
import { PureCluster } from "./PureCluster.ts"

const reasonOf = (cluster: PureCluster, request: number): string => refusal(cluster.replies.get(request))

describe("a change that is asked for again while it is under way", () => {
  it("is waited for by both who asked, and answered once it is committed", () => {
    const cluster = leading()
    const first = cluster.reconfigure("n1", remove("n3"))
    const second = cluster.reconfigure("n1", remove("n3"))
    assert.deepEqual([reasonOf(cluster, first), reasonOf(cluster, second)], ["waits", "waits"])
    cluster.settle()
    assert.deepEqual([reasonOf(cluster, first), reasonOf(cluster, second)], ["Completed", "Completed"])
  })

  it("is waited for while it is joint, too, and is unknown to both where the leadership ends first", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(500)
    cluster.isolate("n1")
    const changes = [promote("n4"), remove("n3")]
    const requests = [cluster.reconfigure("n1", ...changes), cluster.reconfigure("n1", ...changes)]
    assert.deepEqual(requests.map((one) => reasonOf(cluster, one)), ["waits", "waits"])
    cluster.run(2000)
    assert.deepEqual(requests.map((one) => reasonOf(cluster, one)), ["OutcomeUnknown", "OutcomeUnknown"])
  })
})

describe("a leader that was only just elected", () => {
  it("does not take a voter for up that has not answered it: a change that needs it is not accepted", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.elect("n3")
    cluster.run(100)
    cluster.crash("n3")
    cluster.elect("n1")
    const early = cluster.reconfigure("n1", remove("n2"))
    assert.strictEqual(reasonOf(cluster, early), "NotReady")
    cluster.run(cluster.settings.electionTimeoutMsMax)
    assert.strictEqual(reasonOf(cluster, cluster.reconfigure("n1", remove("n2"))), "QuorumLost")
    assert.strictEqual(reasonOf(cluster, cluster.reconfigure("n1", remove("n3"))), "waits")
    cluster.settle()
    assert.deepEqual(votersOf(cluster), ["n1", "n2"])
  })
})

describe("a server that was removed, and is added again under the same name with another disk", () => {
  it("gets everything from the beginning, though the leader has not forgotten the other one yet", () => {
    const cluster = leading(4)
    cluster.propose("n1", "a")
    cluster.settle()
    cluster.takeSnapshot("n1")
    cluster.propose("n1", "b", "c", "d")
    cluster.settle()
    cluster.crash("n4")
    cluster.reconfigure("n1", remove("n4"))
    cluster.settle()
    cluster.propose("n1", "e", "f")
    cluster.run(100)
    assert.isTrue(cluster.leaderState("n1").role.progress.has("n4"))
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(3000)
    assert.strictEqual(cluster.state("n4").log.lastIndex, cluster.state("n1").log.lastIndex)
    cluster.reconfigure("n1", promote("n4"))
    cluster.settle()
    assert.include(votersOf(cluster), "n4")
  })
})

describe("a leader that is being removed", () => {
  const refusedBy = (cluster: PureCluster, id: NodeId) => {
    const [request = 0] = cluster.propose(id, "late")
    return cluster.replies.get(request)
  }

  it("takes nothing more once the configuration without it is written: it would not hear what becomes of it", () => {
    const cluster = leading()
    const [before = 0] = cluster.propose("n1", "before")
    cluster.reconfigure("n1", remove("n1"))
    assert.deepEqual(refusedBy(cluster, "n1"), {
      _tag: "Refused",
      refusal: { _tag: "NotLeader", leaderId: undefined }
    })
    cluster.settle()
    assert.strictEqual(cluster.replies.get(before)?._tag, "Accepted")
    assert.isAtLeast(cluster.state("n1").lastApplied, cluster.state("n1").log.lastIndex - 1)
    assert.deepEqual(votersOf(cluster, "n2"), ["n2", "n3"])
  })

  it("takes commands as ever while several servers change at once: they are committed before it goes", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(500)
    cluster.reconfigure("n1", promote("n4"), remove("n1"))
    assert.isNotEmpty(configurationOf(cluster).outgoing)
    const [request = 0] = cluster.propose("n1", "between")
    assert.strictEqual(cluster.replies.get(request)?._tag, "Accepted")
    cluster.settle()
    assert.deepEqual(votersOf(cluster, "n2"), ["n2", "n3", "n4"])
  })
})

describe("what is no configuration", () => {
  const nonsense = [
    ["a name that is none", "no good", "http://n4"],
    ["an address that is too long", "n4", `http://${"x".repeat(3000)}`],
    ["half a character", "n4", "http://\ud800"]
  ] as const
  for (const [what, id, address] of nonsense) {
    it(`is refused, and the leader goes on: ${what}`, () => {
      const cluster = leading()
      const request = cluster.reconfigure("n1", { _tag: "Add", id, address, becomes: "Voter" })
      assert.strictEqual(reasonOf(cluster, request), "Invalid")
      assert.deepEqual(votersOf(cluster), ["n1", "n2", "n3"])
    })
  }

  it("is refused where it takes too much, also if only both configurations together do", () => {
    const cluster = leading()
    const asked = (...changes: ReadonlyArray<Configuration.Change>) => {
      const request = cluster.reconfigure("n1", ...changes)
      cluster.settle(({ to }) => !to.startsWith("m"))
      return reasonOf(cluster, request)
    }
    let count = 0
    /** Learners with addresses of `characters`, as many as there is room for. */
    const fill = (characters: number): void => {
      while (true) {
        const address = "x".repeat(characters)
        const reason = asked({ _tag: "Add", id: `m${count + 1}`, address, becomes: "Learner" })
        if (reason === "Invalid") return
        assert.strictEqual(reason, "Completed")
        count++
      }
    }
    for (const characters of [2000, 200, 20, 1]) fill(characters)
    assert.isAbove(count, 40)
    assert.strictEqual(asked(demote("n3")), "Completed")
    assert.strictEqual(asked(promote("n3")), "Completed")
    assert.strictEqual(asked(demote("n2"), demote("n3")), "Invalid")
    assert.deepEqual([votersOf(cluster), configurationOf(cluster).outgoing], [["n1", "n2", "n3"], []])
  })
})
