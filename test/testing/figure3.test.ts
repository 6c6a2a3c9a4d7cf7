/**
 * What is watched between servers: each property of Figure 3 is found when it is broken, by states that no correct server would take, and
 * nothing is found in what is right.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Command, emptyWrite } from "../../src/domain/Command.ts"
import { ofVoters } from "../../src/domain/Configuration.ts"
import { command, type Entry, noop, origin } from "../../src/domain/Entry.ts"
import * as Log from "../../src/domain/Log.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { LeaderState, NodeState } from "../../src/domain/NodeState.ts"
import { none } from "../../src/domain/Snapshot.ts"
import { type Durable, Figure3, Violation } from "../../src/testing/Figure3.ts"
import { bytesOf, entriesOf, entry, type GivenNode, node } from "../domain/Given.ts"

/** Servers whose disks nobody can look at. */
const blind = () => new Figure3(() => undefined)

const leading = (given: GivenNode, commitIndex = 0): LeaderState => ({
  ...node(given),
  commitIndex,
  role: {
    _tag: "Leader",
    progress: new Map(),
    termStartIndex: 1,
    round: 0,
    pendingReads: [],
    waitingReads: [],
    waitingAsks: [],
    sentRounds: [],
    readLeaseUntilMs: -Infinity,
    uncommittedBytes: 0,
    reconfiguring: [],
    catchUps: new Map(),
    transfer: undefined,
    hasHandedOver: false
  }
})

const following = (given: GivenNode, commitIndex = 0): NodeState => ({ ...node(given), commitIndex })

const persist = (entries: ReadonlyArray<Entry>): ReadonlyArray<Command> => [
  { _tag: "Persist", write: { ...emptyWrite, entries }, then: [] }
]

/** The server `given` wins its election. */
const elect = (figure3: Figure3, given: GivenNode): void => figure3.sawStep(node(given), leading(given), [])

/** The leader `given` commits up to `to`, from nothing. */
const commit = (figure3: Figure3, given: GivenNode, to: number): void =>
  figure3.sawStep(leading(given), leading(given, to), [])

const propertyOf = (check: () => void): string => {
  try {
    check()
  } catch (error) {
    if (!(error instanceof Violation)) throw error
    assert.isTrue(error.message.startsWith(`${error.property}: `), error.message)
    return error.property
  }
  return "nothing"
}

const durable = (terms: ReadonlyArray<number>, hardState: Partial<Durable["hardState"]> = {}): Durable => ({
  hardState: { term: Math.max(0, ...terms), votedFor: undefined, ...hardState },
  snapshot: none(ofVoters(["n1", "n2", "n3"])),
  prev: origin,
  configuration: ofVoters(["n1", "n2", "n3"]),
  entries: entriesOf(terms)
})

/** Servers with these disks. */
const onDisks = (disks: Readonly<Record<string, Durable>>) => new Figure3((id) => disks[id])

describe("Election Safety", () => {
  it("is broken by two leaders of one term", () => {
    const figure3 = blind()
    elect(figure3, { id: "n1", term: 3 })
    assert.strictEqual(propertyOf(() => elect(figure3, { id: "n2", term: 3 })), "Election Safety")
  })

  it("holds where leaders have terms of their own, and where one is seen twice", () => {
    const figure3 = blind()
    elect(figure3, { id: "n1", term: 3 })
    elect(figure3, { id: "n2", term: 4 })
    elect(figure3, { id: "n1", term: 3 })
    assert.deepStrictEqual([...figure3.leaders], [[3, "n1"], [4, "n2"]])
  })
})

describe("Log Matching", () => {
  const sawLog = (figure3: Figure3, id: string, terms: ReadonlyArray<number>, from = 1) => {
    const { log } = node({ terms })
    figure3.sawEntries(id, log, Log.slice(log, { from, to: log.lastIndex }))
  }

  it("is broken by one index and term with two payloads", () => {
    for (const payload of [command(bytesOf("other")), noop]) {
      const figure3 = blind()
      sawLog(figure3, "n1", [1, 1])
      const log = Log.append(Log.empty({ term: 0, index: 0 }), [entry(1, 1), { term: 1, index: 2, payload }])
      const found = propertyOf(() => figure3.sawEntries("n2", log, Log.slice(log, { from: 2, to: 2 })))
      assert.strictEqual(found, "Log Matching")
    }
  })

  it("is broken by an entry that follows different ones in two logs", () => {
    const figure3 = blind()
    sawLog(figure3, "n1", [1, 3])
    assert.strictEqual(propertyOf(() => sawLog(figure3, "n2", [2, 3], 2)), "Log Matching")
  })

  it("is broken by what a step writes", () => {
    const figure3 = blind()
    const write = (id: string, terms: ReadonlyArray<number>) =>
      figure3.sawStep(node({ id }), node({ id, terms }), persist(entriesOf(terms).slice(1)))
    write("n1", [1, 3])
    assert.strictEqual(propertyOf(() => write("n2", [2, 3])), "Log Matching")
  })

  it("holds for equal logs, for longer ones, and for logs that part for good", () => {
    const figure3 = blind()
    for (const terms of [[1, 1, 2], [1, 1, 2], [1, 1], [1, 1, 2, 2, 4], [1, 1, 3]]) sawLog(figure3, "n1", terms)
    const log = Log.append(Log.empty({ term: 0, index: 0 }), [{ ...entry(1, 1), payload: command(bytesOf("1.1")) }])
    figure3.sawEntries("n2", log, Log.slice(log, { from: 1, to: 1 }))
  })
})

