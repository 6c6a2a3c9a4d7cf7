/** The leader's side of InstallSnapshot (paper §7): a follower whose entries are gone, until it replicates again (rule L7). */
import { assert, describe, it } from "@effect/vitest"
import type { Command, Send } from "../../src/domain/Command.ts"
import { ofVoters } from "../../src/domain/Configuration.ts"
import type { Entry } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import { isLeader } from "../../src/domain/NodeState.ts"
import type { Progress } from "../../src/domain/Progress.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import { entriesOf, node, received, stepped } from "./Given.ts"
import { type Packet, PureCluster } from "./PureCluster.ts"

const isSnapshot = ({ message }: Packet): boolean => message._tag === "InstallSnapshot"

const leading = (settings: Partial<Settings> = {}): PureCluster => {
  const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { logTailEntriesMax: 0, ...settings } })
  cluster.elect("n1")
  cluster.run(60)
  return cluster
}

/** `n3` has nothing after the no-op, and of what it lacks `n1` holds the last `left` entries; the others are in a snapshot. */
const lagging = (left = 2, settings: Partial<Settings> = {}): PureCluster => {
  const cluster = leading(settings)
  cluster.isolate("n3")
  cluster.propose("n1", "a", "b", "c")
  cluster.settle()
  cluster.takeSnapshot("n1")
  for (let i = 0; i < left; i++) cluster.propose("n1", `${i}`)
  cluster.settle()
  cluster.heal()
  return cluster
}

/** Until the snapshot is on its way; the message that carries it. */
const sending = (cluster: PureCluster): Packet => {
  cluster.timeout("n1")
  cluster.settle((packet) => !isSnapshot(packet))
  const sent = cluster.drop(isSnapshot)
  assert.deepEqual(sent.map(({ from, to }) => [from, to]), [["n1", "n3"]])
  return sent[0] as Packet
}

const progressOf = (cluster: PureCluster, id: string, leader = "n1"): Progress | undefined =>
  cluster.leaderState(leader).role.progress.get(id)

const countOf = (cluster: PureCluster, tag: Command["_tag"]): number =>
  cluster.records.filter(({ command }) => command._tag === tag).length

const equal = (cluster: PureCluster): void => {
  const { commitIndex, log } = cluster.leaderState("n1")
  assert.strictEqual(commitIndex, log.lastIndex)
  for (const id of cluster.ids) {
    assert.strictEqual(cluster.state(id).log.lastIndex, log.lastIndex)
    assert.strictEqual(cluster.server(id).appliedIndex, log.lastIndex)
  }
}

describe("§7: the leader sends a snapshot to a follower whose entries it has given up", () => {
  it("the latest one, once, as soon as the follower says where its log ends", () => {
    const cluster = lagging()
    const { message } = sending(cluster)
    assert.deepEqual(message._tag === "InstallSnapshot" ? message.snapshot.last : undefined, { term: 1, index: 4 })
    const progress = progressOf(cluster, "n3")
    assert.deepEqual(progress?._tag === "Snapshot" ? [progress.snapshotIndex, progress.nextIndex] : [], [4, 5])
    for (let i = 0; i < 5; i++) {
      cluster.timeout("n1")
      cluster.settle()
    }
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 1)
  })

  it("and no entries meanwhile, only heartbeats: they confirm reads, and keep the leader in office (rule V9)", () => {
    const cluster = lagging()
    sending(cluster)
    cluster.isolate("n2")
    cluster.propose("n1", "more")
    const read = cluster.read("n1")
    let entries = 0
    cluster.observe = ({ event }) => {
      if (event._tag === "Received" && event.message._tag === "AppendEntries") entries += event.message.entries.length
    }
    cluster.run(3000, (packet) => !isSnapshot(packet))
    assert.deepEqual(cluster.leaders(), ["n1"])
    assert.deepEqual(cluster.replies.get(read), { _tag: "Served", index: 6 })
    assert.strictEqual(entries, 0)
  })

  it("then it replicates as before, and counts: the follower's copy commits", () => {
    const cluster = lagging()
    cluster.hand(sending(cluster))
    cluster.isolate("n2")
    cluster.propose("n1", "more")
    cluster.settle()
    assert.strictEqual(progressOf(cluster, "n3")?._tag, "Replicate")
    assert.strictEqual(cluster.state("n1").commitIndex, 7)
    cluster.heal()
    cluster.run(200)
    equal(cluster)
  })

  it("a follower with a diverged log gets one too, and its own entries are gone", () => {
    const cluster = leading()
    cluster.isolate("n1")
    cluster.propose("n1", "x", "y", "z", "lost", "lost")
    cluster.elect("n2")
    cluster.propose("n2", "a", "b")
    cluster.settle()
    cluster.takeSnapshot("n2")
    cluster.heal()
    cluster.run(1000)
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 1)
    assert.deepEqual([cluster.state("n1").log.prev, cluster.state("n1").snapshot.last], [
      { term: 2, index: 4 },
      { term: 2, index: 4 }
    ])
    assert.deepEqual(cluster.ids.map((id) => cluster.state(id).commitIndex), [4, 4, 4])
  })

  it("a follower whose answers were lost is not sent one: it may hold what the log begins after", () => {
    const cluster = leading()
    cluster.propose("n1", "a", "b", "c")
    cluster.settle(({ from }) => from !== "n3")
    cluster.drop()
    cluster.step("n1", { _tag: "PeerLost", peer: "n3" })
    assert.strictEqual(progressOf(cluster, "n3")?.nextIndex, 2)
    cluster.takeSnapshot("n1")
    assert.deepEqual([progressOf(cluster, "n3")?._tag, progressOf(cluster, "n3")?.nextIndex], ["Probe", 5])
    cluster.propose("n1", "d")
    cluster.settle()
    assert.strictEqual(progressOf(cluster, "n3")?._tag, "Replicate")
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 0)
    cluster.run(200)
    equal(cluster)
  })
})

