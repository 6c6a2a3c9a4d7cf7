/** Votes and terms (paper §5.1, §5.2, §5.4.1): rules V1 to V4, V7 and V11. */
import { assert, describe, it } from "@effect/vitest"
import * as Configuration from "../../src/domain/Configuration.ts"
import type { EntryId } from "../../src/domain/Entry.ts"
import { type Event, ticked } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import { after, answersTo, entriesOf, node, type Outcome, received, stepped } from "./Given.ts"
import { PureCluster } from "./PureCluster.ts"

const nothing: EntryId = { term: 0, index: 0 }

const asks = (from: string, term: number, last: EntryId = nothing): Event =>
  received(from, { _tag: "RequestVote", term, last, isTransfer: false })

const votes = (from: string, term: number, voteGranted = true): Event =>
  received(from, { _tag: "RequestVoteResponse", term, voteGranted })

const append = (from: string, term: number, prev: EntryId, terms: ReadonlyArray<number> = []): Event =>
  received(from, {
    _tag: "AppendEntries",
    term,
    prev,
    entries: entriesOf(terms, prev.index + 1),
    leaderCommit: 0,
    round: 0
  })

const grantOf = (outcome: Outcome, to: string): boolean | undefined => {
  const answer = answersTo(outcome, to).find((message) => message._tag === "RequestVoteResponse")
  return answer?.voteGranted
}

const noPreVote = { preVote: false }

const candidate = (given: Parameters<typeof node>[0] = {}): NodeState =>
  stepped(node({ settings: noPreVote, ...given }), ticked, 1000).state

describe("rule V1, §5.2: the vote is durable before anything that depends on it", () => {
  it("a granted vote waits for the one write that holds both the term and the vote", () => {
    const { commands, sent } = stepped(node({ term: 1 }), asks("n2", 3), 1000)
    assert.deepEqual(sent, [])
    const grant: Message = { _tag: "RequestVoteResponse", term: 3, voteGranted: true }
    assert.deepEqual(commands[0], {
      _tag: "Persist",
      write: { hardState: { term: 3, votedFor: "n2" }, install: undefined, entries: [] },
      then: [{ _tag: "Send", to: "n2", message: grant }]
    })
  })

  it("a vote in a term that the voter knows already is written too", () => {
    const { commands } = stepped(node({ term: 3 }), asks("n2", 3), 1000)
    const persist = commands.find((command) => command._tag === "Persist")
    assert.deepEqual(persist?.write.hardState, { term: 3, votedFor: "n2" })
  })

  it("a candidate asks for votes only after its own vote is durable, and counts it only then", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: noPreVote })
    cluster.holdDisk("n1")
    cluster.timeout("n1")
    assert.deepEqual(cluster.packets, [])
    cluster.flush("n1")
    assert.deepEqual(cluster.packets.map(({ message, to }) => [to, message._tag]), [
      ["n2", "RequestVote"],
      ["n3", "RequestVote"]
    ])
    const { role } = cluster.state("n1")
    assert.deepEqual(role._tag === "Candidate" ? [...role.votes] : [], [["n1", true]])
  })

  it("a server that lost power before its vote was durable has told nobody of it", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: noPreVote })
    cluster.isolate("n3")
    cluster.holdDisk("n2")
    cluster.timeout("n1")
    cluster.settle()
    assert.strictEqual(cluster.state("n2").votedFor, "n1")
    cluster.crash("n2")
    cluster.restart("n2")
    assert.deepEqual([cluster.state("n2").term, cluster.state("n2").votedFor], [0, undefined])
    assert.deepEqual([...cluster.figure3.votes], [["n1.1", "n1"]])
  })

  it("a server that restarts remembers its vote and does not vote twice in a term", () => {
    const cluster = new PureCluster({ voters: ["n1", "n2", "n3"], settings: noPreVote })
    cluster.step("n2", asks("n1", 1))
    cluster.crash("n2")
    cluster.restart("n2")
    cluster.drop()
    cluster.step("n2", asks("n3", 1))
    assert.deepEqual(cluster.packets.map((packet) => packet.message), [
      { _tag: "RequestVoteResponse", term: 1, voteGranted: false }
    ])
  })

  it("a repeated request is granted again, behind whatever write still holds the vote", () => {
    const { commands, sent, state } = after(node(), [asks("n2", 1), asks("n2", 1)], 1000)
    assert.deepEqual([sent.length, state.votedFor], [0, "n2"])
    assert.deepEqual(commands.map((command) => command._tag), ["Persist"])
  })
})