describe("Leader Completeness", () => {
  it("is broken by a leader whose log lacks what was committed in an earlier term, or holds another entry there", () => {
    for (const terms of [[1], [1, 2]]) {
      const figure3 = blind()
      commit(figure3, { id: "n1", term: 1, terms: [1, 1] }, 2)
      assert.strictEqual(propertyOf(() => elect(figure3, { id: "n2", term: 2, terms })), "Leader Completeness")
    }
  })

  it("asks nothing of a leader of an earlier term: what was committed later it need not have", () => {
    const figure3 = blind()
    commit(figure3, { id: "n1", term: 5, terms: [5] }, 1)
    elect(figure3, { id: "n2", term: 4 })
  })

  it("asks for an entry of an old term only from the term on in which it was committed (Figure 8)", () => {
    const figure3 = blind()
    commit(figure3, { id: "n1", term: 4, terms: [1, 2, 4] }, 3)
    elect(figure3, { id: "n5", term: 3, terms: [1, 3] })
    assert.strictEqual(
      propertyOf(() => elect(figure3, { id: "n5", term: 5, terms: [1, 3] })),
      "Leader Completeness"
    )
  })

  it("holds where the leader has everything, and more", () => {
    const figure3 = blind()
    commit(figure3, { id: "n1", term: 1, terms: [1, 1] }, 2)
    elect(figure3, { id: "n2", term: 2, terms: [1, 1, 1] })
  })
})

describe("State Machine Safety", () => {
  it("is broken by two servers that commit different entries at one index", () => {
    const figure3 = blind()
    commit(figure3, { id: "n1", terms: [1, 1] }, 2)
    const given = { id: "n2", terms: [1, 2] }
    const found = propertyOf(() => figure3.sawStep(following(given), following(given, 2), []))
    assert.strictEqual(found, "State Machine Safety")
  })

  it("is broken by applying what is not committed, or another entry than what is", () => {
    const figure3 = blind()
    const { log } = node({ terms: [1, 1] })
    figure3.sawEntries("n1", log, Log.slice(log, { from: 1, to: 2 }))
    const other = node({ terms: [2] }).log
    figure3.sawEntries("n3", other, Log.slice(other, { from: 1, to: 1 }))
    commit(figure3, { id: "n1", terms: [1, 1] }, 1)
    const apply = (term: number, index: number) => () =>
      figure3.sawApply("n2", { term, index }, bytesOf(`${term}.${index}`))
    assert.strictEqual(propertyOf(apply(1, 1)), "nothing")
    assert.strictEqual(propertyOf(apply(1, 2)), "State Machine Safety")
    assert.strictEqual(propertyOf(apply(2, 1)), "State Machine Safety")
  })

  it("is broken by applying other bytes than the log's, or bytes for a no-op", () => {
    const figure3 = blind()
    const entries = [entry(1, 1), { term: 1, index: 2, payload: noop }]
    const log = Log.append(Log.empty({ term: 0, index: 0 }), entries)
    figure3.sawEntries("n1", log, entries)
    commit(figure3, { id: "n1", terms: [1, 1] }, 2)
    const apply = (index: number, bytes: Uint8Array | undefined) => () =>
      figure3.sawApply("n1", { term: 1, index }, bytes)
    assert.strictEqual(propertyOf(apply(1, bytesOf("1.1"))), "nothing")
    assert.strictEqual(propertyOf(apply(2, undefined)), "nothing")
    assert.strictEqual(propertyOf(apply(1, bytesOf("1.2"))), "State Machine Safety")
    assert.strictEqual(propertyOf(apply(1, bytesOf("1.10"))), "State Machine Safety")
    assert.strictEqual(propertyOf(apply(1, undefined)), "State Machine Safety")
    assert.strictEqual(propertyOf(apply(2, bytesOf("1.2"))), "State Machine Safety")
  })

  it("holds where servers commit the same, each in its own steps, and again after a restart", () => {
    const figure3 = blind()
    commit(figure3, { id: "n1", terms: [1, 1, 2] }, 3)
    const given = { id: "n2", terms: [1, 1, 2] }
    for (const [from, to] of [[0, 1], [1, 3], [0, 2]] as const) {
      figure3.sawStep(following(given, from), following(given, to), [])
    }
    assert.deepStrictEqual(figure3.committed.map(({ index, term }) => `${term}.${index}`), ["1.1", "1.2", "2.3"])
  })
})

