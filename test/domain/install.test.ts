/** The receiver of InstallSnapshot, once all of it is here (paper §7, Figure 13). */
import { assert, describe, it } from "@effect/vitest"
import { type Configuration, ofVoters } from "../../src/domain/Configuration.ts"
import { type Entry, type EntryId, origin } from "../../src/domain/Entry.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import { BrokenPromise } from "../../src/domain/Invariants.ts"
import * as Log from "../../src/domain/Log.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import * as NodeStates from "../../src/domain/NodeState.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import { after, entriesOf, entry, node, type Outcome, received, settingsWith, stepped } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

const at = (term: number, index: number): EntryId => ({ term, index })

/** Another one than the followers of these tests start with. */
const five: Configuration = ofVoters(["n1", "n2", "n3", "n4", "n5"])

const snapshotOf = (last: EntryId, configuration = five): Snapshot => ({ last, configuration, sizeBytes: 9 })

const installs = (last: EntryId, term = 5, from = "n2"): Event => ({
  _tag: "SnapshotReceived",
  from,
  term,
  snapshot: snapshotOf(last)
})

/** Terms 1 1 2 2 2, of which the first two are committed. */
const follower = stepped(
  node({ terms: [1, 1, 2, 2, 2], term: 5 }),
  received("n2", { _tag: "AppendEntries", term: 5, prev: at(1, 2), entries: [], leaderCommit: 2, round: 0 }),
  1000
).state

const termsIn = ({ log }: NodeState): ReadonlyArray<number> =>
  Log.slice(log, { from: Log.firstIndex(log), to: log.lastIndex }).map((entry) => entry.term)

const writeOf = ({ commands }: Outcome) => commands.find((command) => command._tag === "Persist")?.write

const matchIn = (outcome: Outcome): ReadonlyArray<number> =>
  outcome.promised.flatMap(({ message }) =>
    message._tag === "AppendEntriesResponse" && message.result._tag === "Matched" ? [message.result.matchIndex] : []
  )

describe("§7, Figure 13: a snapshot that the follower needs", () => {
  it("whose last entry the log holds: the entries after it stay", () => {
    const outcome = stepped(follower, installs(at(2, 4)), 1000)
    assert.deepEqual(termsIn(outcome.state), [1, 1, 2, 2, 2])
    assert.deepEqual(writeOf(outcome), {
      hardState: undefined,
      install: { snapshot: snapshotOf(at(2, 4)), keepsLog: true },
      entries: []
    })
  })

  it("otherwise the whole log gives way to it, entries of another term beyond its end included", () => {
    for (const last of [at(2, 9), at(3, 4), at(3, 5)]) {
      const outcome = stepped(follower, installs(last), 1000)
      assert.deepEqual(outcome.state.log, Log.empty(last))
      assert.deepEqual(writeOf(outcome)?.install, { snapshot: snapshotOf(last), keepsLog: false })
    }
  })

  it("its last entry is committed then, its configuration in force (rule M2), and it is the latest", () => {
    for (const last of [at(2, 4), at(2, 9)]) {
      const { state } = stepped(follower, installs(last), 1000)
      assert.strictEqual(state.commitIndex, last.index)
      assert.deepEqual(state.snapshot, snapshotOf(last))
    }
    assert.strictEqual(stepped(follower, installs(at(2, 9)), 1000).state.configuration.latest, five)
    const kept = stepped(follower, installs(at(2, 4)), 1000).state.configuration
    assert.strictEqual(kept, follower.configuration, "a log that stays knows its configurations")
  })

  it("the state machine is restored after the write, and nothing before it is applied any more", () => {
    const { commands } = stepped(follower, installs(at(2, 9)), 1000)
    assert.deepEqual(commands.map(({ _tag }) => _tag), ["Persist", "Restore", "AnnounceConfiguration"])
    assert.deepEqual(commands[1], { _tag: "Restore", last: at(2, 9) })
  })

  it("what was applied is not lost on the way: lastApplied follows the restored state", () => {
    const installed = stepped(follower, installs(at(2, 9)), 1000).state
    assert.strictEqual(installed.lastApplied, 0)
    const late = stepped(installed, { _tag: "Applied", index: 2, logTimeMs: 0 }, 1000)
    assert.deepEqual([late.state.lastApplied, late.commands], [2, []])
    assert.strictEqual(stepped(late.state, { _tag: "Applied", index: 9, logTimeMs: 0 }, 1000).state.lastApplied, 9)
  })

  it("rule L6: it is acknowledged, up to its end, only with the write", () => {
    for (const last of [at(2, 4), at(2, 9)]) {
      const outcome = stepped(follower, installs(last), 1000)
      assert.deepEqual([outcome.sent, matchIn(outcome)], [[], [last.index]])
    }
  })

  it("entries that follow it are appended to it", () => {
    const entries = entriesOf([5, 5], 10)
    const append = received("n2", {
      _tag: "AppendEntries",
      term: 5,
      prev: at(2, 9),
      entries,
      leaderCommit: 11,
      round: 0
    })
    const { commands, state } = after(follower, [installs(at(2, 9)), append], 1000)
    assert.deepEqual([termsIn(state), state.commitIndex], [[5, 5], 11])
    assert.deepEqual(commands.filter(({ _tag }) => _tag === "Apply"), [{ _tag: "Apply", from: 10, to: 11 }])
  })

  it("a second one, later still, takes its place", () => {
    const { state } = after(follower, [installs(at(2, 9)), installs(at(5, 20))], 1000)
    assert.deepEqual([state.log, state.commitIndex], [Log.empty(at(5, 20)), 20])
  })

  it("no snapshot is due for what it stands for, nor one of this server's own that was under way", () => {
    const settings = { snapshotEntries: 3, logTailEntriesMax: 0 }
    const before = stepped(
      node({ terms: [1, 1, 2, 2, 2], term: 5, settings }),
      received("n2", { _tag: "AppendEntries", term: 5, prev: at(2, 5), entries: [], leaderCommit: 4, round: 0 }),
      1000
    ).state
    const asked = stepped(before, { _tag: "Applied", index: 4, logTimeMs: 0 }, 1000).state
    assert.isTrue(asked.isTakingSnapshot)
    const own: Event = { _tag: "SnapshotTaken", snapshot: snapshotOf(at(2, 4)) }
    const { commands, state } = after(
      asked,
      [installs(at(2, 9)), { _tag: "Applied", index: 9, logTimeMs: 0 }, own],
      1000
    )
    assert.deepEqual([commands, state.snapshot.last, state.log.prev], [[], at(2, 9), at(2, 9)])
    assert.isFalse(state.isTakingSnapshot)
  })
})

