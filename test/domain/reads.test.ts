/** Linearizable reads without the log (paper §8, thesis §6.4): rules R1 and R2. */
import { assert, describe, it } from "@effect/vitest"
import { isEmptyWrite } from "../../src/domain/Command.ts"
import { entriesOf, node, received, stepped } from "./Given.ts"
import { type Packet, PureCluster, type Reply } from "./PureCluster.ts"

const leading = (voters: ReadonlyArray<string> = ["n1", "n2", "n3"]): PureCluster => {
  const cluster = new PureCluster({ voters })
  cluster.elect("n1")
  cluster.run(60)
  return cluster
}

const served = (index: number): Reply => ({ _tag: "Served", index })

const heartbeats = (packets: ReadonlyArray<Packet>) => packets.filter(({ message }) => message._tag === "AppendEntries")

describe("rule R1, §8: a read waits for an entry of the leader's own term to commit", () => {
  it("right after an election a read is served at the no-op, never before what earlier leaders committed", () => {
    const disk = { hardState: { term: 1, votedFor: undefined }, entries: entriesOf([1, 1, 1]) }
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], disks: { n1: disk, n2: disk, n3: disk } })
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag !== "AppendEntries")
    assert.strictEqual(cluster.state("n1").commitIndex, 0)
    const read = cluster.read("n1")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), served(4))
  })

  it("confirmed or not, it waits for the no-op: the index it is served at is never below the no-op's", () => {
    const cluster = new PureCluster({ voters: ["n1"] })
    cluster.timeout("n1")
    const read = cluster.read("n1")
    assert.deepEqual(cluster.replies.get(read), served(1))
    const held = new PureCluster({ voters: ["n1"] })
    held.timeout("n1")
    held.crash("n1")
    held.restart("n1")
    held.nowMs += 1000
    held.holdDisk("n1")
    held.timeout("n1")
    held.flush("n1")
    assert.strictEqual(held.state("n1").commitIndex, 0)
    assert.deepEqual(held.replies.get(held.read("n1")), served(2))
  })

  it("once its no-op is committed, a read is served at the commit index of when it came", () => {
    const cluster = leading()
    cluster.propose("n1", "a", "b")
    cluster.settle()
    cluster.propose("n1", "c")
    const read = cluster.read("n1")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, 4)
    assert.deepEqual(cluster.replies.get(read), served(3))
  })
})

describe("rule R2, thesis §6.4: an answer confirms only reads that came before its round was sent", () => {
  it("an answer to an earlier heartbeat does not confirm a read", () => {
    const cluster = leading()
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    const late = cluster.drop()
    assert.lengthOf(late, 2)
    const read = cluster.read("n1")
    cluster.drop()
    for (const packet of late) cluster.hand(packet)
    assert.isUndefined(cluster.replies.get(read))
    cluster.timeout("n1")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), served(1))
  })

  it("a read that came while a round was under way waits for the next round", () => {
    const cluster = leading()
    const first = cluster.read("n1")
    const second = cluster.read("n1")
    assert.lengthOf(heartbeats(cluster.packets), 2)
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    cluster.settle(({ message }) => message._tag === "AppendEntriesResponse")
    assert.deepEqual(cluster.replies.get(first), served(1))
    assert.isUndefined(cluster.replies.get(second))
    assert.lengthOf(heartbeats(cluster.packets), 2)
    cluster.settle()
    assert.deepEqual(cluster.replies.get(second), served(1))
  })

  it("an answer whose round was never sent confirms no more than the latest one", () => {
    const cluster = leading()
    cluster.step(
      "n1",
      received("n2", {
        _tag: "AppendEntriesResponse",
        term: 1,
        round: 99,
        result: { _tag: "Matched", matchIndex: 1 }
      })
    )
    const read = cluster.read("n1")
    assert.isUndefined(cluster.replies.get(read))
  })

  it("a deposed leader that is cut off serves no read, whatever answers still arrive", () => {
    const cluster = leading()
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    const late = cluster.drop()
    cluster.isolate("n1")
    cluster.elect("n2")
    cluster.propose("n2", "a")
    cluster.settle()
    const read = cluster.read("n1")
    for (const packet of late) cluster.hand(packet)
    assert.isUndefined(cluster.replies.get(read))
    cluster.heal()
    cluster.timeout("n2")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), {
      _tag: "Refused",
      refusal: { _tag: "NotLeader", leaderId: "n2" }
    })
  })
})