describe("entries are applied in order, each once", () => {
  const broken = "entries are applied in order, each once"

  /** All of five entries are committed; the fourth is a no-op. */
  const watched = () => {
    const entries = [1, 2, 3, 4, 5].map((index) => index === 4 ? { term: 1, index, payload: noop } : entry(1, index))
    const figure3 = blind()
    figure3.sawEntries("n1", Log.append(Log.empty({ term: 0, index: 0 }), entries), entries)
    commit(figure3, { id: "n1", terms: [1, 1, 1, 1, 1] }, 5)
    figure3.started("n1")
    const apply = (...indexes: ReadonlyArray<number>) => {
      for (const index of indexes) figure3.sawApply("n1", { term: 1, index }, bytesOf(`1.${index}`))
    }
    return { figure3, apply }
  }
  const applied = (...indexes: ReadonlyArray<number>) => propertyOf(() => watched().apply(...indexes))

  it("finds one that is applied twice, one that comes late and one that is left out, but for a no-op", () => {
    assert.strictEqual(applied(1, 2, 3, 5), "nothing")
    for (const indexes of [[1, 1], [1, 3], [2], [1, 2, 3, 2], [1, 2, 5]]) {
      assert.strictEqual(applied(...indexes), broken, indexes.join(" "))
    }
  })

  it("begins anew with each start of a server", () => {
    const { apply, figure3 } = watched()
    apply(1, 2)
    figure3.started("n1")
    apply(1, 2, 3)
    assert.strictEqual(propertyOf(() => apply(1)), broken)
  })

  it("finds at the end what a server has never applied", () => {
    for (const [indexes, found] of [[[1, 2, 3, 5], "nothing"], [[1, 2, 3], broken], [[], broken]] as const) {
      const { apply, figure3 } = watched()
      apply(...indexes)
      assert.strictEqual(propertyOf(() => figure3.sawEnd("n1", 5)), found)
    }
  })
})

describe("Durability", () => {
  const committed = { id: "n1", terms: [1, 1] }
  const found = (disks: Readonly<Record<string, Durable>>) => propertyOf(() => commit(onDisks(disks), committed, 2))

  it("is broken by a leader that commits what is on the disks of a minority", () => {
    const [full, short, other] = [durable([1, 1]), durable([1]), durable([1, 2])]
    assert.strictEqual(found({ n1: full, n2: short, n3: short }), "Durability (rule L6)")
    assert.strictEqual(found({ n1: full, n2: other, n3: short }), "Durability (rule L6)")
    assert.strictEqual(found({ n1: full, n2: full, n3: short }), "nothing")
    assert.strictEqual(found({ n1: short, n2: full, n3: full }), "nothing")
  })

  it("is broken by a server that starts with another term, vote or log than its disk holds", () => {
    const start = (given: GivenNode) => propertyOf(() => onDisks({ n1: disk }).sawStart(node({ id: "n1", ...given })))
    const disk = durable([1, 1], { term: 3, votedFor: "n2" })
    const broken = "a node starts with what its disk holds (rule V1)"
    assert.strictEqual(start({ term: 3, votedFor: "n2", terms: [1, 1] }), "nothing")
    assert.strictEqual(start({ term: 2, votedFor: "n2", terms: [1, 1] }), broken)
    assert.strictEqual(start({ term: 3, terms: [1, 1] }), broken)
    assert.strictEqual(start({ term: 3, votedFor: "n2", terms: [1] }), broken)
    assert.strictEqual(start({ term: 3, votedFor: "n2", terms: [1, 1, 1] }), broken)
  })

  it("of a commit is asked of leaders: a follower commits what it is told", () => {
    const figure3 = onDisks({ n1: durable([1]), n2: durable([1]), n3: durable([1]) })
    const given = { id: "n2", terms: [1, 1] }
    figure3.sawStep(following(given), following(given, 2), [])
  })

  it("is broken by a server that applies what is not on its own disk", () => {
    const figure3 = onDisks({ n1: durable([1, 1]), n2: durable([1]), n3: durable([1, 1]) })
    figure3.sawEntries("n1", node(committed).log, entriesOf([1, 1]))
    commit(figure3, committed, 2)
    const apply = (id: string) => () => {
      for (const index of [1, 2]) figure3.sawApply(id, { term: 1, index }, bytesOf(`1.${index}`))
    }
    assert.strictEqual(propertyOf(apply("n1")), "nothing")
    assert.strictEqual(propertyOf(apply("n2")), "Durability (rule L6)")
  })
})

