/** What a leader sends at once, and how much it holds (thesis §10.2): batches, the window in flight, and rule L10. */
import { assert, describe, it } from "@effect/vitest"
import { sizeBytes } from "../../src/domain/Entry.ts"
import type { AppendEntries } from "../../src/domain/Message.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import { entriesOf, repeat } from "./Given.ts"
import { PureCluster, type Reply } from "./PureCluster.ts"

const leading = (settings: Partial<Settings>): PureCluster => {
  const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings })
  cluster.elect("n1")
  cluster.run(60)
  return cluster
}

const sentTo = (cluster: PureCluster, id: string): ReadonlyArray<AppendEntries> =>
  cluster.packets.filter(({ to }) => to === id).map(({ message }) => message).filter((message) =>
    message._tag === "AppendEntries"
  )

const counts = (messages: ReadonlyArray<AppendEntries>) => messages.map((message) => message.entries.length)

const values = (count: number) => Array.from({ length: count }, (_, i) => `v${i}`)

describe("batches", () => {
  it("proposals that come together are one write and one message per follower", () => {
    const cluster = leading({})
    const from = cluster.records.length
    cluster.propose("n1", ...values(10))
    assert.deepEqual(counts(sentTo(cluster, "n2")), [10])
    assert.deepEqual(counts(sentTo(cluster, "n3")), [10])
    const writes = cluster.records.slice(from).filter(({ command }) => command._tag === "Persist")
    assert.lengthOf(writes, 1)
  })

  it("are bounded by the number of entries", () => {
    const cluster = leading({ appendEntriesMax: 4 })
    cluster.propose("n1", ...values(10))
    assert.deepEqual(counts(sentTo(cluster, "n2")), [4, 4, 2])
  })

  it("are bounded by bytes", () => {
    const cluster = leading({ appendBytesMax: 100 })
    cluster.propose("n1", ...values(10))
    const sent = sentTo(cluster, "n2")
    assert.deepEqual(counts(sent), [3, 3, 3, 1])
    for (const { entries } of sent) {
      assert.isAtMost(entries.reduce((sum, entry) => sum + sizeBytes(entry), 0), 100)
    }
  })

  it("a single entry over the limit still travels, alone", () => {
    const cluster = leading({ appendBytesMax: 100 })
    cluster.propose("n1", "a", new Uint8Array(5000), "b")
    assert.deepEqual(counts(sentTo(cluster, "n2")), [1, 1, 1])
    cluster.run(100)
    assert.strictEqual(cluster.server("n3").applied.length, 4)
  })

  it("a follower that is far behind is sent its entries in batches too", () => {
    const hardState = { term: 1, votedFor: undefined }
    const long = { hardState, entries: entriesOf(repeat(1, 1000)) }
    const cluster = new PureCluster({
      voters: ["n1", "n2", "n3"],
      settings: { appendEntriesMax: 64 },
      disks: { n1: long, n3: long }
    })
    let most = 0
    cluster.observe = ({ event }) => {
      if (event._tag === "Received" && event.message._tag === "AppendEntries") {
        most = Math.max(most, event.message.entries.length)
      }
    }
    cluster.elect("n1")
    cluster.run(100)
    assert.strictEqual(most, 64)
    assert.strictEqual(cluster.state("n2").log.lastIndex, 1001)
  })

  it("entries leave in the order in which they were proposed", () => {
    const cluster = leading({ appendEntriesMax: 3 })
    const ids = [...cluster.propose("n1", ...values(5)), ...cluster.propose("n1", "x")]
    assert.deepEqual(
      ids.map((id) => cluster.replies.get(id)),
      [2, 3, 4, 5, 6, 7].map((index): Reply => ({
        _tag: "Accepted",
        id: { term: 1, index }
      }))
    )
    assert.deepEqual(sentTo(cluster, "n2").flatMap(({ entries }) => entries.map(({ index }) => index)), [
      2,
      3,
      4,
      5,
      6,
      7
    ])
  })
})

