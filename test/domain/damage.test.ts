/**
 * A server whose state is lost up to where its log begins (its snapshot was damaged): it votes, since its log is whole, and nothing else until
 * a leader's snapshot is installed (§7, rules L6 and L7).
 */
import { assert, describe, it } from "@effect/vitest"
import { type EntryId, origin } from "../../src/domain/Entry.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import { answersTo, entriesOf, node, received, stepped } from "./Given.ts"
import { type Packet, PureCluster } from "./PureCluster.ts"

const at = (term: number, index: number): EntryId => ({ term, index })

/** Its log begins after 10 and ends at 12. */
const damaged = (): NodeState => node({ prev: at(1, 10), snapshot: origin, terms: [1, 2], term: 3 })

const append = (prev: EntryId, terms: ReadonlyArray<number> = [], round = 0): Event =>
  received("n2", {
    _tag: "AppendEntries",
    term: 3,
    prev,
    entries: entriesOf(terms, prev.index + 1),
    leaderCommit: 12,
    round
  })

const installs = (last: EntryId): Event => ({
  _tag: "SnapshotReceived",
  from: "n2",
  term: 3,
  snapshot: { last, configuration: damaged().configuration.latest, sizeBytes: 1 }
})

describe("a server that needs a snapshot", () => {
  it("tells its leader so at each heartbeat, wherever that says that the logs agree", () => {
    const before = damaged()
    for (const message of [append(at(2, 12), [], 7), append(at(1, 5), [], 7), append(at(3, 20), [], 7)]) {
      const { commands, promised, sent, state } = stepped(before, message, 1000)
      const result = { _tag: "NeedsSnapshot", prevIndex: 10 } as const
      assert.deepEqual(sent, [
        { _tag: "Send", to: "n2", message: { _tag: "AppendEntriesResponse", term: 3, round: 7, result } }
      ])
      assert.deepEqual([promised, state.log, state.commitIndex, state.lastApplied], [[], before.log, 10, 0])
      assert.isFalse(commands.some(({ _tag }) => _tag === "Apply" || _tag === "Persist"))
      assert.deepEqual(state.role, { _tag: "Follower", leaderId: "n2" })
    }
  })

  it("stores entries and acknowledges them once they are on disk, but commits and applies nothing", () => {
    const { commands, promised, sent, state } = stepped(damaged(), append(at(2, 12), [3], 7), 1000)
    assert.deepEqual(sent, [])
    assert.deepEqual(promised.map(({ message }) => message), [
      { _tag: "AppendEntriesResponse", term: 3, round: 7, result: { _tag: "Matched", matchIndex: 13 } }
    ])
    assert.deepEqual([state.log.lastIndex, state.commitIndex, state.lastApplied], [13, 10, 0])
    assert.isFalse(commands.some(({ _tag }) => _tag === "Apply"))
  })

  it("votes and pre-votes by its log, which is whole", () => {
    const asks = (_tag: "RequestVote" | "RequestPreVote", last: EntryId) =>
      answersTo(
        stepped(
          damaged(),
          received("n3", _tag === "RequestVote" ? { _tag, term: 4, last, isTransfer: false } : { _tag, term: 4, last }),
          1000
        ),
        "n3"
      ).map((answer) => "voteGranted" in answer ? answer.voteGranted : answer)
    for (const tag of ["RequestVote", "RequestPreVote"] as const) {
      assert.deepEqual([asks(tag, at(2, 12)), asks(tag, at(2, 11)), asks(tag, at(1, 20))], [[true], [false], [false]])
    }
  })

  it("never stands for election", () => {
    let state = damaged()
    for (let i = 0; i < 20; i++) {
      const outcome = stepped(state, ticked, state.deadlineMs)
      assert.deepEqual([outcome.commands, outcome.state.role._tag, outcome.state.term], [[], "Follower", 3])
      assert.isAbove(outcome.state.deadlineMs, state.deadlineMs)
      state = outcome.state
    }
  })

  it("takes a snapshot from its log's start on, and keeps the log where it holds the snapshot's end", () => {
    for (const last of [at(1, 10), at(1, 11), at(2, 12)]) {
      const { commands, state } = stepped(damaged(), installs(last), 1000)
      assert.deepEqual([state.log, state.commitIndex, state.snapshot.last], [damaged().log, last.index, last])
      assert.deepEqual(commands.map(({ _tag }) => _tag), ["Persist", "Restore", "AnnounceRole"])
    }
    for (const last of [at(2, 13), at(3, 12)]) {
      assert.deepEqual(stepped(damaged(), installs(last), 1000).state.log, Log.empty(last))
    }
  })

  it("discards an earlier one, which would leave a gap, without a word to its leader", () => {
    const { commands, promised, sent, state } = stepped(damaged(), installs(at(1, 9)), 1000)
    assert.deepEqual([sent, promised, state.log], [[], [], damaged().log])
    assert.deepEqual(commands.filter(({ _tag }) => _tag === "DiscardSnapshot"), [
      { _tag: "DiscardSnapshot", last: at(1, 9) }
    ])
  })

  it("whose whole log is there does not need any: it applies all of it again", () => {
    const state = stepped(node({ terms: [1, 2], term: 3 }), append(at(2, 2)), 1000)
    assert.deepEqual(state.commands.filter(({ _tag }) => _tag === "Apply"), [{ _tag: "Apply", from: 1, to: 2 }])
  })
})

const isSnapshot = ({ message }: Packet): boolean => message._tag === "InstallSnapshot"

