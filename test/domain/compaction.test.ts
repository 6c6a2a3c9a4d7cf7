/** When a snapshot is due, and what it lets the log give up (paper §7). */
import { assert, describe, it } from "@effect/vitest"
import * as Configuration from "../../src/domain/Configuration.ts"
import type { Event } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import type { Settings } from "../../src/domain/Settings.ts"
import { after, node, type Outcome, randomBelow, received, repeat, stepped } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

const configuration = Configuration.ofVoters(["n1", "n2", "n3"])

const applied = (index: number): Event => ({ _tag: "Applied", index, logTimeMs: 0 })

const taken = (index: number, sizeBytes = 0, term = 1): Event => ({
  _tag: "SnapshotTaken",
  snapshot: { last: { term, index }, configuration, sizeBytes }
})

/** A follower with `count` entries of term 1, of which `commit` are committed. */
const following = (count: number, settings: Partial<Settings>, commit = count): NodeState =>
  stepped(
    node({ terms: repeat(1, count), settings: { snapshotGrowthPercent: 0, ...settings } }),
    received("n2", {
      _tag: "AppendEntries",
      term: 1,
      prev: { term: 1, index: count },
      entries: [],
      leaderCommit: commit,
      round: 0
    }),
    1000
  ).state

const isAsked = ({ commands }: Outcome): boolean => commands.some((command) => command._tag === "TakeSnapshot")

/** After which of the entries, applied one by one, a snapshot is asked for. */
const askedAfter = (before: NodeState, indices: ReadonlyArray<number>): ReadonlyArray<number> => {
  let state = before
  return indices.filter((index) => {
    const outcome = stepped(state, applied(index), 1000)
    state = outcome.state
    return isAsked(outcome)
  })
}

const upTo = (last: number, first = 1) => Array.from({ length: last - first + 1 }, (_, i) => first + i)

describe("§7: a snapshot is due", () => {
  it("once snapshotEntries entries were applied since the last one", () => {
    assert.deepEqual(askedAfter(following(9, { snapshotEntries: 5 }), upTo(4)), [])
    assert.deepEqual(askedAfter(following(9, { snapshotEntries: 5 }), upTo(5)), [5])
    const { state } = after(following(20, { snapshotEntries: 5 }), [applied(7), taken(7)], 1000)
    assert.deepEqual(askedAfter(state, upTo(20, 8)), [12])
  })

  it("once their bytes are snapshotBytes", () => {
    const three = 3 * 27
    assert.deepEqual(askedAfter(following(9, { snapshotBytes: three }), upTo(9)), [3])
    assert.deepEqual(askedAfter(following(9, { snapshotBytes: three + 1 }), upTo(9)), [4])
    const { state } = after(following(9, { snapshotBytes: three }), [applied(5), taken(4)], 1000)
    assert.deepEqual(
      askedAfter(state, upTo(9, 6)),
      [7],
      "entry 5 counts though it was applied before the snapshot was durable"
    )
  })

  it("but only once those bytes are snapshotGrowthPercent of the last one: a large state is written less often", () => {
    const grown = (snapshotGrowthPercent: number) => {
      const before = following(20, { snapshotEntries: 1, snapshotGrowthPercent, logTailEntriesMax: 0 })
      return askedAfter(after(before, [applied(1), taken(1, 100)], 1000).state, upTo(9, 2))
    }
    assert.deepEqual([grown(0), grown(27), grown(28), grown(54), grown(100)], [[2], [2], [3], [3], [5]])
  })

  it("not while one is under way, and then counted from the end of that one", () => {
    const { state } = after(following(20, { snapshotEntries: 5 }), [applied(5)], 1000)
    assert.isTrue(state.isTakingSnapshot)
    assert.deepEqual(askedAfter(state, upTo(9, 6)), [])
    const { commands, state: next } = after(state, [applied(9), taken(5)], 1000)
    assert.isFalse(next.isTakingSnapshot || isAsked({ commands, state: next, sent: [], promised: [] }))
    assert.deepEqual(askedAfter(next, upTo(20, 10)), [10])
  })

  it("not for what was applied already, whatever the state machine says again", () => {
    const { state } = after(following(9, { snapshotEntries: 5 }), [applied(4)], 1000)
    for (const index of [4, 3, 0]) assert.strictEqual(stepped(state, applied(index), 1000).state, state)
  })

  it("after a restart, for what is applied beyond the snapshot", () => {
    const restarted = node({ prev: { term: 1, index: 10 }, terms: repeat(1, 9), settings: { snapshotEntries: 5 } })
    assert.deepEqual([restarted.lastApplied, restarted.commitIndex], [10, 10])
    const committed = stepped(
      restarted,
      received("n2", {
        _tag: "AppendEntries",
        term: 1,
        prev: { term: 1, index: 19 },
        entries: [],
        leaderCommit: 19,
        round: 0
      }),
      1000
    )
    assert.deepEqual(committed.commands.filter(({ _tag }) => _tag === "Apply"), [{ _tag: "Apply", from: 11, to: 19 }])
    assert.deepEqual(askedAfter(committed.state, upTo(19, 11)), [15])
  })

  it("on leaders and followers alike, each by itself (§7: servers take snapshots independently)", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: { snapshotEntries: 3 } })
    cluster.elect("n1")
    cluster.propose("n1", "a", "b")
    cluster.run(200)
    assert.deepEqual(
      cluster.ids.map((id) => cluster.disk(id).snapshot.last),
      repeat(1, 3).map((term) => ({ term, index: 3 }))
    )
  })
})