describe("§7, Figure 13: a snapshot that the follower does not need", () => {
  it("at or below the commit index it changes nothing, and is acknowledged so that the leader goes on (rule L7)", () => {
    for (const last of [at(1, 1), at(1, 2)]) {
      const outcome = stepped(follower, installs(last), 1000)
      assert.strictEqual(outcome.state.log, follower.log)
      assert.deepEqual([outcome.state.commitIndex, outcome.state.snapshot.last], [2, origin])
      assert.deepEqual(matchIn(outcome), [2])
      assert.deepEqual(outcome.commands.filter(({ _tag }) => _tag === "DiscardSnapshot"), [{
        _tag: "DiscardSnapshot",
        last
      }])
    }
  })

  it("of an older term it is discarded, and whoever sent it learns nothing from it", () => {
    const { commands, state } = stepped(follower, installs(at(2, 9), 4), 1000)
    assert.deepEqual(commands, [{ _tag: "DiscardSnapshot", last: at(2, 9) }])
    assert.strictEqual(state, follower)
  })

  it("of a term that no election ever reached it is discarded", () => {
    const { commands, state } = stepped(follower, installs(at(2, 9), 2 ** 47), 1000)
    assert.deepEqual([commands, state === follower], [[{ _tag: "DiscardSnapshot", last: at(2, 9) }], true])
  })

  it("a copy of one that is still being installed is not discarded: the write needs it", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { logTailEntriesMax: 0 } })
    cluster.elect("n1")
    cluster.isolate("n3")
    cluster.propose("n1", "a", "b")
    cluster.settle()
    cluster.takeSnapshot("n1")
    cluster.heal()
    cluster.holdDisk("n3")
    cluster.timeout("n1")
    cluster.settle(({ message }) => message._tag !== "InstallSnapshot")
    const [sent] = cluster.packets
    assert.strictEqual(sent?.message._tag, "InstallSnapshot")
    if (sent !== undefined) { for (let i = 0; i < 3; i++) cluster.hand(sent) }
    cluster.releaseDisk("n3")
    assert.strictEqual(cluster.server("n3").appliedIndex, 3)
    if (sent !== undefined) cluster.hand(sent)
    assert.deepEqual([...cluster.disk("n3").received], [], "once it is installed, a copy is of no use")
  })
})