describe("rule V2, §5.2: the vote is cleared only when the term grows", () => {
  it("a candidate that steps down for the leader of its term keeps its vote", () => {
    const follower = stepped(candidate(), append("n2", 1, nothing), 1000)
    assert.strictEqual(follower.state.role._tag, "Follower")
    assert.strictEqual(follower.state.votedFor, "n1")
    assert.strictEqual(grantOf(stepped(follower.state, asks("n3", 1), 1000), "n3"), false)
  })

  it("a candidate that lost keeps its vote", () => {
    const lost = after(candidate(), [votes("n2", 1, false), votes("n3", 1, false)], 1000).state
    assert.deepEqual([lost.role._tag, lost.term, lost.votedFor], ["Follower", 1, "n1"])
  })

  it("a voter grants one candidate a term, and another one in a later term", () => {
    const voted = stepped(node(), asks("n2", 1), 1000).state
    assert.strictEqual(grantOf(stepped(voted, asks("n3", 1), 1000), "n3"), false)
    assert.strictEqual(grantOf(stepped(voted, asks("n3", 2), 1000), "n3"), true)
  })

  it("a higher term in an answer clears the vote, and that is written", () => {
    const { commands, state } = stepped(candidate(), votes("n2", 7, false), 1000)
    assert.deepEqual([state.role._tag, state.term, state.votedFor], ["Follower", 7, undefined])
    const persist = commands.find((command) => command._tag === "Persist")
    assert.deepEqual(persist?.write.hardState, { term: 7, votedFor: undefined })
  })
})

describe("rule V3, §5.4.1: logs are compared by last term, then by last index", () => {
  const mine = { terms: [1, 1, 3, 3, 3] }
  const cases: ReadonlyArray<readonly [EntryId, boolean, string]> = [
    [{ term: 3, index: 5 }, true, "an equal log"],
    [{ term: 3, index: 6 }, true, "a longer log with the same last term"],
    [{ term: 3, index: 4 }, false, "a shorter log with the same last term"],
    [{ term: 4, index: 1 }, true, "a shorter log with a later last term"],
    [{ term: 2, index: 9 }, false, "a longer log with an earlier last term"],
    [{ term: 0, index: 0 }, false, "an empty log"]
  ]
  for (const [last, granted, what] of cases) {
    it(`${what} is ${granted ? "granted" : "denied"} the vote and the pre-vote`, () => {
      const vote = stepped(node(mine), asks("n2", 5, last), 1000)
      assert.strictEqual(grantOf(vote, "n2"), granted)
      const preVote = stepped(node(mine), received("n2", { _tag: "RequestPreVote", term: 5, last }), 1000)
      assert.deepEqual(answersTo(preVote, "n2"), [
        { _tag: "RequestPreVoteResponse", term: granted ? 5 : 3, voteGranted: granted }
      ])
    })
  }

  it("a denied request still teaches the voter its term", () => {
    const { state } = stepped(node(mine), asks("n2", 5), 1000)
    assert.deepEqual([state.term, state.votedFor], [5, undefined])
  })
})

describe("rule V4, §6: a voter consults neither its membership nor its role", () => {
  const beliefs = {
    "believes to be a learner": Configuration.make({ voters: ["n2", "n3"], learners: ["n1"] }),
    "believes not to be a member": Configuration.ofVoters(["n2", "n3"])
  }
  for (const [what, configuration] of Object.entries(beliefs)) {
    it(`a server that ${what} answers votes, pre-votes and entries`, () => {
      const before = node({ configuration })
      assert.strictEqual(grantOf(stepped(before, asks("n2", 1), 1000), "n2"), true)
      const preVote = stepped(before, received("n2", { _tag: "RequestPreVote", term: 1, last: nothing }), 1000)
      assert.deepEqual(answersTo(preVote, "n2"), [{ _tag: "RequestPreVoteResponse", term: 1, voteGranted: true }])
      const stored = stepped(before, append("n2", 1, nothing, [1]), 1000)
      assert.strictEqual(stored.state.log.lastIndex, 1)
    })

    it(`a leader is elected with the vote of a server that ${what}`, () => {
      const cluster = new PureCluster({
        voters: ["n1", "n2", "n3"],
        beliefs: { n2: { ...configuration, voters: ["n1", "n3"], learners: [] } }
      })
      cluster.isolate("n3")
      cluster.elect("n1")
      assert.deepEqual(cluster.leaders(), ["n1"])
    })
  }

  it("a server votes for a candidate that it does not know as a member, and takes its entries", () => {
    const before = node()
    assert.strictEqual(grantOf(stepped(before, asks("n9", 1), 1000), "n9"), true)
    const preVote = stepped(before, received("n9", { _tag: "RequestPreVote", term: 1, last: nothing }), 1000)
    assert.deepEqual(answersTo(preVote, "n9"), [{ _tag: "RequestPreVoteResponse", term: 1, voteGranted: true }])
    assert.strictEqual(stepped(before, append("n9", 1, nothing, [1]), 1000).state.log.lastIndex, 1)
  })

  it("a server that believes to be no voter never runs for leader itself", () => {
    const { commands, state } = stepped(node({ configuration: beliefs["believes to be a learner"] }), ticked, 1000)
    assert.deepEqual([commands, state.role._tag, state.term], [[], "Follower", 0])
    assert.isAbove(state.deadlineMs, 1000)
  })
})