describe("§7: what a snapshot lets the log give up", () => {
  const prevAfter = (before: NodeState, events: ReadonlyArray<Event>): number =>
    after(before, events, 1000).state.log.prev.index

  it("nothing that is not committed or not applied: only what the snapshot stands for", () => {
    const before = following(10, { logTailEntriesMax: 0 }, 8)
    const { commands, state } = after(before, [applied(7), taken(5)], 1000)
    assert.deepEqual(state.log.prev, { term: 1, index: 5 })
    assert.deepEqual([state.log.lastIndex, state.commitIndex, state.lastApplied], [10, 8, 7])
    assert.deepEqual(commands, [{ _tag: "Compact", start: { prev: { term: 1, index: 5 }, configuration } }])
  })

  it("but for a tail of logTailEntriesMax entries", () => {
    for (const logTailEntriesMax of [0, 1, 4, 7]) {
      assert.strictEqual(prevAfter(following(9, { logTailEntriesMax }), [applied(8), taken(8)]), 8 - logTailEntriesMax)
    }
    const { commands, state } = after(following(9, { logTailEntriesMax: 8 }), [applied(8), taken(8)], 1000)
    assert.deepEqual([commands, state.log.prev.index, state.snapshot.last.index], [[], 0, 8])
  })

  it("a tail of at most a quarter of snapshotBytes", () => {
    const tail = (snapshotBytes: number) =>
      9 - prevAfter(following(9, { snapshotBytes, snapshotEntries: 99 }), [applied(9), taken(9)])
    assert.deepEqual([4 * 27 - 1, 4 * 27, 12 * 27 - 1, 12 * 27].map(tail), [0, 1, 2, 3])
  })

  it("the tail against its definition (300 seeds)", () => {
    for (let seed = 0; seed < 300; seed++) {
      const below = randomBelow(seed)
      const settings = { logTailEntriesMax: below(12), snapshotBytes: 1 + below(1500) }
      let state = after(following(40, settings, 35), [applied(30)], 1000).state
      for (const index of [1 + below(15), 16 + below(14)]) {
        const { log } = state
        const fits = (kept: number) =>
          kept <= settings.logTailEntriesMax
          && Log.bytesOf(log, { from: index - kept + 1, to: index }) <= settings.snapshotBytes / 4
        const tail = upTo(index - log.prev.index).filter(fits).length
        state = stepped(state, taken(index), 1000).state
        assert.strictEqual(state.log.prev.index, Math.max(index - tail, log.prev.index), `seed ${seed}`)
        assert.strictEqual(state.log.lastIndex, 40)
      }
    }
  })

  it("a snapshot that is not later than the present one lets nothing go", () => {
    const before = after(following(9, { logTailEntriesMax: 0 }), [applied(8), taken(6)], 1000).state
    for (const index of [3, 6]) {
      const { commands, state } = stepped({ ...before, isTakingSnapshot: true }, taken(index), 1000)
      assert.deepEqual([commands, state], [[], before])
    }
  })

  it("rule M2: the log's new start is told with the configuration in force there", () => {
    const five = Configuration.make({ voters: ["n1", "n2", "n3", "n4", "n5"], learners: ["n6"] })
    const before = {
      ...following(9, { logTailEntriesMax: 2 }),
      configuration: Configuration.beginning({ index: 0, configuration: five })
    }
    const { commands } = after(before, [applied(8), taken(8)], 1000)
    assert.deepEqual(commands, [{ _tag: "Compact", start: { prev: { term: 1, index: 6 }, configuration: five } }])
  })
})