describe("the window in flight", () => {
  it("holds at most inflightMessagesMax, and an answer lets the next one out", () => {
    const cluster = leading({ inflightMessagesMax: 3, appendEntriesMax: 1 })
    cluster.propose("n1", ...values(10))
    assert.lengthOf(sentTo(cluster, "n2"), 3)
    cluster.deliverOne(({ to }) => to === "n2")
    cluster.deliverOne(({ from }) => from === "n2")
    assert.lengthOf(sentTo(cluster, "n2"), 3)
    cluster.settle()
    assert.strictEqual(cluster.state("n2").log.lastIndex, 11)
  })

  it("is bounded by bytes", () => {
    const cluster = leading({ inflightBytesMax: 200, appendBytesMax: 100, appendEntriesMax: 1 })
    for (let i = 0; i < 10; i++) cluster.propose("n1", new Uint8Array(76))
    assert.lengthOf(sentTo(cluster, "n2"), 2)
    cluster.settle()
    assert.strictEqual(cluster.state("n2").log.lastIndex, 11)
  })

  it("one answer acknowledges everything before it", () => {
    const cluster = leading({ inflightMessagesMax: 3, appendEntriesMax: 1 })
    cluster.propose("n1", ...values(3))
    cluster.settle(({ to }) => to === "n2")
    cluster.drop(({ from, message }) =>
      from === "n2" && message._tag === "AppendEntriesResponse" && message.result._tag === "Matched"
      && message.result.matchIndex < 4
    )
    cluster.settle(({ from }) => from === "n2")
    const progress = cluster.leaderState("n1").role.progress.get("n2")
    assert.deepEqual(progress?._tag === "Replicate" ? [progress.matchIndex, progress.inflight] : [], [4, []])
  })

  it("a new leader sends one probe, not a window, until the follower has answered", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag !== "AppendEntries")
    for (const value of values(5)) cluster.propose("n1", value)
    assert.lengthOf(sentTo(cluster, "n2"), 1)
    cluster.settle()
    assert.strictEqual(cluster.state("n2").log.lastIndex, 6)
  })
})

describe("rule L10: uncommitted bytes are bounded", () => {
  const settings = { uncommittedBytesMax: 300, appendBytesMax: 300 }
  const overloaded: Reply = { _tag: "Refused", refusal: { _tag: "Overloaded" } }

  it("beyond the bound a proposal is refused as Overloaded; once entries commit there is room again", () => {
    const cluster = leading(settings)
    const big = new Uint8Array(76)
    const first = cluster.propose("n1", big, big, big, big, big)
    assert.deepEqual(first.map((id) => cluster.replies.get(id)?._tag), [
      "Accepted",
      "Accepted",
      "Accepted",
      "Refused",
      "Refused"
    ])
    const [refused] = cluster.propose("n1", "x")
    assert.deepEqual(cluster.replies.get(refused ?? 0), overloaded)
    cluster.settle()
    const [accepted] = cluster.propose("n1", "x")
    assert.strictEqual(cluster.replies.get(accepted ?? 0)?._tag, "Accepted")
    assert.strictEqual(cluster.leaderState("n1").role.uncommittedBytes, 25)
  })

  it("without a quorum the log grows up to the bound and no further", () => {
    const cluster = leading(settings)
    cluster.isolate("n1")
    for (let i = 0; i < 100; i++) cluster.propose("n1", "x")
    assert.strictEqual(cluster.state("n1").log.lastIndex, 1 + 300 / 25)
  })

  it("an idle leader takes one proposal of any size", () => {
    const cluster = leading(settings)
    const [id] = cluster.propose("n1", new Uint8Array(10_000))
    assert.strictEqual(cluster.replies.get(id ?? 0)?._tag, "Accepted")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, 2)
  })

  it("the no-op of a new leader is never refused, and what it inherited counts against nobody", () => {
    const disk = { hardState: { term: 1, votedFor: undefined }, entries: entriesOf(repeat(1, 100)) }
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings, disks: { n1: disk, n2: disk, n3: disk } })
    cluster.nowMs += 1000
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag !== "AppendEntries")
    assert.strictEqual(cluster.state("n1").log.lastIndex, 101)
    const [early] = cluster.propose("n1", "x")
    assert.strictEqual(cluster.replies.get(early ?? 0)?._tag, "Accepted")
    cluster.settle()
    assert.strictEqual(cluster.state("n1").commitIndex, 102)
    assert.strictEqual(cluster.leaderState("n1").role.uncommittedBytes, 0)
  })

  it("a server that does not lead refuses, and says who does", () => {
    const cluster = leading({})
    const [id] = cluster.propose("n2", "x")
    assert.deepEqual(cluster.replies.get(id ?? 0), {
      _tag: "Refused",
      refusal: { _tag: "NotLeader", leaderId: "n1" }
    })
    assert.strictEqual(cluster.state("n2").log.lastIndex, 1)
  })

  it("an empty proposal does nothing at all", () => {
    const cluster = leading({})
    const before = cluster.state("n1")
    cluster.propose("n1")
    assert.strictEqual(cluster.state("n1"), before)
  })
})