describe("what a message promises", () => {
  const sends = (disk: Durable, message: Message, to = "n2") =>
    propertyOf(() => onDisks({ n1: disk }).sawMessage("n1", to, message))

  const vote = (term: number, voteGranted = true): Message => ({ _tag: "RequestVoteResponse", term, voteGranted })
  const matched = (term: number, matchIndex: number): Message => ({
    _tag: "AppendEntriesResponse",
    term,
    round: 1,
    result: { _tag: "Matched", matchIndex }
  })

  it("is a vote that is on disk, for this candidate and this term (rule V1)", () => {
    const broken = "a vote is durable first (rule V1)"
    const voted = (term: number, votedFor: string | undefined) => durable([], { term, votedFor })
    assert.strictEqual(sends(voted(3, "n2"), vote(3)), "nothing")
    assert.strictEqual(sends(voted(3, undefined), vote(3)), broken)
    assert.strictEqual(sends(voted(3, "n3"), vote(3)), broken)
    assert.strictEqual(sends(voted(2, "n2"), vote(3)), broken)
    // A vote that left late: its server has gone on since.
    assert.strictEqual(sends(voted(4, undefined), vote(3)), "nothing")
    assert.strictEqual(sends(voted(2, undefined), vote(3, false)), "nothing")
  })

  it("is one vote a term, whatever happens to the disk in between", () => {
    const disk = durable([], { term: 3, votedFor: "n2" })
    let held: Durable = disk
    const figure3 = new Figure3(() => held)
    figure3.sawMessage("n1", "n2", vote(3))
    figure3.sawMessage("n1", "n2", vote(3))
    held = { ...disk, hardState: { term: 3, votedFor: "n3" } }
    assert.strictEqual(propertyOf(() => figure3.sawMessage("n1", "n3", vote(3))), "one vote a term (rules V1, V2)")
    held = { ...disk, hardState: { term: 4, votedFor: "n3" } }
    figure3.sawMessage("n1", "n3", vote(4))
    // Another voter's vote is its own.
    held = { ...disk, hardState: { term: 3, votedFor: "n3" } }
    figure3.sawMessage("n4", "n3", vote(3))
  })

  it("is a match that is on disk (rule L6)", () => {
    assert.strictEqual(sends(durable([1, 1]), matched(1, 2)), "nothing")
    assert.strictEqual(sends(durable([1]), matched(1, 2)), "a match is durable first (rule L6)")
    // In a later term the log may have been cut since: then the answer is of no use to anybody.
    assert.strictEqual(sends(durable([1], { term: 2 }), matched(1, 2)), "nothing")
  })

  it("is a term that is on disk (rule V1)", () => {
    const last = { term: 1, index: 1 }
    const spoken: ReadonlyArray<Message> = [
      { _tag: "RequestVote", term: 2, last, isTransfer: false },
      { _tag: "AppendEntries", term: 2, prev: last, entries: [], leaderCommit: 0, round: 1 }
    ]
    for (const message of spoken) {
      const broken = "a term is durable before it is spoken of (rule V1)"
      assert.strictEqual(sends(durable([1]), message), broken)
      assert.strictEqual(sends(durable([1], { term: 2 }), message), "nothing")
    }
  })

  it("is nothing in a pre-vote, a refusal or an answer to an old leader, nor where nobody can see the disk", () => {
    const last = { term: 1, index: 1 }
    const result = { _tag: "Rejected", prevIndex: 5, conflict: { term: undefined, index: 2 } } as const
    const empty: ReadonlyArray<Message> = [
      { _tag: "RequestPreVote", term: 9, last },
      { _tag: "RequestPreVoteResponse", term: 9, voteGranted: true },
      { _tag: "AppendEntriesResponse", term: 9, round: 1, result },
      { _tag: "AppendEntriesResponse", term: 9, round: 1, result: { _tag: "Stale" } }
    ]
    for (const message of empty) assert.strictEqual(sends(durable([]), message), "nothing")
    blind().sawMessage("n1", "n2", vote(3))
  })
})
