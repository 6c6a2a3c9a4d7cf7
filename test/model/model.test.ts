/**
 * Every state within small bounds, explored on the core that ships; and that the search finds what it should in cores that are broken on
 * purpose. Larger bounds: `npm run model -- --bound NAME`.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Bounds, custom, problems } from "./bound.ts"
import { byName, named } from "./bounds.ts"
import { type PlantedBug, plantedBugs } from "./plantedBugs.ts"
import { type Sometimes, sometimes } from "./Properties.ts"
import { explore, isPassed, type Options, type Result } from "./Search.ts"

const bound = (name: string): Bounds => {
  const bounds = byName(name)
  if (bounds === undefined) throw new Error(`no bound ${name}`)
  return bounds
}

const reached = (result: Result): ReadonlyArray<string> => sometimes.filter((name) => result.sometimes[name] > 0)

describe("every state within the bound", () => {
  for (const bounds of named.filter((bounds) => bounds.inTests)) {
    it(`${bounds.name}: ${bounds.about}`, { timeout: 120_000 }, () => {
      const result = explore(bounds)
      assert.strictEqual(result.violation, undefined, result.violation?.trace.join("\n"))
      assert.deepStrictEqual(result.missing, [])
      assert.isTrue(result.exhausted)
      assert.strictEqual(result.cut.depth, 0)
      assert.isTrue(isPassed(result))
    })
  }

  it("every named bound can be searched, and every sometimes-property belongs to one", () => {
    assert.deepStrictEqual(named.flatMap(problems), [])
    const asked = new Set(named.flatMap((bounds) => bounds.sometimes))
    assert.deepStrictEqual(sometimes.filter((name) => !asked.has(name)), [])
    assert.strictEqual(new Set(named.map((bounds) => bounds.name)).size, named.length)
  })
})

const seesEverything = "a read sees everything committed before it (rules R1, R2)"
const waitsForDisk = "AppendEntriesResponse waits for the disk (L6, V1)"
const isKept = "a snapshot that is to be installed is kept"
const isWhatTheLogSays = "the configuration in force is what the log says (rule M2)"
const changesInTurn = "the configuration changes when what came before is committed (rules M1, M3)"
const isOnMajority = "a commit is on the disks of a majority (rule L6)"
const isGone = "who was removed neither leads nor stands (rule M6)"

/** What is found, where, and at most how many states it takes; `false` as invariants leaves only what shows from outside. */
const caught: ReadonlyArray<readonly [PlantedBug, string, Options["invariants"], string, number]> = [
  ["commit old terms by counting", "figure-8", true, "a leader commits its own term's entries (L1)", 5_000],
  ["commit old terms by counting", "figure-8", false, "Leader Completeness", 210_000],
  ["a vote leaves before it is written", "elections", true, "RequestVoteResponse waits for the disk (L6, V1)", 10],
  ["a vote leaves before it is written", "elections", false, "a vote is durable first (rule V1)", 10],
  ["RequestVote leaves before the own vote is written", "elections", false, "its term is durable first (rule V1)", 10],
  ["a match leaves before it is written", "elections", false, "a match is durable first (rule L6)", 200],
  ["the own match counts at once", "elections", true, "a commit is on the disks of a majority (rule L6)", 3_000],
  ["a restart forgets the vote", "crashes", true, "one vote a term (rules V1, V2)", 200],
  ["a restart forgets the term", "crashes", true, "one vote a term (rules V1, V2)", 200],
  ["a step-down in the same term clears the vote", "elections", false, "one vote a term (rules V1, V2)", 2_000],
  ["a vote of an older term counts", "elections", true, "its term is durable first (rule V1)", 500],
  ["logs are compared by index before term", "logs", true, "Leader Completeness", 30_000],
  ["a follower commits to its last index", "crashes", true, "State Machine Safety", 35_000],
  ["a log is cut without a conflict", "crashes", true, "a commit is on the disks of a majority (rule L6)", 300_000],
  ["a read does not wait for an entry of the own term", "reads", true, "reads see the own term's no-op (R1)", 100],
  ["a read does not wait for an entry of the own term", "reads", false, seesEverything, 20_000],
  ["any answer confirms reads", "reads", true, seesEverything, 30_000],
  ["a pre-vote records the vote", "pre-vote", true, "a pre-vote changes nothing at the voter (rule V5)", 10],
  ["a pre-vote counts as a vote", "pre-vote", true, "Leader Completeness", 35_000],
  [
    "a log is compacted past its snapshot",
    "lost-snapshots",
    true,
    "a snapshot stands for all that is compacted",
    20_000
  ],
  [
    "a log is compacted past its snapshot",
    "lost-snapshots",
    false,
    "what a disk gives up its snapshot stands for",
    20_000
  ],
  [
    "a log that went another way stays",
    "snapshots",
    true,
    "it is known which configuration a log begins with (M2)",
    100_000
  ],
  ["a log that went another way stays", "snapshots", false, "State Machine Safety", 100_000],
  [
    "a log that holds more gives way",
    "lost-snapshots",
    true,
    "what is committed stays on the disks of a majority",
    80_000
  ],
  [
    "a snapshot older than what is committed is installed",
    "second-snapshots",
    true,
    "lastApplied <= commitIndex",
    50_000
  ],
  ["an install is acknowledged before it is durable", "snapshots", true, waitsForDisk, 12_000],
  ["an install is acknowledged before it is durable", "snapshots", false, "a match is durable first (rule L6)", 12_000],
  ["a snapshot ends in the term of its sender", "snapshots", true, "a snapshot stands for what was committed", 100_000],
  ["a snapshot that waits to be installed is discarded", "copies", true, isKept, 80_000],
  ["a server goes on as if its state were not lost", "lost-snapshots", true, "State Machine Safety", 5_000],
  [
    "a question does not wait for an entry of the own term",
    "questions",
    true,
    "reads see the own term's no-op (R1)",
    150
  ],
  ["a question does not wait for an entry of the own term", "questions", false, seesEverything, 50_000],
  [
    "an answer to an earlier life confirms reads",
    "lives",
    true,
    "an answer to an earlier life confirms no read",
    40_000
  ],
  ["every life asks the same questions", "lives", true, seesEverything, 100_000],
  ["a change waits for no entry of its leader's term", "removals", true, changesInTurn, 500],
  ["a configuration is not rolled back", "removals", true, isWhatTheLogSays, 1_000],
  ["a configuration is in force once it is committed", "removals", true, isWhatTheLogSays, 10],
  ["a configuration is in force once it is committed", "removals", false, "Log Matching", 50],
  ["a restart forgets the configurations in the log", "removals-crashes", true, isWhatTheLogSays, 100],
  ["a restart forgets the configurations in the log", "removals-crashes", false, "Log Matching", 1_000],
  ["a change begins while another one is pending", "removals", true, changesInTurn, 50],
  ["a change begins while another one is pending", "removals", false, "Leader Completeness", 2_000],
  ["only the new majority commits while two are needed", "joint", false, isOnMajority, 300],
  [
    "only the new voters elect while two majorities are needed",
    "joint",
    true,
    "an election is won by the majorities of the configuration in force (rules V7, M4, M5)",
    2_000
  ],
  ["a joint configuration is left before its commit", "joint", true, changesInTurn, 50],
  ["a joint configuration is left before its commit", "joint", false, "Leader Completeness", 20_000],
  ["a learner's match counts", "learners", false, isOnMajority, 50],
  ["a leader that removed itself counts itself", "removals", false, isOnMajority, 100],
  ["a leader that removed itself goes on", "removals", true, isGone, 500],
  ["a server that was removed stands for election", "removals", true, isGone, 1_000],
  [
    "a proposal is taken while leadership is handed over",
    "transfers",
    true,
    "nothing is proposed while leadership is handed over (rule M7)",
    50
  ],
  [
    "a successor is told before it has the log",
    "transfers",
    true,
    "a successor is told by its leader, and has its log (rule M7)",
    50
  ]
]

