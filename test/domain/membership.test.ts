import { assert, describe, it } from "@effect/vitest"
import * as Configuration from "../../src/domain/Configuration.ts"
import {
  add,
  ask,
  configurationOf,
  demote,
  leading,
  leadingWithLearners,
  promote,
  refusal,
  remove,
  swap,
  votersOf
} from "./Changes.ts"
import { PureCluster } from "./PureCluster.ts"

describe("thesis §4.1: one server at a time", () => {
  it("a change is in force when it is appended, at the leader and at whoever gets the entry, and done when it is committed", () => {
    const cluster = leading(5)
    const request = cluster.reconfigure("n1", remove("n5"))
    assert.deepEqual(votersOf(cluster), ["n1", "n2", "n3", "n4"])
    assert.isFalse(cluster.replies.has(request))
    cluster.deliverOne(({ to }) => to === "n2")
    assert.deepEqual(votersOf(cluster, "n2"), ["n1", "n2", "n3", "n4"])
    assert.deepEqual(votersOf(cluster, "n3"), ["n1", "n2", "n3", "n4", "n5"])
    cluster.settle()
    assert.strictEqual(cluster.replies.get(request)?._tag, "Completed")
  })

  it("rule M2: a change that another leader's log does not have is taken back, there and after a restart", () => {
    const cluster = leading()
    cluster.isolate("n1")
    cluster.reconfigure("n1", remove("n3"))
    assert.deepEqual(votersOf(cluster), ["n1", "n2"])
    cluster.crash("n1")
    cluster.restart("n1")
    assert.deepEqual(votersOf(cluster), ["n1", "n2"], "what is on its disk counts, committed or not")
    cluster.elect("n2")
    cluster.propose("n2", "x")
    cluster.settle()
    cluster.heal()
    cluster.run(300)
    assert.deepEqual(votersOf(cluster), ["n1", "n2", "n3"])
  })

  it("rule M1: nothing is changed before an entry of the leader's own term is committed", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag !== "AppendEntries")
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.strictEqual(ask(cluster, remove("n3")), "NotReady")
    cluster.settle()
    assert.strictEqual(ask(cluster, remove("n3")), "waits")
  })

  it("rule M3: one change at a time, and none during another's joint phase", () => {
    const cluster = leading(5)
    cluster.reconfigure("n1", remove("n5"))
    assert.strictEqual(ask(cluster, remove("n4")), "Pending")
    assert.strictEqual(ask(cluster, add("n6")), "Pending")
    cluster.settle()
    cluster.reconfigure("n1", remove("n4"), remove("n3"))
    assert.isTrue(Configuration.isJoint(configurationOf(cluster)))
    assert.strictEqual(ask(cluster, add("n6")), "Pending")
    cluster.settle()
    assert.deepEqual(votersOf(cluster), ["n1", "n2"])
  })

  it("rule M3: what is so already is done, once a majority has it so again; zero voters, strangers and twice the same id are refused", () => {
    const cluster = leading()
    const again: Configuration.Change = { _tag: "Add", id: "n2", address: undefined, becomes: "Voter" }
    const before = configurationOf(cluster)
    for (const change of [promote("n2"), remove("n9"), again]) {
      const request = cluster.reconfigure("n1", change)
      assert.isUndefined(cluster.replies.get(request))
      cluster.settle()
      assert.strictEqual(cluster.replies.get(request)?._tag, "Completed")
    }
    assert.isTrue(Configuration.isSame(configurationOf(cluster), before))
    const { lastIndex } = cluster.state("n1").log
    assert.strictEqual(ask(cluster, remove("n2"), { ...again, address: "http://elsewhere" }), "Invalid")
    assert.strictEqual(ask(cluster, remove("n1"), remove("n2"), remove("n3")), "Invalid")
    assert.strictEqual(ask(cluster, promote("n9")), "Invalid")
    assert.strictEqual(ask(cluster, demote("n9")), "Invalid")
    assert.strictEqual(cluster.state("n1").log.lastIndex, lastIndex)
    cluster.add("n4")
    assert.strictEqual(ask(cluster, add("n4", "Learner")), "waits")
    cluster.settle()
    assert.strictEqual(
      ask(cluster, { _tag: "Add", id: "n4", address: "http://elsewhere", becomes: "Voter" }),
      "Invalid"
    )
  })

  it("whoever does not lead refuses, and names the leader", () => {
    const cluster = leading()
    const request = cluster.reconfigure("n2", remove("n3"))
    assert.deepEqual(cluster.replies.get(request), {
      _tag: "Refused",
      refusal: { _tag: "NotLeader", leaderId: "n1" }
    })
  })

  it("a leader that is deposed before a change is committed does not claim to know what becomes of it", () => {
    const cluster = leading()
    cluster.isolate("n1")
    const request = cluster.reconfigure("n1", remove("n3"))
    cluster.elect("n2")
    cluster.heal()
    cluster.run(300)
    assert.strictEqual(refusal(cluster.replies.get(request)), "OutcomeUnknown")
  })
})

