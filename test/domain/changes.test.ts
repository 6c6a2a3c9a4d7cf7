/**
 * What becomes of changes of the membership when leaders change, servers come back, and majorities are two (paper §6, thesis §4.1 to §4.3).
 */
import { assert, describe, it } from "@effect/vitest"
import * as Configuration from "../../src/domain/Configuration.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import {
  add,
  ask,
  configurationOf,
  demote,
  leading,
  leadingWithLearners,
  promote,
  remove,
  swap,
  votersOf
} from "./Changes.ts"

type Packet = { readonly from: NodeId; readonly to: NodeId }

const isAmong = (ids: ReadonlyArray<NodeId>) => ({ from, to }: Packet): boolean =>
  ids.includes(from) && ids.includes(to)

describe("thesis §4.1: a change that its leader did not finish", () => {
  it("is finished by the next one, which commits it with its own no-op, if a majority may have it", () => {
    const cluster = leading(5)
    cluster.reconfigure("n1", remove("n5"))
    cluster.settle(({ to }) => to === "n2" || to === "n3")
    cluster.drop()
    cluster.crash("n1")
    cluster.elect("n2")
    cluster.settle()
    assert.deepEqual(votersOf(cluster, "n2"), ["n1", "n2", "n3", "n4"])
    assert.isAtLeast(cluster.state("n2").commitIndex, cluster.state("n2").configuration.latestIndex)
  })

  it("is gone where the next one has never heard of it, and may be asked for again", () => {
    const cluster = leading(5)
    cluster.isolate("n1")
    cluster.reconfigure("n1", remove("n4"), remove("n5"))
    assert.isTrue(Configuration.isJoint(configurationOf(cluster)))
    cluster.elect("n2")
    cluster.heal()
    cluster.run(300)
    assert.deepEqual([votersOf(cluster).length, configurationOf(cluster).outgoing], [5, []])
    const request = cluster.reconfigure("n2", remove("n4"), remove("n5"))
    cluster.run(300)
    assert.strictEqual(cluster.replies.get(request)?._tag, "Completed")
  })

  it("is not begun by halves: a joint change whose second half was lost is left by whoever leads", () => {
    const cluster = leading(5)
    cluster.reconfigure("n1", remove("n4"), remove("n5"))
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    cluster.settle(({ to }) => to === "n1")
    assert.isFalse(Configuration.isJoint(configurationOf(cluster)), "n1 has appended C_new")
    cluster.drop()
    cluster.crash("n1")
    for (const id of ["n2", "n3", "n4", "n5"]) assert.isTrue(Configuration.isJoint(configurationOf(cluster, id)), id)
    cluster.elect("n3")
    cluster.settle()
    assert.deepEqual([votersOf(cluster, "n3"), configurationOf(cluster, "n3").outgoing], [["n1", "n2", "n3"], []])
  })
})

describe("thesis §4.1: the smallest clusters", () => {
  it("one server becomes two, which need each other from the entry on that says so", () => {
    const cluster = leading(1)
    cluster.add("n2")
    cluster.reconfigure("n1", add("n2", "Learner"))
    cluster.run(500)
    cluster.isolate("n2")
    assert.strictEqual(ask(cluster, promote("n2")), "waits")
    cluster.propose("n1", "a")
    cluster.settle()
    assert.isBelow(cluster.state("n1").commitIndex, cluster.state("n1").configuration.latestIndex)
    cluster.heal()
    cluster.run(300)
    assert.strictEqual(cluster.state("n1").commitIndex, cluster.state("n1").log.lastIndex)
  })

  it("two servers become one, with the vote of both", () => {
    const cluster = leading(2)
    cluster.isolate("n2")
    const request = cluster.reconfigure("n1", remove("n2"))
    cluster.settle()
    assert.strictEqual(cluster.replies.get(request)?._tag, "Completed", "n1 is all that is left")
    cluster.propose("n1", "a")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, cluster.state("n1").log.lastIndex)
  })
})

describe("thesis §4.2: servers that come and go", () => {
  it("a removed server is added again with its old disk, and gives up what only it holds", () => {
    const cluster = leading(3)
    cluster.isolate("n3")
    cluster.reconfigure("n1", remove("n3"))
    cluster.settle()
    cluster.run(4000, isAmong(["n1", "n2"]))
    cluster.propose("n1", "a", "b")
    cluster.settle(isAmong(["n1", "n2"]))
    cluster.heal()
    cluster.run(100)
    cluster.reconfigure("n1", add("n3"))
    cluster.run(1000)
    assert.deepEqual(votersOf(cluster), ["n1", "n2", "n3"])
    assert.strictEqual(cluster.server("n3").appliedIndex, cluster.server("n1").appliedIndex)
  })

  it("a leader that is demoted steps down as one that is removed, and stays a learner that gets everything", () => {
    const cluster = leading(3)
    const request = cluster.reconfigure("n1", demote("n1"))
    cluster.settle()
    assert.strictEqual(cluster.replies.get(request)?._tag, "Completed")
    assert.notInclude(cluster.leaders(), "n1")
    cluster.run(3000)
    const [leader = ""] = cluster.leaders()
    cluster.propose(leader, "a")
    cluster.run(200)
    assert.deepEqual(configurationOf(cluster, leader).learners, ["n1"])
    assert.deepEqual([cluster.state("n1").role._tag, cluster.server("n1").appliedIndex], [
      "Follower",
      cluster.server(leader).appliedIndex
    ])
  })

  it("a stranger cannot be a voter at once: it would hold up every commit that needs it (rule M5)", () => {
    const cluster = leading(3)
    cluster.add("n4")
    assert.strictEqual(ask(cluster, promote("n4")), "Invalid")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.settle(({ to }) => to !== "n4")
    assert.strictEqual(ask(cluster, promote("n4")), "NotCaughtUp")
    assert.deepEqual(votersOf(cluster), ["n1", "n2", "n3"])
  })

  it("changes that undo each other are no change that one could mean", () => {
    const cluster = leading(3)
    const { lastIndex } = cluster.state("n1").log
    assert.strictEqual(ask(cluster, demote("n3"), promote("n3")), "Invalid")
    assert.strictEqual(cluster.state("n1").log.lastIndex, lastIndex)
  })
})