/** `n3` has given up what its snapshot stands for, and loses the snapshot; `n1` leads, with or without a snapshot of its own. */
const losing = (own: boolean): PureCluster => {
  const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { logTailEntriesMax: 0 } })
  cluster.elect("n1")
  cluster.propose("n1", "a", "b", "c")
  cluster.run(100)
  if (own) cluster.takeSnapshot("n1")
  cluster.takeSnapshot("n3")
  cluster.propose("n1", "d")
  cluster.run(100)
  cluster.crash("n3")
  cluster.damageSnapshot("n3")
  cluster.restart("n3")
  return cluster
}

const progressOf = (cluster: PureCluster) => cluster.leaderState("n1").role.progress.get("n3")

const recovered = (cluster: PureCluster): void => {
  cluster.run(200)
  const { lastIndex } = cluster.state("n1").log
  assert.strictEqual(cluster.state("n3").log.lastIndex, lastIndex)
  assert.strictEqual(cluster.server("n3").appliedIndex, lastIndex)
  assert.strictEqual(progressOf(cluster)?._tag, "Replicate")
}

describe("the leader of a server that needs a snapshot", () => {
  it("sends its latest, and nothing is lost that the server had acknowledged (rule L4)", () => {
    const cluster = losing(true)
    assert.deepEqual([cluster.state("n3").snapshot.last.index, cluster.state("n3").log.prev.index], [0, 4])
    cluster.timeout("n1")
    cluster.settle((packet) => !isSnapshot(packet))
    const progress = progressOf(cluster)
    assert.deepEqual([progress?.needsState, progress?.matchIndex, progress?.nextIndex], [true, 5, 6])
    cluster.timeout("n1")
    cluster.settle((packet) => !isSnapshot(packet))
    assert.lengthOf(cluster.packets, 1, "it is on its way already")
    cluster.settle()
    assert.deepEqual(cluster.termsOf("n3"), [1], "the entry after the snapshot is still there")
    recovered(cluster)
  })

  it("takes one where its own does not reach so far, and sends it then", () => {
    const cluster = losing(false)
    cluster.timeout("n1")
    cluster.settle()
    assert.isTrue(cluster.state("n1").isTakingSnapshot)
    assert.notStrictEqual(progressOf(cluster)?._tag, "Snapshot")
    cluster.takeSnapshot("n1")
    cluster.timeout("n1")
    cluster.settle()
    recovered(cluster)
  })

  it("asks for it once, however often the server says so", () => {
    const cluster = losing(false)
    for (let i = 0; i < 5; i++) {
      cluster.timeout("n1")
      cluster.settle()
    }
    assert.lengthOf(cluster.records.filter(({ command }) => command._tag === "TakeSnapshot"), 1)
  })

  it("hears it: it confirms reads, and keeps the leader in office (rule V9)", () => {
    const cluster = losing(true)
    cluster.isolate("n2")
    const read = cluster.read("n1")
    cluster.run(2000, (packet) => !isSnapshot(packet))
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.deepEqual(cluster.replies.get(read), { _tag: "Served", index: 5 })
  })

  it("sends it entries meanwhile, and counts them on it: there may be no other majority", () => {
    const cluster = losing(true)
    cluster.timeout("n1")
    cluster.settle((packet) => !isSnapshot(packet))
    cluster.isolate("n2")
    cluster.propose("n1", "e")
    cluster.run(100, (packet) => !isSnapshot(packet))
    assert.strictEqual(cluster.state("n1").commitIndex, 6)
    assert.deepEqual([cluster.state("n3").log.lastIndex, cluster.state("n3").lastApplied], [6, 0])
    assert.isTrue(progressOf(cluster)?.needsState, "what it acknowledges is no sign of its state")
    recovered(cluster)
  })

  it("commits with it what gives the leader a snapshot for it, where the third server never comes back", () => {
    const cluster = losing(true)
    cluster.crash("n1")
    // Its own snapshot ends before the log of the other begins: it must commit to get any further.
    cluster.crash("n2")
    cluster.restart("n2")
    assert.strictEqual(cluster.state("n2").snapshot.last.index, 0)
    cluster.elect("n2")
    cluster.run(1000)
    const { lastIndex } = cluster.state("n2").log
    assert.deepEqual(["n2", "n3"].map((id) => cluster.server(id).appliedIndex), [lastIndex, lastIndex])
  })

  it("may be a new one, elected with its vote", () => {
    const cluster = losing(false)
    cluster.isolate("n1")
    cluster.elect("n2")
    assert.deepEqual(cluster.state("n3").role, { _tag: "Follower", leaderId: "n2" })
    cluster.heal()
    cluster.run(1000)
    const { lastIndex } = cluster.state("n2").log
    assert.deepEqual(cluster.ids.map((id) => cluster.server(id).appliedIndex), [lastIndex, lastIndex, lastIndex])
  })

  it("takes a late answer of its earlier life for recovery, and the next heartbeat begins the sending again", () => {
    const cluster = losing(true)
    cluster.timeout("n1")
    cluster.settle((packet) => !isSnapshot(packet))
    cluster.drop()
    cluster.step(
      "n1",
      received("n3", {
        _tag: "AppendEntriesResponse",
        term: 1,
        round: 0,
        result: { _tag: "Matched", matchIndex: 5 }
      })
    )
    assert.strictEqual(progressOf(cluster)?._tag, "Replicate", "by that answer the logs agree")
    cluster.timeout("n1")
    cluster.settle()
    recovered(cluster)
  })
})