describe("§7: a follower that has compacted further than its leader's message is told from", () => {
  const heartbeat = (entries: ReadonlyArray<Entry> = []): Event =>
    received("n2", { _tag: "AppendEntries", term: 2, prev: { term: 1, index: 3 }, entries, leaderCommit: 9, round: 7 })

  const matches = (sends: ReadonlyArray<Send>) =>
    sends.map(({ message }) =>
      message._tag === "AppendEntriesResponse" && message.result._tag === "Matched"
        ? [message.result.matchIndex, message.round]
        : message._tag
    )

  it("says up to where they agree, which is what it knows as committed, and commits nothing by it", () => {
    const before = node({ prev: { term: 1, index: 6 }, terms: [1, 1], term: 2 })
    for (const entries of [[], entriesOf([1, 1, 1, 1, 2], 4)]) {
      const { promised, sent, state } = stepped(before, heartbeat(entries), 1000)
      assert.deepEqual([matches(sent), promised], [[[6, 7]], []])
      assert.deepEqual([state.commitIndex, state.log], [6, before.log])
    }
  })

  it("rule L6: at once up to what it has applied, and beyond that with the write", () => {
    const snapshot = { last: { term: 1, index: 9 }, configuration: ofVoters(["n1", "n2", "n3"]), sizeBytes: 1 }
    const before = stepped(node({ prev: { term: 1, index: 6 } }), {
      _tag: "SnapshotReceived",
      from: "n2",
      term: 2,
      snapshot
    }, 1000).state
    const { promised, sent } = stepped(before, heartbeat(), 1000)
    assert.deepEqual([matches(sent), matches(promised)], [[[6, 7]], [[9, 7]]])
  })
})