describe("paper §6, rule M4: while two majorities decide", () => {
  for (const [which, heard] of [["old", ["n1", "n2", "n3"]], ["new", ["n1", "n4", "n5"]]] as const) {
    it(`a leader that hears the ${which} majority alone gives up`, () => {
      const cluster = leadingWithLearners()
      cluster.reconfigure("n1", ...swap)
      cluster.settle(({ message }) => message._tag === "AppendEntries")
      cluster.drop()
      cluster.run(1000, isAmong(heard))
      assert.notInclude(cluster.leaders(), "n1")
    })

    it(`a lease that the ${which} majority alone has acknowledged is none (rule R3)`, () => {
      const cluster = leadingWithLearners({ leaseReads: true })
      cluster.nowMs += cluster.settings.electionTimeoutMsMin
      cluster.reconfigure("n1", ...swap)
      cluster.drop()
      cluster.timeout("n1")
      cluster.settle(isAmong(heard))
      assert.isTrue(Configuration.isJoint(configurationOf(cluster)))
      assert.isAtMost(cluster.leaderState("n1").role.readLeaseUntilMs, cluster.nowMs)
    })
  }

  it("leadership is handed to a voter of the new configuration, and to none that only still votes (rule M7)", () => {
    const cluster = leadingWithLearners()
    cluster.reconfigure("n1", ...swap)
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    cluster.drop()
    const refused = cluster.replies.get(cluster.transfer("n1", "n2"))
    assert.strictEqual(refused?._tag === "Refused" && "reason" in refused.refusal && refused.refusal.reason, "Invalid")
    const request = cluster.transfer("n1", "n4")
    cluster.run(200)
    assert.deepEqual([cluster.leaders(), cluster.replies.get(request)?._tag], [["n4"], "Completed"])
    assert.deepEqual([votersOf(cluster, "n4"), configurationOf(cluster, "n4").outgoing], [["n1", "n4", "n5"], []])
  })

  it("is not left before an entry of the next leader's own term is committed, though it is known to be committed itself", () => {
    const cluster = leading(5)
    cluster.reconfigure("n1", remove("n4"), remove("n5"))
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    // While leadership is handed over it is not left: so others hear that it is committed.
    cluster.transfer("n1", "n3")
    cluster.isolate("n3")
    cluster.settle()
    cluster.timeout("n1")
    cluster.settle()
    const { commitIndex, configuration } = cluster.state("n2")
    assert.isAtLeast(commitIndex, configuration.latestIndex)
    assert.isTrue(Configuration.isJoint(configuration.latest))
    cluster.crash("n1")
    cluster.heal()
    cluster.drop()
    cluster.nowMs += cluster.settings.electionTimeoutMsMax
    cluster.timeout("n2")
    cluster.settle(({ message }) => message._tag.startsWith("Request"))
    assert.deepEqual(cluster.leaders(), ["n2"])
    assert.isTrue(Configuration.isJoint(configurationOf(cluster, "n2")))
    cluster.settle()
    assert.deepEqual([votersOf(cluster, "n2"), configurationOf(cluster, "n2").outgoing], [["n1", "n2", "n3"], []])
  })

  it("is left once a transfer that it waited for is given up", () => {
    const cluster = leadingWithLearners()
    cluster.reconfigure("n1", ...swap)
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    const request = cluster.transfer("n1", "n4")
    cluster.isolate("n4")
    cluster.settle()
    assert.isTrue(Configuration.isJoint(configurationOf(cluster)))
    assert.isAtLeast(cluster.state("n1").commitIndex, cluster.state("n1").configuration.latestIndex)
    cluster.run(cluster.settings.electionTimeoutMsMax + cluster.settings.heartbeatIntervalMs)
    assert.strictEqual(cluster.replies.get(request)?._tag, "Refused")
    assert.deepEqual([cluster.leaders(), votersOf(cluster)], [["n1"], ["n1", "n4", "n5"]])
    assert.isFalse(Configuration.isJoint(configurationOf(cluster)))
  })

  it("a change that is under way already is not begun twice", () => {
    const cluster = leadingWithLearners()
    cluster.reconfigure("n1", ...swap)
    const { lastIndex } = cluster.state("n1").log
    const again = cluster.reconfigure("n1", ...swap)
    assert.strictEqual(cluster.replies.get(again), undefined, "it waits for the same")
    assert.strictEqual(cluster.state("n1").log.lastIndex, lastIndex)
    cluster.settle()
    assert.strictEqual(cluster.replies.get(again)?._tag, "Completed")
    assert.deepEqual(votersOf(cluster), ["n1", "n4", "n5"])
  })
})
