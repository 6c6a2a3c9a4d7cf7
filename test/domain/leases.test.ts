/** Reads by lease (thesis §6.4.1): rule R3. */
import { assert, describe, it } from "@effect/vitest"
import { type EntryId, origin } from "../../src/domain/Entry.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import * as Settings from "../../src/domain/Settings.ts"
import { after, answersTo, entriesOf, node, received, stepped } from "./Given.ts"
import { type Packet, PureCluster, type Reply } from "./PureCluster.ts"

const leaseReads = { leaseReads: true, clockDriftPercentMax: 10 }
const leaseMs = 135

/** `n1` leads, and nothing is under way. */
const leading = (voters: ReadonlyArray<string> = ["n1", "n2", "n3"], learners: ReadonlyArray<string> = []) => {
  const cluster = new PureCluster({ voters, learners, settings: leaseReads })
  cluster.elect("n1")
  cluster.run(500)
  return cluster
}

/** A heartbeat now; when it was sent. */
const beat = (cluster: PureCluster): number => {
  cluster.timeout("n1")
  return cluster.nowMs
}

const served = (index: number): Reply => ({ _tag: "Served", index })

/** Whether a read is answered although nothing can be asked. */
const isLeased = (cluster: PureCluster, nowMs: number): boolean => {
  cluster.nowMs = nowMs
  const packets = cluster.packets.length
  const reply = cluster.replies.get(cluster.read("n1", "Lease"))
  if (reply !== undefined) assert.lengthOf(cluster.packets, packets, "and nothing is sent for it")
  return reply !== undefined
}

const untilMs = (cluster: PureCluster): number => cluster.leaderState("n1").role.readLeaseUntilMs

