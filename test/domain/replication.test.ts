/** The receiver of AppendEntries (paper Figure 2, §5.3): rules L2 to L5. */
import { assert, describe, it } from "@effect/vitest"
import { type Entry, type EntryId, origin } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import { BrokenPromise } from "../../src/domain/Invariants.ts"
import * as Log from "../../src/domain/Log.ts"
import type { AppendEntriesResult } from "../../src/domain/Message.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import {
  after,
  answersTo,
  entriesOf,
  entry,
  node,
  type Outcome,
  randomBelow,
  received,
  repeat,
  stepped
} from "./Given.ts"
import { type Packet, PureCluster } from "./PureCluster.ts"

const appends = (prev: EntryId, entries: ReadonlyArray<Entry>, leaderCommit = 0, term = 5): Event =>
  received("n2", { _tag: "AppendEntries", term, prev, entries, leaderCommit, round: 0 })

const resultOf = (outcome: Outcome): AppendEntriesResult | undefined => {
  const answers = answersTo(outcome, "n2").filter((message) => message._tag === "AppendEntriesResponse")
  return answers[answers.length - 1]?.result
}

const termsIn = ({ log }: NodeState): ReadonlyArray<number> =>
  Log.slice(log, { from: 1, to: log.lastIndex }).map((entry) => entry.term)

const at = (term: number, index: number): EntryId => ({ term, index })

describe("rule L2, Figure 2: a follower commits only what the message proved", () => {
  const stale = node({ terms: [1, 1, 2, 2, 2] })

  it("a heartbeat commits up to its prev, not up to the follower's stale tail", () => {
    assert.strictEqual(stepped(stale, appends(at(1, 2), [], 5), 1000).state.commitIndex, 2)
  })

  it("entries commit up to the last of them, however far the leader is", () => {
    const { state } = stepped(stale, appends(at(1, 1), [entry(1, 2)], 99), 1000)
    assert.deepEqual([state.commitIndex, state.log.lastIndex], [2, 5])
  })

  it("what the leader has not committed is not committed", () => {
    assert.strictEqual(stepped(stale, appends(at(1, 2), entriesOf([3, 3], 3), 3), 1000).state.commitIndex, 3)
  })

  it("a rejected message commits nothing", () => {
    assert.strictEqual(stepped(stale, appends(at(3, 4), [], 5), 1000).state.commitIndex, 0)
  })

  it("an older commit index takes nothing back", () => {
    const { state } = after(stale, [appends(at(2, 5), [], 4), appends(at(2, 5), [], 2)], 1000)
    assert.strictEqual(state.commitIndex, 4)
  })
})

describe("rule L3, §5.3: only a conflict cuts the log", () => {
  const five = node({ terms: [1, 1, 2, 2, 2] })

  it("a shorter message that agrees shrinks nothing and writes nothing", () => {
    for (const message of [appends(at(1, 1), [entry(1, 2)]), appends(at(1, 2), []), appends(origin, [])]) {
      const { commands, state } = stepped({ ...five, term: 5 }, message, 1000)
      assert.deepEqual(termsIn(state), [1, 1, 2, 2, 2])
      for (const command of commands) if (command._tag === "Persist") assert.deepEqual(command.write.entries, [])
    }
  })

  it("the log is cut at the first conflict, and only what is new is written", () => {
    const { commands, state } = stepped(five, appends(at(1, 1), entriesOf([1, 2, 4], 2)), 1000)
    assert.deepEqual(termsIn(state), [1, 1, 2, 4])
    assert.deepEqual(commands[0]?._tag === "Persist" ? commands[0].write.entries : [], [entry(4, 4)])
  })

  it("entries beyond the log are appended after what is already there", () => {
    const { state } = stepped(five, appends(at(2, 4), entriesOf([2, 3, 3], 5)), 1000)
    assert.deepEqual(termsIn(state), [1, 1, 2, 2, 2, 3, 3])
  })

  it("a conflict at or below the commit index stops the server rather than cut there", () => {
    const committed = stepped(five, appends(at(2, 4), [], 4), 1000).state
    for (const first of [3, 4]) {
      const prev = at(Log.termAt(committed.log, first - 1) ?? 0, first - 1)
      assert.throws(() => stepped(committed, appends(prev, [entry(5, first)]), 1000), BrokenPromise)
    }
    assert.deepEqual(termsIn(stepped(committed, appends(at(2, 4), [entry(5, 5)]), 1000).state), [1, 1, 2, 2, 5])
  })

  it("a message whose prev is not held changes nothing, and the answer says where the logs part", () => {
    const missing = stepped(five, appends(at(4, 9), [entry(4, 10)]), 1000)
    assert.deepEqual(termsIn(missing.state), [1, 1, 2, 2, 2])
    assert.deepEqual(resultOf(missing), { _tag: "Rejected", prevIndex: 9, conflict: { term: undefined, index: 6 } })
    const other = stepped(five, appends(at(4, 4), [entry(4, 5)]), 1000)
    assert.deepEqual(termsIn(other.state), [1, 1, 2, 2, 2])
    assert.deepEqual(resultOf(other), { _tag: "Rejected", prevIndex: 4, conflict: { term: 2, index: 3 } })
  })

  it("an old leader's message is refused with the newer term, and nothing else", () => {
    const { sent, state } = stepped({ ...five, term: 9 }, appends(at(2, 5), [entry(5, 6)]), 1000)
    assert.deepEqual([state.log.lastIndex, state.role._tag], [5, "Follower"])
    assert.strictEqual(sent[0]?.message.term, 9)
    assert.strictEqual(state.deadlineMs, five.deadlineMs)
  })

  it("two leaders of a term are impossible, so a leader that hears another one stops", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"] })
    cluster.elect("n1")
    const rival = received("n2", {
      _tag: "AppendEntries",
      term: 1,
      prev: origin,
      entries: [],
      leaderCommit: 0,
      round: 0
    })
    assert.throws(() => cluster.step("n1", rival), "Election Safety")
  })
})

