/**
 * What is watched of sessions: found when it is broken, and nothing is found in what is right.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Entry, Payload, Sequenced } from "../../src/domain/Entry.ts"
import * as Session from "../../src/domain/Session.ts"
import { SessionRules } from "../../src/testing/SessionRules.ts"
import { bytesOf, randomBelow } from "../domain/Given.ts"
import { propertyOf } from "./violations.ts"

const limits = { sessionsMax: 2, timeoutMs: 1000 }

const opening = (index: number, timeMs: number): Entry => ({
  term: 1,
  index,
  payload: { _tag: "OpenSession", timeMs, ...limits }
})

const command = (index: number, timeMs: number, sequenced: Sequenced): Entry => ({
  term: 1,
  index,
  payload: { _tag: "SessionCommand", timeMs, sequenced, bytes: bytesOf("x") }
})

const numbered = (session: number, sequence: number, firstUnanswered = 1): Sequenced => ({
  session,
  sequence,
  firstUnanswered
})

/** A session, 1, of which command 1 was executed as entry 2, and sent again as entry 3. */
const retried = () => {
  const rules = new SessionRules()
  const entries = [opening(1, 0), command(2, 10, numbered(1, 1)), command(3, 20, numbered(1, 1))]
  for (const entry of entries) rules.committed(entry)
  return { rules, entries }
}

const once = "a command of a session is executed once, and never when that has expired (R4, R5)"

describe("a command of a session", () => {
  it("is executed at its first entry, and at no other", () => {
    const { entries, rules } = retried()
    assert.deepEqual(entries.map((entry) => propertyOf(() => rules.sawApply("n1", entry))), [
      "nothing",
      "nothing",
      once
    ])
    assert.deepEqual([1, 2, 3].map((index) => rules.isExecuted(index)), [false, true, false])
  })

  it("has the answer of that entry, which is the same everywhere", () => {
    const { rules } = retried()
    const answered = (text: string) => propertyOf(() => rules.answered({ session: 1, sequence: 1 }, bytesOf(text)))
    assert.strictEqual(answered("first"), "a retry gets the first answer (R4)", "nobody has executed it")
    rules.sawResult("n1", 2, bytesOf("first"))
    assert.strictEqual(propertyOf(() => rules.sawResult("n2", 2, bytesOf("first"))), "nothing")
    const other = propertyOf(() => rules.sawResult("n3", 2, bytesOf("other")))
    assert.strictEqual(other, "every server makes the same of an entry")
    assert.deepEqual([answered("first"), answered("other")], ["nothing", "a retry gets the first answer (R4)"])
  })

  it("is refused when its session has expired, by time or by number, and not before", () => {
    const { rules } = retried()
    const expires = "a session expires by what the log says (R5)"
    const refused = (sequence: number) => propertyOf(() => rules.expired({ session: 1, sequence }))
    rules.committed(command(4, 1020, numbered(1, 2)))
    assert.deepEqual([rules.isExecuted(4), refused(2)], [true, expires])
    rules.committed(command(5, 2021, numbered(1, 3)))
    assert.deepEqual([rules.isExecuted(5), refused(3)], [false, "nothing"])
    for (const index of [6, 7, 8]) rules.committed(opening(index, 2021))
    rules.committed(command(9, 2021, numbered(6, 1)))
    rules.committed(command(10, 2021, numbered(7, 1)))
    assert.deepEqual([rules.isExecuted(9), rules.isExecuted(10)], [false, true])
  })

  it("that its client has seen answered is not executed again", () => {
    const { rules } = retried()
    rules.committed(command(4, 30, numbered(1, 5, 3)))
    rules.committed(command(5, 30, numbered(1, 2)))
    assert.deepEqual([4, 5].map((index) => rules.isExecuted(index)), [true, false])
  })
})

describe("a session", () => {
  it("is named by the entry that opened it", () => {
    const { rules } = retried()
    assert.deepEqual([1, 2].map((id) => propertyOf(() => rules.opened(id))), [
      "nothing",
      "a session is named by the entry that opened it (R5)"
    ])
  })
})

describe("a table", () => {
  const broken = "a snapshot has the sessions that the log says (R5)"

  it("is that of the index at which it was taken", () => {
    const { rules } = retried()
    rules.sawResult("n1", 2, bytesOf("first"))
    const saved = (timeMs: number, result: string): Session.Saved => ({
      timeMs,
      timeoutMs: 1000,
      sessions: [{ id: 1, lastUsedMs: timeMs, firstKept: 1, answers: [{ sequence: 1, result: bytesOf(result) }] }]
    })
    const taken = (index: number, table: Session.Saved) => propertyOf(() => rules.sawTable("n1", index, table))
    assert.deepEqual([taken(2, saved(10, "first")), taken(3, saved(20, "first"))], ["nothing", "nothing"])
    for (const wrong of [saved(20, "first"), saved(10, "other"), Session.nothingSaved]) {
      assert.strictEqual(taken(2, wrong), broken)
    }
  })

  it("is what the core makes of 5,000 entries, whatever they are", () => {
    const [rules, sessions] = [new SessionRules(), new Session.Sessions()]
    const below = randomBelow(3)
    const drawn = (index: number): Payload => {
      const timeMs = index * 7 + below(300)
      if (below(12) === 0) {
        return { _tag: "OpenSession", timeMs, sessionsMax: 1 + below(4), timeoutMs: 200 + below(900) }
      }
      const open = sessions.save().sessions
      const session = open[below(open.length + 1)]?.id ?? below(index)
      return {
        _tag: "SessionCommand",
        timeMs,
        sequenced: numbered(session, 1 + below(20), 1 + below(12)),
        bytes: bytesOf("x")
      }
    }
    let executed = 0
    for (let index = 1; index <= 5000; index++) {
      const payload = drawn(index)
      rules.committed({ term: 1, index, payload })
      if (payload._tag === "OpenSession") sessions.open(index, payload)
      if (payload._tag === "SessionCommand") {
        const admitted = sessions.admit(payload.sequenced, payload.timeMs)
        assert.strictEqual(admitted._tag === "Execute", rules.isExecuted(index), `entry ${index}`)
        if (admitted._tag === "Execute") {
          executed++
          admitted.answer.result = bytesOf(String(index))
          rules.sawResult("n1", index, admitted.answer.result)
        }
      }
      rules.sawTable("n1", index, sessions.save())
    }
    assert.isAbove(executed, 500)
  })
})
