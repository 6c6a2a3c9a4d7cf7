/**
 * Pre-vote, stickiness, check-quorum and the election timer (thesis §9.6, §4.2.3, §6.2): rules V5, V6, V8, V9 and
 * V10.
 */
import { assert, describe, it } from "@effect/vitest"
import { type EntryId, origin } from "../../src/domain/Entry.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import { isLeader } from "../../src/domain/NodeState.ts"
import * as Settings from "../../src/domain/Settings.ts"
import { after, answersTo, node, received, stepped } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

const asksPreVote = (from: string, term: number, last: EntryId = origin): Event =>
  received(from, { _tag: "RequestPreVote", term, last })

const heartbeat = (from: string, term: number, prev: EntryId = origin): Event =>
  received(from, { _tag: "AppendEntries", term, prev, entries: [], leaderCommit: 0, round: 0 })

const three = () => new PureCluster({ voters: ["n1", "n2", "n3"] })

describe("rule V5, thesis §9.6: a pre-vote changes nothing at the voter", () => {
  it("granted or denied, the very same state remains and nothing is written", () => {
    const voter = node({ term: 3, terms: [2, 3] })
    for (const request of [asksPreVote("n2", 4, { term: 3, index: 2 }), asksPreVote("n2", 9), asksPreVote("n2", 1)]) {
      const { commands, state } = stepped(voter, request, 1000)
      assert.strictEqual(state, voter)
      assert.deepEqual(commands.map((command) => command._tag), ["Send"])
    }
  })

  it("several candidates get a pre-vote of the same voter for the same term", () => {
    const { state } = after(node(), [asksPreVote("n2", 1), asksPreVote("n3", 1)], 1000)
    const again = stepped(state, asksPreVote("n2", 1), 1000)
    assert.deepEqual(answersTo(again, "n2"), [{ _tag: "RequestPreVoteResponse", term: 1, voteGranted: true }])
  })

  it("a server that gets no pre-vote keeps its term, however often it asks", () => {
    let { state } = stepped(node({ term: 5 }), ticked, 1000)
    for (let i = 0; i < 50; i++) state = stepped(state, ticked, state.deadlineMs).state
    assert.deepEqual([state.role._tag, state.term, state.votedFor], ["PreCandidate", 5, undefined])
  })
})

describe("rule V6, thesis §9.6: whose term a pre-vote's answer carries", () => {
  it("a grant echoes the proposed term, so that the asker can count it", () => {
    const cluster = three()
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag === "RequestPreVote")
    assert.deepEqual(cluster.packets.map((packet) => packet.message), [
      { _tag: "RequestPreVoteResponse", term: 1, voteGranted: true },
      { _tag: "RequestPreVoteResponse", term: 1, voteGranted: true }
    ])
    cluster.settle()
    assert.deepEqual(cluster.leaders(), ["n1"])
  })

  it("a denial carries the voter's own term, never the proposed one", () => {
    for (const proposed of [2, 7, 12]) {
      const denial = answersTo(stepped(node({ terms: [6, 7] }), asksPreVote("n2", proposed), 1000), "n2")
      assert.deepEqual(denial, [{ _tag: "RequestPreVoteResponse", term: 7, voteGranted: false }])
    }
  })

  it("the asker adopts the term of a denial, and can then win", () => {
    const disks = { n1: { hardState: { term: 2, votedFor: undefined }, entries: [] } }
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], disks })
    for (const id of ["n2", "n3"]) {
      cluster.step(id, received("n1", { _tag: "RequestVoteResponse", term: 6, voteGranted: false }))
    }
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle()
    assert.deepEqual([cluster.state("n1").term, cluster.state("n1").role._tag], [6, "Follower"])
    cluster.elect("n1")
    assert.strictEqual(cluster.state("n1").term, 7)
  })

  it("a grant for another term than the proposed one changes no term", () => {
    const asking = stepped(node({ term: 3 }), ticked, 1000).state
    for (const term of [3, 5, 9]) {
      const grant = received("n2", { _tag: "RequestPreVoteResponse", term, voteGranted: true })
      assert.strictEqual(stepped(asking, grant, 1000).state.term, 3)
    }
  })
})