describe("rule L7: a snapshot and what comes after it", () => {
  it("one that ends exactly at the leader's last index: the next proposal is replicated", () => {
    const cluster = lagging(0)
    assert.strictEqual(cluster.state("n1").log.lastIndex, 4)
    cluster.hand(sending(cluster))
    cluster.settle()
    const progress = progressOf(cluster, "n3")
    assert.deepEqual([progress?._tag, progress?.matchIndex, progress?.nextIndex], ["Replicate", 4, 5])
    cluster.isolate("n2")
    cluster.propose("n1", "more")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, 5)
  })

  it("a log that is compacted as a whole goes on: proposals, elections and restarts", () => {
    const cluster = leading()
    cluster.propose("n1", "a")
    cluster.run(60)
    for (const id of cluster.ids) {
      cluster.takeSnapshot(id)
      assert.deepEqual(cluster.termsOf(id), [])
    }
    cluster.propose("n1", "b")
    cluster.run(100)
    for (const id of cluster.ids) cluster.takeSnapshot(id)
    for (const id of cluster.ids) cluster.crash(id)
    for (const id of cluster.ids) cluster.restart(id)
    assert.deepEqual(cluster.ids.map((id) => cluster.state(id).commitIndex), [3, 3, 3])
    cluster.elect("n2")
    cluster.run(60)
    cluster.propose("n2", "c")
    cluster.run(200)
    assert.deepEqual(cluster.ids.map((id) => cluster.state(id).commitIndex), [5, 5, 5])
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 0)
  })

  it("its acknowledgement lost: the next heartbeat finds out", () => {
    const cluster = lagging()
    cluster.hand(sending(cluster))
    cluster.drop()
    assert.strictEqual(progressOf(cluster, "n3")?._tag, "Snapshot")
    cluster.timeout("n1")
    cluster.settle()
    assert.strictEqual(progressOf(cluster, "n3")?._tag, "Replicate")
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 1)
    cluster.run(200)
    equal(cluster)
  })

  it("itself lost: it is wanted until it is acknowledged, and PeerLost changes nothing about that", () => {
    const cluster = lagging()
    sending(cluster)
    const before = cluster.state("n1")
    cluster.step("n1", { _tag: "PeerLost", peer: "n3" })
    assert.strictEqual(cluster.state("n1"), before)
    cluster.sendSnapshotsAgain("n1")
    cluster.settle()
    cluster.run(200)
    equal(cluster)
  })

  it("compaction is held back, once, for a follower that is receiving the previous one", () => {
    const cluster = lagging()
    const sent = sending(cluster)
    cluster.takeSnapshot("n1")
    assert.deepEqual([cluster.state("n1").snapshot.last.index, cluster.state("n1").log.prev.index], [6, 4])
    cluster.hand(sent)
    cluster.settle()
    assert.strictEqual(progressOf(cluster, "n3")?._tag, "Replicate")
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 1)
    cluster.propose("n1", "more")
    cluster.settle()
    cluster.takeSnapshot("n1")
    assert.strictEqual(cluster.state("n1").log.prev.index, 7)
    cluster.run(200)
    equal(cluster)
  })

  /** The snapshot of 4 is under way for so long that another two were taken: the log begins after 7. */
  const overtaken = () => {
    const cluster = lagging()
    const sent = sending(cluster)
    cluster.takeSnapshot("n1")
    cluster.propose("n1", "more")
    cluster.settle()
    cluster.takeSnapshot("n1")
    assert.strictEqual(cluster.state("n1").log.prev.index, 7)
    return { cluster, sent }
  }

  it("too old by the time it is installed: the next one follows", () => {
    const { cluster, sent } = overtaken()
    cluster.hand(sent)
    cluster.settle((packet) => !isSnapshot(packet))
    assert.strictEqual(cluster.state("n3").commitIndex, 4)
    const progress = progressOf(cluster, "n3")
    assert.deepEqual(progress?._tag === "Snapshot" ? [progress.matchIndex, progress.snapshotIndex] : [], [4, 7])
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 2)
    cluster.run(200)
    equal(cluster)
  })

  it("too old, and its acknowledgement lost: a heartbeat finds out, and the next one follows", () => {
    const { cluster, sent } = overtaken()
    cluster.hand(sent)
    cluster.drop()
    cluster.timeout("n1")
    cluster.settle((packet) => !isSnapshot(packet))
    const progress = progressOf(cluster, "n3")
    assert.strictEqual(progress?._tag === "Snapshot" ? progress.snapshotIndex : 0, 7)
    assert.strictEqual(countOf(cluster, "SendSnapshot"), 2)
    cluster.settle()
    cluster.run(200)
    equal(cluster)
  })

  it("a follower that restarts in the middle begins anew, and catches up", () => {
    const cluster = lagging()
    const sent = sending(cluster)
    cluster.holdDisk("n3")
    cluster.hand(sent)
    cluster.crash("n3")
    cluster.restart("n3")
    assert.deepEqual([cluster.state("n3").snapshot.last.index, cluster.state("n3").log.lastIndex], [0, 1])
    cluster.run(500)
    equal(cluster)
  })

  it("what a lagging follower rejects once more changes nothing while the snapshot is on its way", () => {
    const cluster = lagging()
    sending(cluster)
    const { snapshotIndex } = progressOf(cluster, "n3") as Extract<Progress, { _tag: "Snapshot" }>
    for (let i = 0; i < 3; i++) {
      cluster.timeout("n1")
      cluster.settle()
      const progress = progressOf(cluster, "n3")
      assert.deepEqual([progress?._tag, progress?.matchIndex, progress?.nextIndex], ["Snapshot", 1, snapshotIndex + 1])
    }
  })

  it("the leader changes in the middle: the old one's snapshot is discarded, and the new one sends its own", () => {
    const cluster = lagging()
    const sent = sending(cluster)
    cluster.isolate("n1")
    cluster.takeSnapshot("n2")
    cluster.elect("n2")
    cluster.settle()
    cluster.hand(sent)
    assert.strictEqual(cluster.state("n3").term, 2)
    assert.deepEqual(cluster.records.slice(-1), [
      { node: "n3", command: { _tag: "DiscardSnapshot", last: { term: 1, index: 4 } } }
    ])
    cluster.run(500)
    assert.isFalse(isLeader(cluster.state("n1")))
    assert.strictEqual(cluster.server("n3").appliedIndex, cluster.state("n2").log.lastIndex)
  })
})
