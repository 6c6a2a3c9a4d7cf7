import { assert, describe, it } from "@effect/vitest"
import { ofVoters } from "../../src/domain/Configuration.ts"
import type { Payload, Sequenced } from "../../src/domain/Entry.ts"
import { ticked } from "../../src/domain/Event.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import * as Session from "../../src/domain/Session.ts"
import { node, randomBelow, received, stepped } from "./Given.ts"

const opening = (timeMs = 0, limits = {}): Extract<Payload, { readonly _tag: "OpenSession" }> => ({
  _tag: "OpenSession",
  timeMs,
  sessionsMax: 3,
  timeoutMs: 1000,
  ...limits
})

const numbered = (session: number, sequence: number, firstUnanswered = 1): Sequenced => ({
  session,
  sequence,
  firstUnanswered
})

const result = (n: number) => Uint8Array.of(n)

/** Executes as the apply loop does; gives the result, or what became of the command instead. */
const apply = (sessions: Session.Sessions, sequenced: Sequenced, value: number, timeMs = 0) => {
  const admitted = sessions.admit(sequenced, timeMs)
  if (admitted._tag === "Expired") return "expired"
  if (admitted._tag === "Execute") sessions.keep(admitted.answer, result(value))
  return admitted.answer.result?.[0]
}

describe("thesis §6.3, rule R4: a command of a session", () => {
  it("is executed once; a retry gets the first answer", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    assert.deepEqual([apply(sessions, numbered(5, 1), 10), apply(sessions, numbered(5, 1), 20)], [10, 10])
    assert.strictEqual(apply(sessions, numbered(5, 2), 30), 30)
    assert.strictEqual(apply(sessions, numbered(5, 1), 40), 10, "several may be under way")
  })

  it("executes in whatever order its numbers come", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    assert.deepEqual([3, 1, 2, 1, 3].map((n, i) => apply(sessions, numbered(5, n), i)), [0, 1, 2, 1, 0])
  })

  it("of another session with the same number is another command", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    sessions.open(6, opening())
    assert.deepEqual([apply(sessions, numbered(5, 1), 1), apply(sessions, numbered(6, 1), 2)], [1, 2])
  })

  it("whose answer the client has seen is not kept, and not executed again", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    for (const n of [1, 2, 3]) apply(sessions, numbered(5, n), n)
    apply(sessions, numbered(5, 4, 3), 4)
    assert.deepEqual(sessions.save().sessions[0]?.answers.map(({ sequence }) => sequence), [3, 4])
    assert.deepEqual([apply(sessions, numbered(5, 2), 9), apply(sessions, numbered(5, 3), 9)], ["expired", 3])
  })

  it("more than the window behind the latest is not executed, whatever the client says that it has seen", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    apply(sessions, numbered(5, 1), 1)
    apply(sessions, numbered(5, Session.answersMax), 2)
    assert.strictEqual(apply(sessions, numbered(5, 1), 9), 1)
    apply(sessions, numbered(5, Session.answersMax + 1), 3)
    assert.strictEqual(apply(sessions, numbered(5, 1), 9), "expired")
    assert.strictEqual(apply(sessions, numbered(5, 2), 4), 4)
  })

  it("never counts as answered itself, whatever its client says", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    assert.deepEqual([apply(sessions, numbered(5, 1, 99), 1), apply(sessions, numbered(5, 1, 99), 2)], [1, 1])
  })
})

describe("thesis §6.3, rule R5: sessions expire by what the log says", () => {
  it("after their time, by the stamps of leaders alone, and never are their commands executed as new", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening(100))
    assert.strictEqual(apply(sessions, numbered(5, 1), 1, 1100), 1)
    assert.strictEqual(apply(sessions, numbered(5, 2), 2, 2100), 2, "used within its time")
    sessions.open(6, opening(3101))
    assert.strictEqual(apply(sessions, numbered(5, 3), 3, 3101), "expired")
    assert.strictEqual(apply(sessions, numbered(5, 1), 3, 3101), "expired")
  })

  it("time never goes back: a leader whose time is behind stops it", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening(5000))
    apply(sessions, numbered(5, 1), 1, 10)
    assert.strictEqual(sessions.timeMs, 5000)
    assert.strictEqual(apply(sessions, numbered(5, 2), 2, 6000), 2)
  })

  it("the least recently used one where there are too many, by the limit in the log", () => {
    const sessions = new Session.Sessions()
    for (const id of [5, 6, 7]) sessions.open(id, opening())
    apply(sessions, numbered(5, 1), 1)
    sessions.open(8, opening())
    assert.deepEqual(sessions.save().sessions.map(({ id }) => id), [7, 5, 8])
    sessions.open(9, opening(0, { sessionsMax: 1 }))
    assert.deepEqual(sessions.save().sessions.map(({ id }) => id), [9])
  })

  it("one that was never opened has none", () => {
    assert.strictEqual(apply(new Session.Sessions(), numbered(5, 1), 1), "expired")
  })
})

