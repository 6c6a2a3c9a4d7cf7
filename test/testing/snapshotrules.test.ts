/**
 * What is watched of snapshots and of reads that others confirm: found when it is broken, and nothing is found in what is right.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Command } from "../../src/domain/Command.ts"
import { ofVoters } from "../../src/domain/Configuration.ts"
import { type EntryId, origin } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import type { Message, RequestReadIndex, RequestReadIndexResponse } from "../../src/domain/Message.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import { Figure3, holds } from "../../src/testing/Figure3.ts"
import { ReadRules } from "../../src/testing/ReadRules.ts"
import { type GivenNode, node } from "../domain/Given.ts"
import { propertyOf } from "./violations.ts"

const voters = ["n1", "n2", "n3"]

const snapshotOf = (last: EntryId, of = voters): Snapshot => ({ last, configuration: ofVoters(of), sizeBytes: 1 })

/** All of three entries of term 1 are committed. */
const committed = () => {
  const figure3 = new Figure3(() => undefined)
  const before = node({ terms: [1, 1, 1] })
  figure3.sawStep(before, { ...before, commitIndex: 3 }, [])
  return { figure3, before }
}

describe("a snapshot", () => {
  const taken = (snapshot: Snapshot) => {
    const { before, figure3 } = committed()
    return propertyOf(() => figure3.sawStep(before, { ...before, snapshot }, []))
  }

  it("stands for committed entries", () => {
    const broken = "a snapshot stands for committed entries"
    assert.strictEqual(taken(snapshotOf({ term: 1, index: 3 })), "nothing")
    assert.strictEqual(taken(snapshotOf({ term: 2, index: 3 })), broken)
    assert.strictEqual(taken(snapshotOf({ term: 1, index: 4 })), broken)
  })

  it("says who is in the cluster", () => {
    const { before, figure3 } = committed()
    figure3.sawStep(before, { ...before, snapshot: snapshotOf({ term: 1, index: 2 }) }, [])
    const other = { ...before, snapshot: snapshotOf({ term: 1, index: 3 }, ["n1"]) }
    assert.strictEqual(
      propertyOf(() => figure3.sawStep(before, other, [])),
      "a snapshot has the configuration in force (M2)"
    )
  })

  it("is of committed entries when it is sent, too", () => {
    const disk = {
      hardState: { term: 1, votedFor: undefined },
      snapshot: snapshotOf(origin),
      prev: origin,
      configuration: ofVoters(voters),
      entries: []
    }
    const figure3 = new Figure3(() => disk)
    const bytes = new Uint8Array()
    const send = (snapshot: Snapshot) =>
      propertyOf(() => figure3.sawMessage("n1", "n2", { _tag: "InstallSnapshot", term: 1, snapshot, offset: 0, bytes }))
    assert.strictEqual(send(snapshotOf({ term: 1, index: 9 })), "a snapshot stands for committed entries")
  })

  it("counts as applied where it is restored, and never goes back", () => {
    const { figure3 } = committed()
    figure3.started("n1")
    figure3.restored("n1", 2)
    assert.strictEqual(propertyOf(() => figure3.restored("n1", 1)), "entries are applied in order, each once")
  })
})

describe("a disk", () => {
  const disk = {
    hardState: { term: 2, votedFor: undefined },
    snapshot: snapshotOf({ term: 1, index: 5 }),
    prev: { term: 1, index: 5 },
    configuration: ofVoters(voters),
    entries: node({ prev: { term: 1, index: 5 }, terms: [2, 2] }).log.chunks.flat()
  }

  it("holds the entries behind its snapshot by term, and what the snapshot stands for whatever the term", () => {
    assert.isTrue(holds(disk, { term: 2, index: 6 }))
    assert.isFalse(holds(disk, { term: 1, index: 6 }))
    assert.isFalse(holds(disk, { term: 2, index: 8 }))
    assert.isTrue(holds(disk, { term: 1, index: 5 }))
    assert.isFalse(holds(disk, { term: 2, index: 5 }))
    assert.isTrue(holds(disk, { term: 1, index: 2 }))
  })
})