describe("a change that would lose the quorum is refused", () => {
  it("removing a server that is up while another is down", () => {
    const cluster = leading()
    cluster.crash("n3")
    cluster.run(400)
    assert.strictEqual(ask(cluster, remove("n2")), "QuorumLost")
    assert.strictEqual(ask(cluster, remove("n3")), "waits", "the one that is down may go")
    cluster.settle()
    assert.deepEqual(votersOf(cluster), ["n1", "n2"])
  })

  it("promoting a server while so many are down that the larger majority is not there", () => {
    const cluster = leading(4)
    cluster.add("n5")
    cluster.reconfigure("n1", add("n5", "Learner"))
    cluster.run(300)
    cluster.crash("n5")
    cluster.crash("n4")
    cluster.run(400)
    assert.strictEqual(ask(cluster, promote("n5")), "waits", "three of five are up")
    cluster.settle()
    const six = leading(3)
    six.add("n4")
    six.reconfigure("n1", add("n4", "Learner"))
    six.run(300)
    six.crash("n3")
    six.crash("n4")
    six.run(400)
    assert.strictEqual(ask(six, promote("n4")), "QuorumLost", "two of four are not three")
  })
})

describe("thesis §4.2.2, §4.2.3, rule M6: a server that is removed", () => {
  it("is told so as one that was a member, which it was not when it was added", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"))
    cluster.run(500)
    cluster.reconfigure("n1", remove("n4"))
    cluster.run(500)
    const told = cluster.records.flatMap(({ command, node }) =>
      node === "n4" && command._tag === "AnnounceConfiguration"
        ? [[command.wasMember, Configuration.isMember(command.configuration, node)]]
        : []
    )
    assert.deepEqual([told[0], told.at(-1)], [[false, true], [true, false]])
  })

  it("hears of it, does not stand for election any more, and raises nobody's term", () => {
    const cluster = leading()
    cluster.reconfigure("n1", remove("n3"))
    cluster.settle()
    assert.deepEqual(votersOf(cluster, "n3"), ["n1", "n2"])
    const { term } = cluster.state("n1")
    const asked: Array<string> = []
    cluster.observe = ({ commands, node }) => {
      if (node === "n3") asked.push(...commands.flatMap((one) => one._tag === "Send" ? [one.message._tag] : []))
    }
    cluster.run(5000)
    assert.deepEqual([cluster.leaders(), asked], [["n1"], []], "it asks for nothing")
    assert.deepEqual(["n1", "n2", "n3"].map((id) => cluster.state(id).term), [term, term, term])
    assert.isFalse(cluster.leaderState("n1").role.progress.has("n3"), "nothing is sent to it any more")
  })

  it("and does not hear of it asks for pre-votes in vain", () => {
    const cluster = leading()
    cluster.isolate("n3")
    cluster.reconfigure("n1", remove("n3"))
    cluster.settle()
    const { term } = cluster.state("n1")
    cluster.run(4000)
    assert.isFalse(cluster.leaderState("n1").role.progress.has("n3"), "the leader gives it up")
    cluster.heal()
    cluster.run(4000)
    assert.deepEqual([cluster.leaders(), cluster.state("n1").term], [["n1"], term])
  })

  it("as the leader does not count itself, steps down when the change is committed, and the best voter takes over", () => {
    const cluster = leading(3)
    cluster.holdDisk("n3")
    const request = cluster.reconfigure("n1", remove("n1"))
    cluster.settle()
    assert.deepEqual(cluster.leaders(), ["n1"], "n2 alone is no majority of n2 and n3")
    assert.isFalse(cluster.replies.has(request))
    cluster.releaseDisk("n3")
    cluster.settle()
    assert.strictEqual(cluster.replies.get(request)?._tag, "Completed")
    assert.strictEqual(cluster.leaders().length, 1)
    assert.notInclude(cluster.leaders(), "n1")
    cluster.run(5000)
    assert.notInclude(cluster.leaders(), "n1")
    assert.strictEqual(cluster.state("n1").role._tag, "Follower")
  })
})