describe("the size of the table", () => {
  const MiB = 1 << 20
  const keep = (sessions: Session.Sessions, sequenced: Sequenced, bytes: number) => {
    const admitted = sessions.admit(sequenced, 0)
    if (admitted._tag === "Execute") sessions.keep(admitted.answer, new Uint8Array(bytes))
    return admitted._tag
  }
  const numbersOf = (sessions: Session.Sessions) => sessions.save().sessions[0]?.answers.map(({ sequence }) => sequence)

  it("is bounded for one session: its lowest numbers go, and their commands are not executed again", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    for (let n = 1; n <= 20; n++) keep(sessions, numbered(5, n), MiB)
    sessions.trim()
    assert.deepEqual(numbersOf(sessions), Array.from({ length: 15 }, (_, i) => 6 + i))
    assert.deepEqual([keep(sessions, numbered(5, 5), 1), keep(sessions, numbered(5, 6), 1)], ["Expired", "Answered"])
  })

  it("is bounded by the lowest numbers, in whatever order they came", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    for (const n of [20, 3, 1, 2]) keep(sessions, numbered(5, n), 5 * MiB)
    sessions.trim()
    assert.deepEqual(numbersOf(sessions), [20, 3, 2])
  })

  it("is bounded for one answer: the latest is kept, whatever its size", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    keep(sessions, numbered(5, 1), 1)
    keep(sessions, numbered(5, 2), Session.tableBytesMax + 1)
    sessions.trim()
    assert.deepEqual(numbersOf(sessions), [2])
  })

  it("is bounded for all sessions: those least recently used go", () => {
    const sessions = new Session.Sessions()
    for (let id = 1; id <= 6; id++) {
      sessions.open(id, opening(0, { sessionsMax: 10 }))
      for (let n = 1; n <= 12; n++) keep(sessions, numbered(id, n), MiB)
    }
    sessions.trim()
    assert.deepEqual(sessions.save().sessions.map(({ id }) => id), [2, 3, 4, 5, 6])
    // A table from a snapshot counts alike.
    const copy = new Session.Sessions(sessions.save())
    for (const table of [sessions, copy]) {
      for (const id of [4, 5]) keep(table, numbered(id, 13), 3 * MiB)
      table.trim()
    }
    assert.deepEqual(copy.save().sessions.map(({ id }) => id), sessions.save().sessions.map(({ id }) => id))
    assert.deepEqual(copy.save().sessions.map(({ id }) => id), [3, 6, 4, 5])
  })

  it("does not count between the entries at which it is looked at: what is admitted does not depend on it", () => {
    const sessions = new Session.Sessions()
    for (const id of [5, 6]) sessions.open(id, opening())
    for (let n = 1; n <= 80; n++) assert.strictEqual(keep(sessions, numbered(5, n), MiB), "Execute")
    assert.strictEqual(keep(sessions, numbered(5, 1), 1), "Answered")
    assert.strictEqual(keep(sessions, numbered(6, 1), 1), "Execute")
  })

  it("leaves a captured table as it was", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    for (let n = 1; n <= 20; n++) keep(sessions, numbered(5, n), MiB)
    const captured = sessions.capture()
    sessions.trim()
    assert.strictEqual([...captured.sessions()][0]?.answers.length, 20)
    assert.strictEqual(numbersOf(sessions)?.length, 15)
  })
})

describe("an answer that a later command of the same batch puts out of the table", () => {
  it("is still there for whoever waits for it", () => {
    const sessions = new Session.Sessions()
    sessions.open(5, opening())
    const first = sessions.admit(numbered(5, 1), 0)
    const second = sessions.admit(numbered(5, 2, 2), 0)
    if (first._tag !== "Execute" || second._tag !== "Execute") return assert.fail("both are executed")
    sessions.keep(first.answer, result(7))
    sessions.keep(second.answer, result(8))
    assert.deepEqual(first.answer.result, result(7))
    assert.deepEqual(sessions.save().sessions[0]?.answers.map(({ sequence }) => sequence), [2])
  })
})