describe("rule L4, §5.3: matchIndex is what an answer proved", () => {
  it("a match names the last entry of the message, never the follower's tail", () => {
    const long = node({ terms: [1, 1, 2, 2, 2] })
    assert.deepEqual(resultOf(stepped(long, appends(at(1, 2), []), 1000)), { _tag: "Matched", matchIndex: 2 })
    assert.deepEqual(resultOf(stepped(long, appends(at(1, 1), [entry(1, 2)]), 1000)), {
      _tag: "Matched",
      matchIndex: 2
    })
  })

  const answers = (from: string, result: AppendEntriesResult): Event =>
    received(from, { _tag: "AppendEntriesResponse", term: 1, round: 0, result })

  const leading = (): PureCluster => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3", "n4", "n5"] })
    cluster.elect("n1")
    cluster.propose("n1", "a", "b", "c")
    cluster.drop()
    return cluster
  }
  const matchOf = (cluster: PureCluster, id: string) => cluster.leaderState("n1").role.progress.get(id)?.matchIndex

  it("within a leadership it only grows: late and repeated answers take nothing back", () => {
    const cluster = leading()
    cluster.step("n1", answers("n2", { _tag: "Matched", matchIndex: 3 }))
    cluster.step("n1", answers("n2", { _tag: "Matched", matchIndex: 2 }))
    cluster.step("n1", answers("n2", { _tag: "Rejected", prevIndex: 2, conflict: { term: undefined, index: 1 } }))
    assert.strictEqual(matchOf(cluster, "n2"), 3)
  })

  it("a rejection's hint beyond the leader's knowledge proves no match", () => {
    const cluster = leading()
    cluster.step("n1", answers("n2", { _tag: "Rejected", prevIndex: 4, conflict: { term: undefined, index: 4 } }))
    assert.strictEqual(matchOf(cluster, "n2"), 1)
    assert.strictEqual(cluster.state("n1").commitIndex, 1)
  })

  it("answers of an earlier leadership or of a stranger prove nothing", () => {
    const cluster = leading()
    const before = cluster.state("n1")
    cluster.step(
      "n1",
      received("n2", {
        _tag: "AppendEntriesResponse",
        term: 0,
        round: 0,
        result: { _tag: "Matched", matchIndex: 4 }
      })
    )
    cluster.step("n1", answers("n9", { _tag: "Matched", matchIndex: 4 }))
    assert.strictEqual(cluster.state("n1"), before)
  })

  it("a match beyond the leader's log is no match", () => {
    const cluster = leading()
    cluster.step("n1", answers("n2", { _tag: "Matched", matchIndex: 9 }))
    assert.strictEqual(matchOf(cluster, "n2"), 1)
  })
})

describe("rule L5, Figure 2: entries are prev+1 … prev+n", () => {
  const before = node({ terms: [1, 1], term: 5 })
  const cases: ReadonlyArray<readonly [string, EntryId, ReadonlyArray<Entry>]> = [
    ["a gap after prev", at(1, 2), [entry(5, 4)]],
    ["an overlap with prev", at(1, 2), [entry(1, 2), entry(5, 3)]],
    ["a gap between entries", at(1, 2), [entry(5, 3), entry(5, 5)]],
    ["an index twice", at(1, 2), [entry(5, 3), entry(5, 3)]],
    ["a term that falls", at(1, 2), [entry(4, 3), entry(3, 4)]],
    ["a term before that of prev", at(1, 2), [entry(0, 3)]],
    ["a term after the leader's", at(1, 2), [entry(6, 3)]]
  ]
  for (const [what, prev, entries] of cases) {
    it(`${what} is not acknowledged, nor stored`, () => {
      const { commands, state } = stepped(before, appends(prev, entries, 9), 1000)
      assert.strictEqual(state, before)
      assert.deepEqual(commands, [])
    })
  }
})

describe("§5.3: the network may repeat, delay and reorder", () => {
  it("an AppendEntries delivered any number of times, in any order, changes no outcome (100 seeds)", () => {
    for (let seed = 0; seed < 100; seed++) {
      const below = randomBelow(seed)
      const cluster = new PureCluster({
        voters: ["n1", "n2", "n3"],
        settings: { appendEntriesMax: 2, inflightMessagesMax: 4 },
        seed
      })
      cluster.elect("n1")
      const seen: Array<Packet> = []
      for (let i = 0; i < 60; i++) {
        if (below(3) === 0) cluster.propose("n1", ...repeat(i, 1 + below(3)).map(String))
        seen.push(...cluster.packets.filter((packet) => !seen.includes(packet)))
        const packet = seen[below(seen.length)]
        if (packet !== undefined) cluster.hand(packet)
        if (below(4) === 0) cluster.drop((packet) => packet === cluster.packets[below(cluster.packets.length)])
      }
      cluster.timeout("n1")
      cluster.settle()
      cluster.timeout("n1")
      cluster.settle()
      for (const id of ["n2", "n3"]) assert.deepEqual(cluster.server(id).applied, cluster.server("n1").applied)
      assert.strictEqual(cluster.state("n1").commitIndex, cluster.state("n1").log.lastIndex)
    }
  })
})