describe("rule R3: the lease", () => {
  it("is off unless switched on: every read asks", () => {
    assert.isFalse(Settings.defaults.leaseReads)
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.elect("n1")
    cluster.run(500)
    const read = cluster.read("n1", "Lease")
    assert.isUndefined(cluster.replies.get(read))
    assert.lengthOf(cluster.packets, 2)
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), served(1))
  })

  it("answers at once, at the commit index, and sends nothing", () => {
    const cluster = leading()
    cluster.propose("n1", "a", "b")
    cluster.settle()
    cluster.propose("n1", "c")
    const { length } = cluster.packets
    assert.deepEqual(cluster.replies.get(cluster.read("n1", "Lease")), served(3))
    assert.lengthOf(cluster.packets, length)
  })

  it("serves only reads that ask for it", () => {
    const cluster = leading()
    for (const by of ["Round", "Leader"] as const) assert.isUndefined(cluster.replies.get(cluster.read("n1", by)))
  })

  it("counts from when the acknowledged round was sent, not from when it was answered", () => {
    const cluster = leading()
    const sentMs = beat(cluster)
    cluster.nowMs += 40
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    cluster.nowMs += 40
    cluster.settle()
    assert.strictEqual(untilMs(cluster), sentMs + leaseMs)
    assert.isTrue(isLeased(cluster, sentMs + leaseMs - 1))
    assert.isFalse(isLeased(cluster, sentMs + leaseMs))
  })

  it("is shorter than the shortest election timeout by what the clocks may differ", () => {
    for (const [clockDriftPercentMax, ms] of [[0, 150], [10, 135], [50, 75], [99, 1.5]] as const) {
      const cluster = new PureCluster({
        voters: ["n1", "n2", "n3"],
        settings: { leaseReads: true, clockDriftPercentMax }
      })
      cluster.elect("n1")
      const sentMs = beat(cluster)
      cluster.settle()
      assert.closeTo(untilMs(cluster), sentMs + ms, 1e-9)
    }
  })

  it("needs a majority of voters: neither a minority nor learners give one", () => {
    const cluster = leading(["n1", "n2", "n3", "n4", "n5"], ["n6", "n7"])
    const before = untilMs(cluster)
    const sentMs = beat(cluster)
    const among = (...ids: ReadonlyArray<string>) => ({ from, to }: Packet) => ids.includes(from) || ids.includes(to)
    cluster.settle(among("n6", "n7", "n2"))
    assert.strictEqual(untilMs(cluster), before)
    cluster.settle(among("n3"))
    assert.strictEqual(untilMs(cluster), sentMs + leaseMs)
  })

  it("is extended by a rejection and by a server in need of a snapshot: they have heard the leader, too", () => {
    for (
      const result of [
        { _tag: "Rejected", prevIndex: 1, conflict: { term: undefined, index: 1 } },
        { _tag: "NeedsSnapshot", prevIndex: 1 }
      ] as const
    ) {
      const cluster = leading()
      const sentMs = beat(cluster)
      const { round } = cluster.leaderState("n1").role
      cluster.step("n1", received("n2", { _tag: "AppendEntriesResponse", term: 1, round, result }))
      assert.strictEqual(untilMs(cluster), sentMs + leaseMs)
    }
  })

  it("is not extended by answers to earlier rounds, however late they come", () => {
    const cluster = leading()
    const firstMs = beat(cluster)
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    const late = cluster.drop()
    beat(cluster)
    cluster.drop()
    for (const packet of late) cluster.hand(packet)
    assert.strictEqual(untilMs(cluster), firstMs + leaseMs)
    const secondMs = beat(cluster)
    cluster.settle()
    assert.strictEqual(untilMs(cluster), secondMs + leaseMs)
    for (const packet of late) cluster.hand(packet)
    assert.strictEqual(untilMs(cluster), secondMs + leaseMs)
  })

  it("is not revived by a round that was confirmed when its lease was over", () => {
    const cluster = leading()
    const sentMs = beat(cluster)
    cluster.nowMs += leaseMs + 100
    cluster.settle()
    assert.isAtMost(untilMs(cluster), sentMs + leaseMs)
    assert.isFalse(isLeased(cluster, cluster.nowMs))
  })

  it("that has run out gives way to a round, which starts it anew", () => {
    const cluster = leading()
    cluster.nowMs += 200
    const read = cluster.read("n1", "Lease")
    assert.isUndefined(cluster.replies.get(read))
    const sentMs = cluster.nowMs
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), served(1))
    assert.strictEqual(untilMs(cluster), sentMs + leaseMs)
    assert.isTrue(isLeased(cluster, sentMs + leaseMs - 1))
  })

  it("is void after a step-down: a new leadership starts without one, however soon", () => {
    const cluster = leading()
    assert.isTrue(isLeased(cluster, cluster.nowMs))
    cluster.step("n1", received("n2", { _tag: "RequestVoteResponse", term: 9, voteGranted: false }))
    assert.deepEqual(cluster.replies.get(cluster.read("n1", "Lease")), {
      _tag: "Refused",
      refusal: { _tag: "NotLeader", leaderId: undefined }
    })
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag !== "AppendEntries")
    assert.strictEqual(cluster.leaderState("n1").term, 10)
    assert.strictEqual(untilMs(cluster), -Infinity)
    assert.isUndefined(cluster.replies.get(cluster.read("n1", "Lease")))
  })

  it("rule R1: before the own term's no-op is committed, a read by lease waits for it", () => {
    const disk = { hardState: { term: 1, votedFor: undefined }, entries: entriesOf([1, 1, 1]) }
    const cluster = new PureCluster({
      voters: ["n1", "n2", "n3"],
      settings: leaseReads,
      disks: { n1: disk, n2: disk, n3: disk }
    })
    for (const id of ["n2", "n3"]) cluster.holdDisk(id)
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle()
    for (const id of ["n2", "n3"]) cluster.flush(id)
    cluster.settle()
    beat(cluster)
    cluster.settle()
    assert.isAbove(untilMs(cluster), cluster.nowMs)
    assert.strictEqual(cluster.state("n1").commitIndex, 0, "the others' disks are slow")
    assert.deepEqual(cluster.replies.get(cluster.read("n1", "Lease")), served(4))
  })

  it("a leader alone reads by it, and by its own round when it is over", () => {
    const cluster = new PureCluster({ voters: ["n1"], settings: leaseReads })
    cluster.timeout("n1")
    for (const nowMs of [cluster.nowMs, cluster.nowMs + 100, cluster.nowMs + 1000]) {
      assert.isTrue(isLeased(cluster, nowMs))
    }
  })
})

