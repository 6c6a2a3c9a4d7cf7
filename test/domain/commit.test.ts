/** What is committed, and what a disk has to do with it (paper §5.3, §5.4, thesis §10.2.1): rules L1 and L6. */
import { assert, describe, it } from "@effect/vitest"
import type { HardState } from "../../src/domain/Command.ts"
import { origin } from "../../src/domain/Entry.ts"
import { entriesOf, entry, node, received, stepped, textOf } from "./Given.ts"
import { type Packet, PureCluster } from "./PureCluster.ts"

const disk = (terms: ReadonlyArray<number>, term: number) => {
  const hardState: HardState = { term, votedFor: undefined }
  return { hardState, entries: entriesOf(terms) }
}

const three = () => new PureCluster({ voters: ["n1", "n2", "n3"] })

const isMatch = ({ message }: Packet): boolean =>
  message._tag === "AppendEntriesResponse" && message.result._tag === "Matched"

describe("rule L1, §5.4.2: only an entry of the leader's own term is committed by counting", () => {
  /** Figure 8 (c): S1 leads term 4 and has its entry of term 2 on a majority; S5 holds an entry of term 3. */
  const figure8 = () =>
    new PureCluster({
      voters: ["s1", "s2", "s3", "s4", "s5"],
      disks: {
        s1: disk([1, 2], 3),
        s2: disk([1, 2], 3),
        s3: disk([1, 2], 3),
        s4: disk([1], 3),
        s5: disk([1, 3], 3)
      }
    })

  it("Figure 8 (c) to (d): an old entry on a majority is not committed, so S5 may still overwrite it", () => {
    const cluster = figure8()
    cluster.isolate("s5")
    cluster.nowMs += 1000
    cluster.timeout("s1")
    cluster.settle(({ message }) => message._tag !== "AppendEntries")
    assert.deepEqual(cluster.leaders(), ["s1"])
    cluster.drop()
    for (const from of ["s1", "s2", "s3"]) {
      cluster.step(
        "s1",
        received(from, {
          _tag: "AppendEntriesResponse",
          term: 4,
          round: 0,
          result: { _tag: "Matched", matchIndex: 2 }
        })
      )
    }
    assert.strictEqual(cluster.state("s1").commitIndex, 0)
    cluster.drop()
    cluster.crash("s1")
    cluster.heal()
    cluster.nowMs += 1000
    cluster.timeout("s5")
    cluster.settle()
    assert.strictEqual(cluster.elect("s5").term, 5, "S5 has learned of term 4")
    cluster.restart("s1")
    cluster.run(1000)
    for (const id of cluster.ids) assert.deepEqual(cluster.termsOf(id), [1, 3, 5])
  })

  it("Figure 8 (e): once its own term's entry is on a majority all before it is committed, and S5 cannot win", () => {
    const cluster = figure8()
    cluster.isolate("s5")
    cluster.elect("s1")
    assert.strictEqual(cluster.state("s1").commitIndex, 3)
    cluster.heal()
    cluster.isolate("s1")
    cluster.nowMs += 1000
    cluster.timeout("s5")
    cluster.settle()
    assert.notInclude(cluster.leaders(), "s5")
    cluster.converge()
    for (const id of cluster.ids) assert.deepEqual(cluster.termsOf(id).slice(0, 3), [1, 2, 4])
  })

  it("a majority is needed: of five, two copies commit nothing and three do", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3", "n4", "n5"] })
    cluster.elect("n1")
    cluster.propose("n1", "a")
    cluster.settle(({ from, to }) => from === "n2" || to === "n2")
    assert.strictEqual(cluster.state("n1").commitIndex, 1)
    cluster.settle(({ from, to }) => from === "n3" || to === "n3")
    assert.strictEqual(cluster.state("n1").commitIndex, 2)
  })

  it("a learner's copy does not count", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], learners: ["n4", "n5"] })
    cluster.elect("n1")
    for (const id of ["n2", "n3"]) cluster.isolate(id)
    cluster.propose("n1", "a")
    cluster.settle()
    assert.strictEqual(cluster.state("n4").log.lastIndex, 2)
    assert.strictEqual(cluster.state("n1").commitIndex, 1)
  })
})