describe("rule V8: pre-vote, check-quorum and stickiness together", () => {
  it("all three are on unless switched off", () => {
    const { checkQuorum, leaderStickiness, preVote } = Settings.defaults
    assert.deepEqual([preVote, checkQuorum, leaderStickiness], [true, true, true])
  })

  it("a partitioned server keeps its term and disturbs nobody when it returns", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.run(200)
    cluster.isolate("n3")
    cluster.run(5000)
    assert.deepEqual([cluster.state("n3").term, cluster.state("n3").role._tag], [1, "PreCandidate"])
    cluster.propose("n1", "a")
    cluster.heal()
    cluster.run(1000)
    assert.deepEqual(cluster.ids.map((id) => cluster.state(id).term), [1, 1, 1])
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.deepEqual(cluster.termsOf("n3"), [1, 1])
  })

  it("a follower that still hears its leader helps nobody to replace it", () => {
    const follower = stepped(node({ term: 1 }), heartbeat("n2", 1), 1000).state
    const min = follower.settings.electionTimeoutMsMin
    const vote = received("n3", { _tag: "RequestVote", term: 2, last: origin, isTransfer: false })
    const deaf = stepped(follower, vote, 1000 + min - 1)
    assert.strictEqual(deaf.state, follower)
    assert.deepEqual(deaf.commands, [])
    const preVote = stepped(follower, asksPreVote("n3", 2), 1000 + min - 1)
    assert.deepEqual(answersTo(preVote, "n3"), [{ _tag: "RequestPreVoteResponse", term: 1, voteGranted: false }])
    assert.strictEqual(stepped(follower, vote, 1000 + min).state.votedFor, "n3")
  })

  it("a leader does not give way to a higher term that only a RequestVote claims", () => {
    const cluster = three()
    cluster.elect("n1")
    const before = cluster.state("n1")
    cluster.step(
      "n1",
      received("n3", { _tag: "RequestVote", term: 9, last: { term: 8, index: 50 }, isTransfer: false })
    )
    assert.strictEqual(cluster.state("n1"), before)
  })

  it("a server that restarts stays loyal for one election timeout", () => {
    const restarted = node({ term: 4, nowMs: 1000 })
    const vote = received("n3", { _tag: "RequestVote", term: 5, last: origin, isTransfer: false })
    const min = restarted.settings.electionTimeoutMsMin
    assert.strictEqual(stepped(restarted, vote, 1000 + min - 1).state.votedFor, undefined)
    assert.strictEqual(stepped(restarted, vote, 1000 + min).state.votedFor, "n3")
  })

  it("a cut between the leader and one follower topples nobody while the third hears both", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.run(200)
    cluster.cut("n1", "n2")
    cluster.run(5000)
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.deepEqual(cluster.ids.map((id) => cluster.state(id).term), [1, 1, 1])
  })

  it("a leader that only the hub of a star can reach is elected, and then stays", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3", "n4", "n5"] })
    cluster.elect("n1")
    for (const a of ["n1", "n2", "n4", "n5"]) {
      for (const b of ["n1", "n2", "n4", "n5"]) if (a !== b) cluster.cut(a, b)
    }
    cluster.run(10_000)
    const term = cluster.state("n3").term
    cluster.run(10_000)
    assert.deepEqual(cluster.leaders(), ["n3"])
    assert.strictEqual(cluster.state("n3").term, term)
  })
})