describe("rule R3: the promise that the lease relies on", () => {
  const heartbeat = (prev: EntryId = origin): Event =>
    received("n1", { _tag: "AppendEntries", term: 1, prev, entries: [], leaderCommit: 0, round: 5 })

  const asks = (term: number): Event =>
    received("n3", { _tag: "RequestVote", term, last: { term: 1, index: 9 }, isTransfer: false })

  const votesAt = (before: NodeState, event: Event, nowMs: number): boolean =>
    stepped(before, event, nowMs).state.votedFor === "n3"

  it("whoever answered a round votes for nobody else until the shortest election timeout has passed", () => {
    const promised = stepped(node({ id: "n2", term: 1, settings: leaseReads }), heartbeat(), 1000).state
    assert.deepEqual([1001, 1149, 1150].map((nowMs) => votesAt(promised, asks(2), nowMs)), [false, false, true])
    assert.isAtLeast(promised.deadlineMs, 1150, "nor for itself")
  })

  it("not even where it has learned of the later term from somebody else", () => {
    const promised = stepped(node({ id: "n2", term: 1, settings: leaseReads }), heartbeat(), 1000).state
    const denial = received("n3", { _tag: "RequestPreVoteResponse", term: 2, voteGranted: false })
    const taught = stepped(promised, denial, 1010).state
    assert.deepEqual([taught.term, taught.role], [2, { _tag: "Follower", leaderId: undefined }])
    assert.deepEqual([1010, 1149, 1150].map((nowMs) => votesAt(taught, asks(2), nowMs)), [false, false, true])
    assert.deepEqual(answersTo(stepped(taught, asks(2), 1010), "n3"), [
      { _tag: "RequestVoteResponse", term: 2, voteGranted: false }
    ])
  })

  it("nor after a restart, whatever was durable of the term by then", () => {
    for (const term of [0, 1, 4]) {
      const restarted = node({ id: "n2", term, nowMs: 1010, settings: leaseReads })
      assert.deepEqual([1010, 1159, 1160].map((nowMs) => votesAt(restarted, asks(term + 1), nowMs)), [
        false,
        false,
        true
      ])
    }
  })

  it("pieces of a snapshot renew it", () => {
    const promised = stepped(node({ id: "n2", term: 1, settings: leaseReads }), heartbeat(), 1000).state
    const piece: Event = { _tag: "SnapshotPieceReceived", from: "n1", term: 1 }
    const again = after(promised, [piece], 1100).state
    assert.deepEqual([1150, 1249, 1250].map((nowMs) => votesAt(again, asks(2), nowMs)), [false, false, true])
  })

  it("so that no other server leads while a lease lasts: not one read is stale, in storms with leases (100 seeds)", () => {
    let leased = 0
    for (let seed = 0; seed < 100; seed++) {
      const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: leaseReads, seed })
      cluster.run(600)
      for (let i = 0; i < 40; i++) {
        const [leader] = cluster.leaders()
        if (leader !== undefined && i % 10 === 0) cluster.isolate(leader)
        if (i % 10 === 9) cluster.heal()
        cluster.run(20)
        for (const id of cluster.leaders()) {
          cluster.propose(id, "v")
          if (cluster.replies.has(cluster.read(id, "Lease"))) leased++
        }
      }
    }
    assert.isAbove(leased, 1000)
  })

  it("an isolated leader reads by it until it is over, and its successor comes later", () => {
    const cluster = leading()
    const sentMs = beat(cluster)
    cluster.settle()
    cluster.isolate("n1")
    cluster.nowMs = sentMs + leaseMs - 1
    for (const id of ["n2", "n3"]) cluster.step(id, ticked)
    cluster.settle()
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.isTrue(isLeased(cluster, cluster.nowMs))
    cluster.elect("n2")
    cluster.propose("n2", "newer")
    cluster.settle()
    assert.isFalse(isLeased(cluster, cluster.nowMs))
  })
})