/** No state that they lead to is wrong; what they keep from happening shows that they are. */
const missed: ReadonlyArray<readonly [PlantedBug, string, Sometimes]> = [
  ["a denial's term is not adopted", "pre-vote", "a denial's term is adopted"],
  ["a rejection is ignored", "elections", "a rejection is repaired"],
  ["a state that was lost is asked for by nobody", "lost-snapshots", "a server gets the state back that it lost"]
]

describe("a core that is broken on purpose", () => {
  for (const [bug, name, invariants, property, states] of caught) {
    it(`${bug}: ${property}${invariants === true ? "" : ", seen from outside"}`, { timeout: 120_000 }, () => {
      const result = explore(bound(name), { ...plantedBugs[bug], invariants: invariants === true })
      assert.strictEqual(result.violation?.property, property)
      assert.isAtMost(result.states, states)
      assert.isFalse(isPassed(result))
      assert.lengthOf(result.violation?.trace ?? [], result.depth + 1)
    })
  }

  for (const [bug, name, situation] of missed) {
    it(`${bug}: never, ${situation}`, { timeout: 120_000 }, () => {
      const result = explore(bound(name), plantedBugs[bug])
      assert.strictEqual(result.violation, undefined)
      assert.deepStrictEqual(result.missing, [situation])
      assert.isFalse(isPassed(result))
    })
  }
})