describe("rule L6: nothing is acknowledged before it is durable", () => {
  it("a follower's match waits for its write", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.holdDisk("n2")
    cluster.holdDisk("n3")
    cluster.propose("n1", "a")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, 1)
    cluster.flush("n2")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, 2)
  })

  it("a match for entries whose earlier write is still pending waits for that write", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.holdDisk("n2")
    cluster.propose("n1", "a")
    const [sent] = cluster.drop(({ to }) => to === "n2")
    assert.isDefined(sent)
    if (sent === undefined) return
    for (let i = 0; i < 3; i++) cluster.hand(sent)
    assert.lengthOf(cluster.packets.filter(isMatch), 0)
    const promising = cluster.disk("n2").waiting.filter((job) => job.then[0]?._tag === "Send")
    assert.deepEqual(promising.map((job) => job.write.entries.length), [1, 0, 0])
    cluster.flush("n2", 1)
    assert.lengthOf(cluster.packets.filter(isMatch), 1)
    cluster.flush("n2")
    assert.lengthOf(cluster.packets.filter(isMatch), 3)
  })

  it("a match for what is committed, but not known to be on this disk, waits too", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.run(100)
    cluster.holdDisk("n2")
    cluster.propose("n1", "a")
    cluster.settle()
    cluster.timeout("n1")
    const heartbeat = cluster.packets.find(({ to }) => to === "n2")
    cluster.settle()
    assert.deepEqual([cluster.state("n2").commitIndex, cluster.state("n2").lastApplied], [2, 1])
    if (heartbeat !== undefined) cluster.hand(heartbeat)
    const matches = cluster.packets.map(({ message }) => message).filter((message) =>
      message._tag === "AppendEntriesResponse"
    )
    assert.deepEqual(matches.map(({ result }) => result), [{ _tag: "Matched", matchIndex: 1 }])
  })

  it("a leader counts itself only after its own disk has the entry", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.run(100)
    cluster.isolate("n3")
    cluster.holdDisk("n1")
    cluster.propose("n1", "a")
    cluster.settle()
    assert.strictEqual(cluster.disk("n2").entries.length, 2)
    assert.strictEqual(cluster.state("n1").commitIndex, 1)
    cluster.flush("n1")
    assert.strictEqual(cluster.state("n1").commitIndex, 2)
  })

  it("a leader with a slow disk commits with a majority of the others, but applies only what it holds durably", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.holdDisk("n1")
    cluster.propose("n1", "a")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, 2)
    assert.strictEqual(cluster.server("n1").applied.length, 1)
    cluster.releaseDisk("n1")
    assert.deepEqual(cluster.server("n1").applied.map((entry) => textOf(entry.payload)), ["-", "a"])
  })

  it("entries leave for the followers while the leader's own write is under way (thesis §10.2.1)", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.holdDisk("n1")
    cluster.propose("n1", "a")
    assert.deepEqual(cluster.packets.map(({ message, to }) => [to, message._tag]), [
      ["n2", "AppendEntries"],
      ["n3", "AppendEntries"]
    ])
  })

  it("a late completion from an older leadership proves nothing about a replaced entry (ABA)", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.isolate("n1")
    cluster.holdDisk("n1")
    cluster.propose("n1", "lost")
    const own = cluster.disk("n1").waiting[0]?.then[0]
    assert.deepEqual(own?._tag === "Send" ? own.to : undefined, "n1")
    cluster.elect("n2")
    cluster.heal()
    cluster.timeout("n2")
    cluster.settle()
    assert.deepEqual(cluster.termsOf("n1"), [1, 2])
    cluster.releaseDisk("n1")
    cluster.settle()
    // Again a leader, with a no-op that is not on its disk yet: it has proved nothing in this leadership.
    cluster.holdDisk("n1")
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle()
    cluster.flush("n1")
    cluster.settle(({ message }) => message._tag !== "AppendEntries")
    const proved = () => cluster.leaderState("n1").role.progress.get("n1")?.matchIndex
    assert.strictEqual(proved(), 0)
    if (own?._tag === "Send") cluster.step("n1", received("n1", own.message))
    assert.strictEqual(proved(), 0)
    cluster.releaseDisk("n1")
    assert.strictEqual(proved(), 3)
  })

  it("a follower's pending write for an old leader cannot answer for the entry that replaced it", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3", "n4", "n5"] })
    cluster.elect("n1")
    cluster.holdDisk("n3")
    cluster.propose("n1", "lost")
    cluster.settle(({ to }) => to === "n3")
    cluster.drop()
    const late = cluster.disk("n3").waiting[0]?.then[0]
    cluster.isolate("n1")
    cluster.elect("n2")
    assert.deepEqual(cluster.termsOf("n3"), [1, 2])
    const proved = () => cluster.leaderState("n2").role.progress.get("n3")?.matchIndex
    if (late?._tag === "Send") cluster.step("n2", received("n3", late.message))
    assert.strictEqual(proved(), 0)
    cluster.flush("n3", 1)
    cluster.settle()
    assert.strictEqual(proved(), 0)
    cluster.releaseDisk("n3")
    cluster.settle()
    assert.strictEqual(proved(), 2)
  })

  it("a heartbeat is answered at once although the disk is stalled, up to what is applied", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.run(100)
    cluster.holdDisk("n2")
    cluster.propose("n1", "a")
    cluster.settle()
    cluster.timeout("n1")
    cluster.settle(({ to }) => to === "n2")
    const answers = cluster.packets.filter(({ from }) => from === "n2").map(({ message }) => message)
    assert.deepEqual(answers, [
      { _tag: "AppendEntriesResponse", term: 1, round: 0, result: { _tag: "Matched", matchIndex: 1 } }
    ])
  })

  it("stalled disks of all followers delay no read and topple no leader", () => {
    const cluster = three()
    cluster.elect("n1")
    cluster.run(100)
    cluster.holdDisk("n2")
    cluster.holdDisk("n3")
    cluster.propose("n1", "a")
    cluster.run(3000)
    assert.deepEqual(cluster.leaders(), ["n1"])
    const read = cluster.read("n1")
    cluster.settle()
    assert.deepEqual(cluster.replies.get(read), { _tag: "Served", index: 1 })
  })

  it("a follower that restarts has applied nothing, so it promises nothing without its disk", () => {
    const before = node({ terms: [1, 1], term: 1 })
    const heartbeat = received("n2", {
      _tag: "AppendEntries",
      term: 1,
      prev: { term: 1, index: 2 },
      entries: [],
      leaderCommit: 2,
      round: 0
    })
    const { promised, sent } = stepped(before, heartbeat, 1000)
    const matches = [...sent, ...promised].map(({ message }) =>
      message._tag === "AppendEntriesResponse" && message.result._tag === "Matched" ? message.result.matchIndex : -1
    )
    assert.deepEqual([sent.length, promised.length, matches], [1, 1, [0, 2]])
  })
})

describe("§5.3: what is committed is applied", () => {
  it("in order, each once, and the driver is asked for exactly what became committed", () => {
    const before = node({ terms: [1, 1, 1], term: 2 })
    const { commands } = stepped(
      before,
      received("n2", {
        _tag: "AppendEntries",
        term: 2,
        prev: origin,
        entries: [...entriesOf([1, 1, 1]), entry(2, 4)],
        leaderCommit: 4,
        round: 0
      }),
      1000
    )
    assert.deepEqual(commands.filter((command) => command._tag === "Apply"), [{ _tag: "Apply", from: 1, to: 4 }])
  })
})