describe("a captured table", () => {
  it("stays as it was, whatever becomes of the sessions after that", () => {
    const sessions = new Session.Sessions()
    for (const id of [5, 6]) sessions.open(id, opening())
    apply(sessions, numbered(5, 1), 1)
    const captured = sessions.capture()
    const before = sessions.save()
    apply(sessions, numbered(5, 2, 2), 2)
    apply(sessions, numbered(6, 1), 3)
    sessions.open(7, opening(5000))
    assert.deepEqual([...captured.sessions()], before.sessions)
    assert.strictEqual(captured.count, 2)
    assert.deepEqual(sessions.save().sessions.map(({ id }) => id), [7])
  })
})

describe("thesis §6.3, rule R5: the log's own time", () => {
  /** Makes `n1`, which needs nobody, lead at `nowMs`. */
  const elected = (before: NodeState, nowMs: number): NodeState => {
    const candidate = stepped(before, ticked, nowMs).state
    const message = { _tag: "RequestVoteResponse", term: candidate.term, voteGranted: true } as const
    return stepped(candidate, received("n1", message), nowMs).state
  }
  const started = (nowMs: number) => node({ configuration: ofVoters(["n1"]), nowMs })
  const stampOf = (leader: NodeState, nowMs: number): number | undefined => {
    const { commands } = stepped(leader, { _tag: "OpenSession", requestId: 1 }, nowMs)
    const payload = commands.find((command) => command._tag === "Persist")?.write.entries[0]?.payload
    return payload?._tag === "OpenSession" ? payload.timeMs : undefined
  }
  const applied = (state: NodeState, logTimeMs: number, nowMs: number): NodeState => {
    const matched = { _tag: "Matched", matchIndex: state.log.lastIndex } as const
    const message = { _tag: "AppendEntriesResponse", term: state.term, round: 0, result: matched } as const
    const committed = stepped(state, received("n1", message), nowMs).state
    return stepped(committed, { _tag: "Applied", index: committed.commitIndex, logTimeMs }, nowMs).state
  }

  it("goes on with the clock of whoever leads, whatever that clock says", () => {
    const leader = elected(started(1_000_000), 1_001_000)
    assert.strictEqual(stampOf(leader, 1_001_000), 0)
    assert.strictEqual(stampOf(leader, 1_001_250.7), 250)
    assert.strictEqual(stampOf(leader, 1_000_500), 0, "never back")
  })

  it("goes on from what is applied, where that is ahead", () => {
    const leader = applied(elected(started(0), 1000), 50_000, 1010)
    assert.strictEqual(stampOf(leader, 1015), 50_005)
    assert.strictEqual(stampOf(applied(leader, 50_001, 1015), 1020), 50_010, "its own stamps come back to it late")
  })

  it("goes on from what is applied where a server leads once more", () => {
    const leader = applied(elected(started(0), 1000), 3000, 4000)
    const stale = { _tag: "RequestVote", term: leader.term + 5, last: { term: 0, index: 0 }, isTransfer: true } as const
    const deposed = stepped(leader, received("n2", stale), 4010).state
    assert.strictEqual(deposed.role._tag, "Follower")
    const again = elected(deposed, 9000)
    assert.strictEqual(stampOf(again, 9100), 3100)
  })
})

describe("a table from a snapshot", () => {
  it("goes on as the one it was taken of", () => {
    const original = new Session.Sessions()
    const below = randomBelow(1)
    let copy = new Session.Sessions()
    for (let i = 0; i < 3000; i++) {
      const timeMs = i * 20 + below(200)
      if (below(20) === 0) {
        for (const sessions of [original, copy]) sessions.open(i, opening(timeMs, { sessionsMax: 10, timeoutMs: 3000 }))
        continue
      }
      const open = original.save().sessions
      const session = open[below(Math.max(1, open.length))]?.id ?? below(3000)
      const sequenced = numbered(session, 1 + below(30), 1 + below(10))
      assert.strictEqual(apply(original, sequenced, i % 256, timeMs), apply(copy, sequenced, i % 256, timeMs), `${i}`)
      if (below(10) === 0) copy = new Session.Sessions(original.save())
    }
    assert.deepEqual(copy.save(), original.save())
    assert.isAbove(original.size, 1)
  })
})