describe("thesis §4.2.2, Figure 4.6: a server that alone holds the entry which removes it", () => {
  it("may still be elected, completes the change and steps down: nobody else could", () => {
    const cluster = leading(2)
    cluster.reconfigure("n1", remove("n1"))
    cluster.drop()
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.run(5000)
    assert.deepEqual([cluster.leaders(), votersOf(cluster, "n2"), votersOf(cluster)], [["n2"], ["n2"], ["n2"]])
    assert.strictEqual(cluster.state("n1").role._tag, "Follower")
  })
})

describe("paper §6, rule M4: joint consensus", () => {
  for (const [which, others] of [["old", ["n4", "n5"]], ["new", ["n2", "n3"]]] as const) {
    it(`the ${which} majority alone commits nothing; both do, and it is left by itself`, () => {
      const cluster = leadingWithLearners()
      for (const id of others) cluster.isolate(id)
      const request = cluster.reconfigure("n1", ...swap)
      assert.deepEqual(configurationOf(cluster).outgoing, ["n1", "n2", "n3"])
      cluster.settle()
      assert.isBelow(cluster.state("n1").commitIndex, cluster.state("n1").configuration.latestIndex)
      assert.isTrue(Configuration.isJoint(configurationOf(cluster)))
      cluster.heal()
      cluster.run(200)
      assert.strictEqual(cluster.replies.get(request)?._tag, "Completed")
      assert.deepEqual([votersOf(cluster), configurationOf(cluster).outgoing], [["n1", "n4", "n5"], []])
    })

    it(`the ${which} majority alone elects nobody, and confirms no read`, () => {
      const cluster = leadingWithLearners()
      cluster.reconfigure("n1", ...swap)
      cluster.settle(({ message }) => message._tag === "AppendEntries")
      cluster.drop()
      for (const id of others) cluster.isolate(id)
      const read = cluster.read("n1")
      cluster.settle()
      assert.isFalse(cluster.replies.has(read))
      cluster.isolate("n1")
      for (let i = 0; i < 5; i++) cluster.run(1000)
      assert.deepEqual(cluster.leaders(), [])
      cluster.converge()
    })
  }

  it("a leader that finds it in its log leaves it once its own no-op is committed", () => {
    const cluster = leading(5)
    cluster.reconfigure("n1", remove("n4"), remove("n5"))
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    cluster.drop()
    cluster.isolate("n1")
    for (const id of ["n2", "n3", "n4", "n5"]) assert.isTrue(Configuration.isJoint(configurationOf(cluster, id)), id)
    cluster.elect("n2")
    cluster.settle()
    assert.deepEqual(configurationOf(cluster, "n2").outgoing, [])
    assert.deepEqual(votersOf(cluster, "n2"), ["n1", "n2", "n3"])
  })

  it("is not used for what one voter's change can do", () => {
    const cluster = leading()
    cluster.add("n4")
    cluster.reconfigure("n1", add("n4", "Learner"), remove("n3"))
    assert.isFalse(Configuration.isJoint(configurationOf(cluster)))
  })
})