describe("Figure 2, Rules for Servers: the term of a snapshot", () => {
  it("a newer one is adopted and written with the snapshot, and its sender is the leader", () => {
    const outcome = stepped(follower, installs(at(2, 9), 7, "n3"), 1000)
    assert.deepEqual(outcome.state.role, { _tag: "Follower", leaderId: "n3" })
    assert.deepEqual([outcome.state.term, outcome.state.votedFor], [7, undefined])
    assert.deepEqual(writeOf(outcome), {
      hardState: { term: 7, votedFor: undefined },
      install: { snapshot: snapshotOf(at(2, 9)), keepsLog: false },
      entries: []
    })
    assert.deepEqual(matchIn(outcome), [9])
  })

  it("a candidate gives way to the leader of its term, and keeps its vote (rule V2)", () => {
    const candidate = stepped(node({ term: 4, settings: { preVote: false } }), ticked, 1000).state
    assert.strictEqual(candidate.role._tag, "Candidate")
    const { state } = stepped(candidate, installs(at(2, 9)), 1000)
    assert.deepEqual([state.role, state.votedFor], [{ _tag: "Follower", leaderId: "n2" }, "n1"])
  })

  it("two leaders of a term are impossible, so a leader that gets a snapshot of its term stops", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.elect("n1")
    const snapshot = snapshotOf(at(1, 9), ofVoters(["n1", "n2", "n3"]))
    assert.throws(() => cluster.receiveSnapshot("n1", "n2", { term: 1, snapshot }), BrokenPromise, "Election Safety")
    cluster.step("n1", { _tag: "SnapshotPieceReceived", from: "n2", term: 0 })
    const piece: Event = { _tag: "SnapshotPieceReceived", from: "n2", term: 1 }
    assert.throws(() => cluster.step("n1", piece), BrokenPromise, "Election Safety")
  })

  it("a leader gives way to one of a later term", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.elect("n1")
    cluster.step("n1", { _tag: "SnapshotPieceReceived", from: "n2", term: 3 })
    assert.deepEqual(cluster.state("n1").role, { _tag: "Follower", leaderId: "n2" })
    assert.strictEqual(cluster.state("n1").term, 3)
  })

  it("rule V10: the pieces of the current leader put the election off, those of an older one do not, nor the end", () => {
    const resets = (event: Event) => stepped(follower, event, 1100).state.deadlineMs !== follower.deadlineMs
    assert.isTrue(resets({ _tag: "SnapshotPieceReceived", from: "n2", term: 5 }))
    assert.isTrue(resets({ _tag: "SnapshotPieceReceived", from: "n3", term: 6 }))
    assert.isFalse(resets({ _tag: "SnapshotPieceReceived", from: "n3", term: 4 }))
    assert.isFalse(resets(installs(at(2, 9))))
  })
})

describe("rule M2: a server after a restart", () => {
  const three = ofVoters(["n1", "n2", "n3"])
  const restarted = (last: EntryId, prev: EntryId, entries = entriesOf([1, 1, 1], prev.index + 1)): Configuration =>
    NodeStates.make({
      id: "n1",
      settings: settingsWith({}),
      configuration: three,
      hardState: { term: 3, votedFor: undefined },
      snapshot: { last, configuration: five, sizeBytes: 9 },
      prev,
      entries,
      logTimeMs: 0,
      random: 1,
      nowMs: 0
    }).configuration.latest

  it("has the latest configuration that its log holds, and the one of the log's start where it holds none", () => {
    const changes: ReadonlyArray<Entry> = [entry(1, 6), {
      term: 1,
      index: 7,
      payload: { _tag: "Configuration", configuration: five }
    }]
    assert.deepEqual(restarted(at(1, 7), at(1, 5), changes), five)
    assert.deepEqual(restarted(origin, at(1, 5), changes), five, "committed or not")
    assert.deepEqual(restarted(at(1, 7), at(1, 5)), three)
    assert.deepEqual(restarted(origin, at(1, 5)), three, "the snapshot is lost")
    assert.deepEqual(restarted(origin, origin), three, "there is none")
  })

  it("what the snapshot stands for is committed and applied, and what the log gave up is committed", () => {
    const counters = (given: Parameters<typeof node>[0]) => {
      const { commitIndex, lastApplied } = node(given)
      return [commitIndex, lastApplied]
    }
    const terms = [1, 1, 1, 1]
    assert.deepEqual(counters({ prev: at(1, 5), snapshot: at(1, 7), terms }), [7, 7])
    assert.deepEqual(counters({ prev: at(1, 5), terms }), [5, 5])
    assert.deepEqual(counters({ prev: at(1, 5), snapshot: origin, terms }), [5, 0])
  })

  it("has the same configuration as before the crash", () => {
    const { state } = stepped(follower, installs(at(2, 9)), 1000)
    const again = node({ prev: at(2, 9), term: 5, configuration: state.configuration.latest })
    assert.deepEqual([again.configuration.latest, again.commitIndex, again.lastApplied], [five, 9, 9])
  })
})