describe("thesis §6.4: ReadIndex", () => {
  it("one round serves every read that waits for it", () => {
    const cluster = leading()
    const first = cluster.read("n1")
    const others = Array.from({ length: 20 }, () => cluster.read("n1"))
    cluster.settle(({ message }) => message._tag === "AppendEntries")
    let rounds = 0
    cluster.observe = ({ commands, node }) => {
      if (node === "n1" && commands.some((command) => command._tag === "Send")) rounds++
    }
    cluster.settle()
    assert.strictEqual(rounds, 1)
    for (const read of [first, ...others]) assert.deepEqual(cluster.replies.get(read), served(1))
  })

  it("a read appends nothing, writes nothing and raises no term", () => {
    const cluster = leading()
    const from = cluster.records.length
    for (let i = 0; i < 10; i++) cluster.read("n1")
    cluster.settle()
    assert.deepEqual(cluster.ids.map((id) => [cluster.state(id).log.lastIndex, cluster.state(id).term]), [
      [1, 1],
      [1, 1],
      [1, 1]
    ])
    for (const { command } of cluster.records.slice(from)) {
      if (command._tag === "Persist") assert.isTrue(isEmptyWrite(command.write))
    }
  })

  it("a majority confirms, a minority does not", () => {
    const cluster = leading(["n1", "n2", "n3", "n4", "n5"])
    const read = cluster.read("n1")
    cluster.settle(({ from, to }) => from === "n2" || to === "n2")
    assert.isUndefined(cluster.replies.get(read))
    cluster.settle(({ from, to }) => from === "n3" || to === "n3")
    assert.deepEqual(cluster.replies.get(read), served(1))
  })

  it("a learner's answer confirms nothing", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], learners: ["n4", "n5"] })
    cluster.elect("n1")
    const read = cluster.read("n1")
    cluster.settle(({ from, to }) => [from, to].some((id) => id === "n4" || id === "n5"))
    assert.isUndefined(cluster.replies.get(read))
  })

  it("a leader alone serves at once", () => {
    const cluster = new PureCluster({ voters: ["n1"] })
    cluster.timeout("n1")
    cluster.propose("n1", "a")
    assert.deepEqual(cluster.replies.get(cluster.read("n1")), served(2))
    assert.deepEqual(cluster.replies.get(cluster.read("n1")), served(2))
  })

  it("a round whose messages were lost is repeated with the next heartbeat, waiting reads with it", () => {
    const cluster = leading()
    const reads = [cluster.read("n1"), cluster.read("n1")]
    cluster.drop()
    cluster.timeout("n1")
    cluster.settle()
    for (const read of reads) assert.deepEqual(cluster.replies.get(read), served(1))
  })

  it("a leader that steps down refuses what it could not confirm: pending and waiting reads, each once", () => {
    for (const deposed of [true, false]) {
      const cluster = leading()
      cluster.isolate("n1")
      const reads = [cluster.read("n1"), cluster.read("n1"), cluster.read("n1")]
      if (deposed) cluster.step("n1", received("n2", { _tag: "RequestVoteResponse", term: 9, voteGranted: false }))
      else cluster.run(1000)
      for (const read of reads) {
        assert.deepEqual(cluster.replies.get(read), {
          _tag: "Refused",
          refusal: { _tag: "NotLeader", leaderId: undefined }
        })
      }
    }
  })

  it("a server that does not lead refuses, and says who does", () => {
    const cluster = leading()
    assert.deepEqual(cluster.replies.get(cluster.read("n3")), {
      _tag: "Refused",
      refusal: { _tag: "NotLeader", leaderId: "n1" }
    })
  })

  it("a read of nothing does nothing", () => {
    const before = node()
    const { commands, state } = stepped(before, { _tag: "Read", requestIds: [], by: "Round" }, 1)
    assert.deepEqual([commands, state === before], [[], true])
  })
})

describe("rule R2: what an answer confirms", () => {
  it("an answer to a leader of an older term echoes none of its rounds, which a later leader may have sent under the same number", () => {
    const late = {
      _tag: "AppendEntries",
      term: 1,
      prev: { term: 1, index: 1 },
      entries: [],
      leaderCommit: 0,
      round: 7
    } as const
    const { sent } = stepped(node({ term: 3, terms: [1, 2] }), received("n2", late), 100)
    assert.deepEqual(sent.map(({ message }) => message), [
      { _tag: "AppendEntriesResponse", term: 3, round: 0, result: { _tag: "Stale" } }
    ])
  })
})