describe("rule V9, thesis §6.2: check-quorum", () => {
  it("an isolated leader steps down within an election timeout and a heartbeat, in its term, with its vote", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.run(500)
    const { electionTimeoutMsMax, heartbeatIntervalMs } = cluster.settings
    cluster.isolate("n1")
    cluster.run(electionTimeoutMsMax - heartbeatIntervalMs)
    assert.isTrue(isLeader(cluster.state("n1")))
    cluster.run(2 * heartbeatIntervalMs)
    const { role, term, votedFor } = cluster.state("n1")
    assert.deepEqual([role._tag, term, votedFor], ["Follower", 1, "n1"])
  })

  it("a leader that is heard but hears nobody steps down too", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.cutOneWay("n2", "n1")
    cluster.cutOneWay("n3", "n1")
    cluster.run(1000)
    assert.notInclude(cluster.leaders(), "n1")
  })

  it("a leader that hears one follower of two goes on", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.isolate("n3")
    cluster.run(5000)
    assert.deepEqual(cluster.leaders(), ["n1"])
  })

  it("a learner's voice keeps no leader in office", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], learners: ["n4"] })
    cluster.elect("n1")
    for (const id of ["n2", "n3"]) cluster.isolate(id)
    cluster.run(1000)
    assert.deepEqual(cluster.leaders(), [])
  })

  it("a rejection counts as contact: a follower under repair keeps its leader in office", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.nowMs += 290
    const leader = cluster.leaderState("n1")
    cluster.step(
      "n1",
      received("n2", {
        _tag: "AppendEntriesResponse",
        term: leader.term,
        round: 0,
        result: { _tag: "Rejected", prevIndex: 1, conflict: { term: undefined, index: 1 } }
      })
    )
    cluster.drop()
    cluster.nowMs += 200
    cluster.step("n1", ticked)
    assert.isTrue(isLeader(cluster.state("n1")))
  })
})

describe("rule V10, §5.2: what resets the election timer", () => {
  const follower = stepped(node({ terms: [1, 2] }), heartbeat("n2", 2, { term: 2, index: 2 }), 1000).state
  const resets = (event: Event, nowMs = 1200) =>
    stepped(follower, event, nowMs).state.deadlineMs !== follower.deadlineMs
  const vote = (term: number, last: EntryId): Event =>
    received("n3", { _tag: "RequestVote", term, last, isTransfer: false })

  it("entries or a heartbeat of the current leader do", () => {
    assert.isTrue(resets(heartbeat("n2", 2)))
    assert.isTrue(resets(heartbeat("n2", 2, { term: 9, index: 9 })), "rejected, but from the leader")
    assert.isTrue(resets(heartbeat("n3", 3)))
  })

  it("granting a vote does, denying one does not", () => {
    assert.isTrue(resets(vote(3, { term: 2, index: 2 })))
    assert.isFalse(resets(vote(3, { term: 1, index: 9 })), "not up to date")
    assert.isFalse(resets(vote(2, { term: 2, index: 2 })), "the term has a leader")
    assert.isFalse(resets(vote(1, { term: 2, index: 2 })), "an old term")
  })

  it("neither a pre-vote nor an old leader nor a higher term by itself does", () => {
    assert.isFalse(resets(asksPreVote("n3", 3, { term: 2, index: 2 })))
    assert.isFalse(resets(heartbeat("n3", 1)))
    assert.isFalse(resets(received("n3", { _tag: "RequestVoteResponse", term: 8, voteGranted: false })))
    assert.isFalse(resets(received("n3", { _tag: "RequestPreVoteResponse", term: 8, voteGranted: false })))
    assert.isFalse(resets(ticked, 1001))
  })

  it("a vote repeated does not put off the election a second time", () => {
    const voted = stepped(node(), vote(1, origin), 1000).state
    assert.strictEqual(stepped(voted, vote(1, origin), 1100).state.deadlineMs, voted.deadlineMs)
  })

  it("starting an election does, and draws anew", () => {
    const asking = stepped(node(), ticked, 1000).state
    assert.isAtLeast(asking.deadlineMs, 1000 + asking.settings.electionTimeoutMsMin)
    const again = stepped(asking, ticked, asking.deadlineMs).state
    assert.notStrictEqual(again.random, asking.random)
  })

  it("a leader that steps down waits a whole new election timeout", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.step("n1", received("n2", { _tag: "RequestVoteResponse", term: 9, voteGranted: false }))
    const { deadlineMs, settings } = cluster.state("n1")
    assert.isAtLeast(deadlineMs, cluster.nowMs + settings.electionTimeoutMsMin)
  })
})