const tiny = custom({ name: "tiny", messages: 3, crashes: 0, reads: 0, disks: "waited for" })

describe("the search", () => {
  it("fails when it does not reach what it must", () => {
    const result = explore({ ...tiny, sometimes: ["a leader is elected", "a pre-vote is denied"] })
    assert.deepStrictEqual(result.missing, ["a pre-vote is denied"])
    assert.isFalse(isPassed(result))
  })

  it("says the same twice", () => {
    const numbers = (result: Result) => ({ ...result, ms: 0 })
    assert.deepStrictEqual(numbers(explore(tiny)), numbers(explore(tiny)))
  })

  it("reaches the same with and without symmetry", () => {
    const two = custom({ nodes: 2, crashes: 1, messages: 3, reads: 1 })
    const lost = custom({
      nodes: 2,
      messages: 2,
      crashes: 1,
      snapshots: 2,
      damages: 1,
      heartbeats: 2,
      timeouts: 2,
      disks: "waited for"
    })
    for (const bounds of [tiny, two, lost, { ...tiny, snapshots: 1, asks: 1, timeouts: 2 }]) {
      const [folded, unfolded] = [explore(bounds), explore(bounds, { symmetry: false })]
      assert.deepStrictEqual([folded.violation, unfolded.violation], [undefined, undefined])
      assert.deepStrictEqual(reached(folded), reached(unfolded))
      assert.strictEqual(folded.depth, unfolded.depth)
      // Most states have as many names as there are orders of the servers, and none has more.
      const orders = bounds.nodes === 2 ? 2 : 6
      assert.isAtMost(unfolded.states, folded.states * orders)
      assert.isAbove(unfolded.states, folded.states * (orders - 1))
    }
  })

  it("finds the same violation with and without symmetry", () => {
    const core = plantedBugs["a restart forgets the vote"]
    const bounds = custom({ crashes: 1, messages: 4 })
    const [folded, unfolded] = [explore(bounds, core), explore(bounds, { ...core, symmetry: false })]
    assert.strictEqual(folded.violation?.property, unfolded.violation?.property)
    assert.strictEqual(folded.depth, unfolded.depth)
  })

  it("stops at its depth, and says what it left", () => {
    const result = explore({ ...tiny, depth: 5 })
    assert.strictEqual(result.depth, 5)
    assert.isAbove(result.cut.depth, 0)
  })
})
