import { assert, describe, it } from "@effect/vitest"
import type { NodeId } from "../../src/domain/NodeId.ts"
import { node, received, stepped } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

const leading = (settings = {}) => {
  const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], learners: ["n4"], settings })
  cluster.elect("n1")
  cluster.run(100)
  return cluster
}

const replyTo = (cluster: PureCluster, from: NodeId, to?: NodeId) => {
  const request = cluster.transfer(from, to)
  return () => {
    const reply = cluster.replies.get(request)
    if (reply?._tag !== "Refused") return reply?._tag
    return "reason" in reply.refusal ? reply.refusal.reason : reply.refusal._tag
  }
}

describe("thesis §3.10, rule M7: leadership transfer", () => {
  it("a leader that is removed while it hands over has nobody else stand against its successor", () => {
    const cluster = leading()
    cluster.reconfigure("n1", { _tag: "Remove", id: "n1" })
    cluster.transfer("n1", "n3")
    for (const other of ["n3", "n2"]) {
      cluster.settle(({ from, message, to }) =>
        (to === other && message._tag === "AppendEntries") || (from === other && to === "n1")
      )
    }
    assert.strictEqual(cluster.state("n1").role._tag, "Follower", "its removal is committed")
    const told = cluster.packets.filter(({ message }) => message._tag === "TimeoutNow").map(({ to }) => to)
    assert.deepStrictEqual(told, ["n3"])
    cluster.settle()
    assert.deepStrictEqual(cluster.leaders(), ["n3"])
  })

  it("the successor leads at once, though everybody still believes in the old leader", () => {
    const cluster = leading()
    const { term } = cluster.state("n1")
    const reply = replyTo(cluster, "n1", "n3")
    cluster.settle()
    assert.deepEqual([cluster.leaders(), reply()], [["n3"], "Completed"])
    assert.strictEqual(cluster.state("n3").term, term + 1, "one election, without a pre-vote")
  })

  it("waits until the successor has everything, and takes no commands meanwhile", () => {
    const cluster = leading()
    cluster.holdDisk("n3")
    cluster.propose("n1", "a")
    cluster.settle()
    replyTo(cluster, "n1", "n3")
    assert.isFalse(cluster.packets.some(({ message }) => message._tag === "TimeoutNow"))
    const [refused = 0] = cluster.propose("n1", "b")
    assert.deepEqual(cluster.replies.get(refused), {
      _tag: "Refused",
      refusal: { _tag: "NotLeader", leaderId: undefined }
    })
    cluster.releaseDisk("n3")
    cluster.settle()
    assert.deepEqual(cluster.leaders(), ["n3"])
  })

  it("without a name the voter that has most of the log takes over", () => {
    const cluster = leading()
    cluster.holdDisk("n2")
    cluster.propose("n1", "a")
    cluster.settle()
    replyTo(cluster, "n1")
    cluster.settle()
    assert.deepEqual(cluster.leaders(), ["n3"])
  })

  it("is refused to whoever cannot lead: a learner, a stranger, a server that is silent", () => {
    const cluster = leading()
    assert.strictEqual(replyTo(cluster, "n1", "n4")(), "Invalid")
    assert.strictEqual(replyTo(cluster, "n1", "n9")(), "Invalid")
    cluster.isolate("n3")
    cluster.run(400)
    assert.strictEqual(replyTo(cluster, "n1", "n3")(), "NotCaughtUp")
    assert.strictEqual(replyTo(cluster, "n2", "n3")(), "NotLeader")
    assert.strictEqual(replyTo(cluster, "n1", "n1")(), "Completed", "who leads already")
    const alone = new PureCluster({ voters: ["n1"] })
    alone.elect("n1")
    assert.strictEqual(replyTo(alone, "n1")(), "QuorumLost")
  })

  it("is given up after an election timeout: the leader goes on, and takes commands again", () => {
    const cluster = leading()
    const waiting = replyTo(cluster, "n1", "n3")
    assert.strictEqual(replyTo(cluster, "n1", "n2")(), "Pending")
    cluster.drop(({ message }) => message._tag === "TimeoutNow")
    cluster.run(cluster.settings.electionTimeoutMsMax + cluster.settings.heartbeatIntervalMs)
    assert.strictEqual(waiting(), "OutcomeUnknown", "it was told to stand, and may yet")
    assert.deepEqual(cluster.leaders(), ["n1"])
    const [request = 0] = cluster.propose("n1", "b")
    cluster.settle()
    assert.strictEqual(cluster.replies.get(request)?._tag, "Accepted")
  })

  it("nothing is changed while it lasts, and none begins while something is being changed", () => {
    const cluster = leading()
    cluster.holdDisk("n3")
    cluster.propose("n1", "a")
    cluster.settle()
    replyTo(cluster, "n1", "n3")
    const request = cluster.reconfigure("n1", { _tag: "Remove", id: "n4" })
    const reply = cluster.replies.get(request)
    assert.strictEqual(reply?._tag === "Refused" && "reason" in reply.refusal && reply.refusal.reason, "Pending")
  })

  it("voids the lease, for all of this leadership: who was told to stand may do so at any later time (rule R3)", () => {
    const cluster = leading({ leaseReads: true })
    cluster.run(200)
    assert.isAbove(cluster.leaderState("n1").role.readLeaseUntilMs, cluster.nowMs)
    replyTo(cluster, "n1", "n3")
    const [timeoutNow] = cluster.drop(({ message }) => message._tag === "TimeoutNow")
    assert.isBelow(cluster.leaderState("n1").role.readLeaseUntilMs, cluster.nowMs)
    cluster.run(1000)
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.isBelow(cluster.leaderState("n1").role.readLeaseUntilMs, cluster.nowMs)
    if (timeoutNow === undefined) return assert.fail("nobody was told to stand")
    cluster.hand(timeoutNow)
    cluster.settle()
    assert.deepEqual(cluster.leaders(), ["n3"], "late as it comes")
  })

  it("a leader that steps down with a transfer under way says that it does not know", () => {
    const cluster = leading()
    cluster.isolate("n3")
    cluster.propose("n1", "a")
    const waiting = replyTo(cluster, "n1", "n3")
    cluster.isolate("n1")
    cluster.run(1000)
    assert.strictEqual(waiting(), "OutcomeUnknown")
  })
})

describe("TimeoutNow", () => {
  const timeoutNow = (term: number) => received("n2", { _tag: "TimeoutNow", term })

  it("of an older term changes nothing", () => {
    const before = node({ term: 3 })
    assert.strictEqual(stepped(before, timeoutNow(2), 1000).state, before)
  })

  it("makes a follower stand in the next term, with a vote for itself on disk first", () => {
    const { commands, promised, sent, state } = stepped(node({ term: 3 }), timeoutNow(3), 1000)
    assert.deepEqual([state.term, state.votedFor, state.role._tag, sent], [4, "n1", "Candidate", []])
    assert.strictEqual(commands[0]?._tag, "Persist")
    const asked = promised.filter(({ message }) => message._tag === "RequestVote")
    assert.deepEqual(asked.map(({ message }) => "isTransfer" in message && message.isTransfer), [true, true])
  })

  it("does not make a learner stand, or a server that has lost its state", () => {
    const learner = node({ id: "n9", term: 3 })
    assert.strictEqual(stepped(learner, timeoutNow(3), 1000).state, learner)
    const lost = node({ prev: { term: 1, index: 5 }, snapshot: { term: 0, index: 0 }, term: 3 })
    assert.strictEqual(stepped(lost, timeoutNow(3), 1000).state.role._tag, "Follower")
  })
})