describe("rule V7, §5.2: a tally counts distinct voters, of this term and this phase", () => {
  const five = { configuration: Configuration.make({ voters: ["n1", "n2", "n3", "n4", "n5"], learners: ["n6"] }) }
  const roleAfter = (before: NodeState, events: ReadonlyArray<Event>) => after(before, events, 1000).state.role._tag

  it("three votes of five win, and no two", () => {
    assert.strictEqual(roleAfter(candidate(five), [votes("n1", 1), votes("n2", 1)]), "Candidate")
    assert.strictEqual(roleAfter(candidate(five), [votes("n1", 1), votes("n2", 1), votes("n3", 1)]), "Leader")
  })

  it("the same vote twice is one vote", () => {
    assert.strictEqual(roleAfter(candidate(five), [votes("n1", 1), votes("n2", 1), votes("n2", 1)]), "Candidate")
  })

  it("a late denial, of a request of an older term, takes no granted vote back", () => {
    const heard = [votes("n1", 1), votes("n2", 1), votes("n2", 1, false), votes("n3", 1)]
    assert.strictEqual(roleAfter(candidate(five), heard), "Leader")
    const asking = stepped(node(five), ticked, 1000).state
    const grant = (from: string, voteGranted: boolean) =>
      received(from, { _tag: "RequestPreVoteResponse", term: voteGranted ? 1 : 0, voteGranted })
    assert.strictEqual(roleAfter(asking, [grant("n2", true), grant("n2", false), grant("n3", true)]), "Candidate")
  })

  it("votes of a learner and of a stranger do not count", () => {
    const heard = [votes("n1", 1), votes("n2", 1), votes("n6", 1), votes("n7", 1)]
    assert.strictEqual(roleAfter(candidate(five), heard), "Candidate")
  })

  it("grants of a pre-vote are no votes, whatever term they echo", () => {
    const grants = [1, 2].flatMap((term) =>
      ["n1", "n2", "n3", "n4"].map((from) =>
        received(from, { _tag: "RequestPreVoteResponse", term, voteGranted: true })
      )
    )
    assert.strictEqual(roleAfter(candidate(five), grants), "Candidate")
  })

  it("votes of an earlier term do not count", () => {
    const again = stepped(candidate(five), ticked, 2000).state
    assert.strictEqual(again.term, 2)
    assert.strictEqual(roleAfter(again, ["n1", "n2", "n3"].map((from) => votes(from, 1))), "Candidate")
  })

  it("pre-votes for another term than the proposed one do not count", () => {
    const asking = stepped(node({ ...five, term: 4 }), ticked, 1000).state
    const grants = [3, 4, 6].flatMap((term) =>
      ["n2", "n3", "n4"].map((from) => received(from, { _tag: "RequestPreVoteResponse", term, voteGranted: true }))
    )
    assert.strictEqual(roleAfter(asking, grants), "PreCandidate")
  })

  it("votes that arrive after the candidate stepped down elect nobody", () => {
    const late = [append("n5", 1, nothing), ...["n1", "n2", "n3"].map((from) => votes(from, 1))]
    assert.strictEqual(roleAfter(candidate(five), late), "Follower")
  })
})

describe("rule V11, §5.4.1: a vote is decided on one immutable state", () => {
  const last: EntryId = { term: 1, index: 1 }

  it("a request is judged by the log of the state it meets, not by entries that came later", () => {
    const before = node({ terms: [1] })
    const longer = stepped(before, append("n3", 2, last, [2]), 1000).state
    assert.strictEqual(grantOf(stepped(longer, asks("n2", 3, last), 2000), "n2"), false)
    assert.strictEqual(grantOf(stepped(before, asks("n2", 3, last), 2000), "n2"), true)
    assert.deepEqual(Log.lastId(before.log), last)
  })

  it("a step that grants a vote appends nothing, even when entries came in the same turn", () => {
    const { commands } = after(node({ terms: [1] }), [append("n3", 2, last), asks("n2", 3, last)], 1000)
    const grants = stepped(node({ terms: [1] }), asks("n2", 3, last), 1000).commands
    for (const command of [...commands, ...grants]) {
      if (command._tag === "Persist") assert.deepEqual(command.write.entries, [])
    }
  })
})