/** Rules that see one step after the other; the states do not matter to them, but for who and when. */
const reading = (settings: GivenNode["settings"] = {}) => {
  const rules = new ReadRules()
  for (const id of voters) rules.started(id)
  const states = new Map(voters.map((id) => [id, node({ id, term: 1, settings })]))
  const step = (id: string, nowMs: number, event: Event, commands: ReadonlyArray<Command> = []) => {
    const state = states.get(id) as NodeState
    return propertyOf(() => rules.saw({ before: state, event, after: state, commands, nowMs }))
  }
  const send = (to: string, message: Message): Command => ({ _tag: "Send", to, message })
  const received = (from: string, message: Message): Event => ({ _tag: "Received", from, message })
  /** n2 hears a heartbeat of n1 and answers it. */
  const heartbeat = (sentMs: number, heardMs: number) => {
    const request: Message = {
      _tag: "AppendEntries",
      term: 1,
      prev: { term: 0, index: 0 },
      entries: [],
      leaderCommit: 0,
      round: 1
    }
    const response: Message = {
      _tag: "AppendEntriesResponse",
      term: 1,
      round: 1,
      result: { _tag: "Matched", matchIndex: 0 }
    }
    step("n1", sentMs, { _tag: "Ticked" }, [send("n2", request)])
    step("n2", sentMs, received("n1", request), [send("n1", response)])
    step("n1", heardMs, received("n2", response))
  }
  return { heartbeat, received, send, step }
}

const serve: Command = { _tag: "ServeRead", requestIds: [7], index: 1 }

describe("a read by lease (R3)", () => {
  const broken = "a lease counts from when an acknowledged round was sent (R3)"
  const asked: Event = { _tag: "Read", requestIds: [7], by: "Lease" }
  const leases = { leaseReads: true, electionTimeoutMsMin: 150, clockDriftPercentMax: 10 }

  it("is served within the lease of a round that a majority acknowledged, counted from when it was sent", () => {
    const { heartbeat, step } = reading(leases)
    heartbeat(1000, 1100)
    assert.strictEqual(step("n1", 1134, asked, [serve]), "nothing")
    assert.strictEqual(step("n1", 1135, asked, [serve]), broken)
  })

  it("is not served by a leader that nobody has answered, nor where leases are off", () => {
    assert.strictEqual(reading(leases).step("n1", 1000, asked, [serve]), broken)
    const off = reading()
    off.heartbeat(1000, 1000)
    assert.strictEqual(off.step("n1", 1001, asked, [serve]), broken)
  })
})

describe("a read of a follower (R2)", () => {
  const question: RequestReadIndex = { _tag: "RequestReadIndex", term: 1, ask: 5 }
  const answer: RequestReadIndexResponse = { _tag: "RequestReadIndexResponse", term: 1, ask: 5, readIndex: 1 }
  const asked: Event = { _tag: "Read", requestIds: [7], by: "Leader" }

  it("is confirmed by a majority that the leader has heard since the question came", () => {
    const { heartbeat, received, send, step } = reading()
    step("n3", 1000, asked, [send("n1", question)])
    step("n1", 1001, received("n3", question))
    heartbeat(1002, 1003)
    assert.strictEqual(step("n1", 1004, { _tag: "Ticked" }, [send("n3", answer)]), "nothing")
    assert.strictEqual(step("n3", 1005, received("n1", answer), [serve]), "nothing")
  })

  it("is not confirmed by what the leader has heard before that", () => {
    const { heartbeat, received, send, step } = reading()
    heartbeat(990, 991)
    step("n3", 1000, asked, [send("n1", question)])
    step("n1", 1001, received("n3", question))
    assert.strictEqual(
      step("n1", 1004, { _tag: "Ticked" }, [send("n3", answer)]),
      "a read is confirmed by a majority that was asked after it came (R2)"
    )
  })

  it("is not confirmed by the answer to a question that was sent before it came", () => {
    const { heartbeat, received, send, step } = reading()
    step("n3", 1000, { _tag: "Ticked" }, [send("n1", question)])
    step("n1", 1001, received("n3", question))
    heartbeat(1002, 1003)
    step("n1", 1004, { _tag: "Ticked" }, [send("n3", answer)])
    step("n3", 1005, asked)
    assert.strictEqual(
      step("n3", 1006, received("n1", answer), [serve]),
      "a read is confirmed by an answer to a question sent after it came (R2)"
    )
  })
})
