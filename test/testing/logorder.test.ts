/**
 * Histories that the log explains, and every way in which it may contradict them.
 */
import { assert, describe, it } from "@effect/vitest"
import { check, type Recorded } from "../../src/testing/LogOrder.ts"

type Request = Recorded<number, number, string, number>

/** Adds up; each result is the new sum. `get` asks for the sum, `double` for twice that. */
const sums = {
  initial: 0,
  apply: (sum: number, by: number) => ({ state: sum + by, result: sum + by }),
  respond: (sum: number, query: string) => query === "double" ? 2 * sum : sum
}

const done = (value: number) => ({ _tag: "Done", value }) as const
const notApplied = { _tag: "NotApplied" } as const
const unknown = { _tag: "Unknown" } as const

/** From `call` to `end`, both in ns. */
type Span = readonly [call: number, end: number | undefined]

const add = (id: number, by: number, outcome: Request["outcome"], [call, end]: Span): Request => ({
  id,
  client: id,
  request: { _tag: "Command", command: by },
  outcome,
  call,
  return: end
})

const read = (id: number, value: number, [call, end]: Span, query = "get"): Request => ({
  id,
  client: id,
  request: { _tag: "Query", query },
  outcome: done(value),
  call,
  return: end
})

/** The log holds these requests in this order, from index 1. */
const logOf = (...ids: ReadonlyArray<number>) => ids.map((id, i) => ({ index: i + 1, term: 1, id }))

/** What the history asks for, by request. */
const commandsOf = (history: ReadonlyArray<Request>): ReadonlyMap<number, number> =>
  new Map(history.flatMap(({ id, request }) => request._tag === "Command" ? [[id, request.command] as const] : []))

/** `waiting`: commands whose callers have heard nothing yet, so that no history has them. */
const judge = (
  log: ReturnType<typeof logOf>,
  history: ReadonlyArray<Request>,
  waiting: ReadonlyArray<readonly [id: number, by: number]> = []
) =>
  check({
    reducer: sums,
    commands: new Map([...commandsOf(history), ...waiting]),
    log,
    history,
    isSame: (a, b) => a === b,
    format: String
  })

const assertFound = (found: ReadonlyArray<string>, ...expected: ReadonlyArray<RegExp>) => {
  assert.strictEqual(found.length, expected.length, found.join("\n"))
  for (const [i, pattern] of expected.entries()) assert.match(found[i] ?? "", pattern)
}

describe("a history that the log explains", () => {
  it("is one where each answer is what the log gives, one request after the other", () => {
    const history = [
      add(1, 5, done(5), [0, 10]),
      read(2, 5, [20, 30]),
      add(3, 2, done(7), [40, 50]),
      read(4, 14, [60, 70], "double")
    ]
    assertFound(judge(logOf(1, 3), history))
  })

  it("may order requests of one time either way, and a read before, between or after them", () => {
    const writes = [add(1, 5, done(5), [0, 100]), add(2, 2, done(7), [0, 100])]
    assertFound(judge(logOf(1, 2), writes))
    assertFound(judge(logOf(2, 1), [add(1, 5, done(7), [0, 100]), add(2, 2, done(2), [0, 100])]))
    for (const value of [0, 5, 7]) assertFound(judge(logOf(1, 2), [...writes, read(3, value, [10, 90])]))
    assertFound(judge(logOf(1, 2), [...writes, read(3, 2, [10, 90])]), /^Linearizability: .* which was never so/)
  })

  it("is the empty one", () => {
    assertFound(judge(logOf(), []))
    assertFound(judge(logOf(8, 9), [], [[8, 1], [9, 1]]))
  })

  it("counts what is in the log and still waits for its answer", () => {
    const seen = [add(1, 5, done(6), [0, 10]), read(2, 6, [20, 30])]
    assertFound(judge(logOf(8, 1), seen, [[8, 1]]))
    assertFound(judge(logOf(8, 1, 9), [...seen, read(3, 8, [40, 50])], [[8, 1], [9, 2]]))
  })

  it("is judged by time, not by the order of its records", () => {
    const history = [read(2, 5, [20, 30]), add(1, 5, done(5), [0, 10])]
    assertFound(judge(logOf(1), history))
  })

  it("takes a read of what was so more than once for as early as it can be", () => {
    const writes = [add(1, 5, done(5), [0, 100]), add(2, -5, done(0), [0, 100]), add(3, 5, done(5), [0, 100])]
    const reads = [read(4, 5, [10, 20]), read(5, 0, [30, 40]), read(6, 5, [50, 60])]
    assertFound(judge(logOf(1, 2, 3), [...writes, ...reads]))
    assertFound(judge(logOf(1, 2, 3), [...writes, ...reads, read(7, 0, [70, 80])]), /^Linearizability: request 7/)
  })

  it("need not have what nobody saw return, though its answer is known", () => {
    assertFound(judge(logOf(1), [add(1, 5, done(5), [0, undefined]), read(2, 0, [10, 20]), read(3, 5, [30, 40])]))
  })

  it("may leave commands out that were not applied, and commands of unknown outcome", () => {
    const history = [add(1, 5, notApplied, [0, 10]), add(2, 3, unknown, [0, undefined]), read(3, 0, [20, 30])]
    assertFound(judge(logOf(), history))
  })

  it("may show a command of unknown outcome, at once or at any time later", () => {
    const lost = add(1, 5, unknown, [0, undefined])
    assertFound(judge(logOf(1), [lost, read(2, 5, [1, 2])]))
    assertFound(judge(logOf(2, 1), [lost, add(2, 1, done(1), [100, 110]), read(3, 1, [120, 130])]))
    assertFound(judge(logOf(2, 1), [lost, add(2, 1, done(1), [100, 110]), read(3, 6, [120, 130])]))
  })
})

describe("a contradiction", () => {
  it("is a stale read: of a state before what had returned when it was called", () => {
    const history = [add(1, 5, done(5), [0, 10]), add(2, 2, done(7), [20, 30]), read(3, 5, [40, 50])]
    assertFound(judge(logOf(1, 2), history), /^Linearizability: request 3 .* was answered 5, which was never so after/)
  })

  it("is a stale read too where an earlier entry returned after a later one", () => {
    const history = [add(1, 5, done(5), [0, 100]), add(2, 2, done(7), [0, 10]), read(3, 5, [110, 120])]
    assertFound(judge(logOf(1, 2), history), /^Linearizability: request 3 .* never so after request 2/)
  })

  it("is a read that is older than an earlier read, though the write it misses has not returned", () => {
    const history = [add(1, 5, done(5), [0, 100]), read(2, 5, [10, 20]), read(3, 0, [30, 40])]
    assertFound(judge(logOf(1), history), /^Linearizability: request 3 of client 3 \(get\) was answered 0/)
    // At the same time either may come first.
    assertFound(judge(logOf(1), [add(1, 5, done(5), [0, 100]), read(2, 5, [10, 20]), read(3, 0, [15, 40])]))
  })

  it("is a read of a command of unknown outcome, and then one without it", () => {
    const history = [add(1, 5, unknown, [0, undefined]), read(2, 5, [10, 20]), read(3, 0, [30, 40])]
    assertFound(judge(logOf(1), history), /^Linearizability: request 3/)
  })

  it("is a read of what was never so", () => {
    assertFound(judge(logOf(1), [add(1, 5, done(5), [0, 10]), read(2, 6, [20, 30])]), /^Linearizability: request 2/)
  })

  it("is a lost write: answered, and not in the log", () => {
    assertFound(judge(logOf(), [add(1, 5, done(5), [0, 10])]), /^Linearizability: request 1 .* is not in the log/)
  })

  it("is a command that was applied twice", () => {
    const history = [add(1, 5, done(5), [0, 10])]
    const [found = "", ...more] = judge(logOf(1, 1), history)
    assert.strictEqual(found, "a command is applied at most once: request 1 again, as entry 2")
    assert.deepStrictEqual(more, [])
  })

  it("is a command in the log that nobody called", () => {
    const history = [add(1, 5, done(5), [0, 10])]
    assertFound(judge(logOf(8, 1), history), /^every command was called by somebody: entry 1 was not$/)
  })

  it("is the result of another command", () => {
    const history = [add(1, 5, done(7), [0, 100]), add(2, 2, done(5), [0, 100])]
    assertFound(
      judge(logOf(1, 2), history),
      /^Linearizability: request 1 .* was answered 7; as entry 1 it gives 5/,
      /^Linearizability: request 2 .* was answered 5; as entry 2 it gives 7/
    )
  })

  it("is a command that was told to be not applied, and was", () => {
    const history = [add(1, 5, notApplied, [0, 10])]
    assertFound(judge(logOf(1), history), /^not applied means not applied \(R4\): request 1 .* was applied/)
  })

  it("is a log that has a command before another one that had returned when it was called", () => {
    const history = [add(1, 5, done(7), [0, 10]), add(2, 2, done(2), [20, 30])]
    assertFound(judge(logOf(2, 1), history), /^Linearizability: request 2 .* called after request 1 .* had returned/)
    // Where they overlap it is their right.
    assertFound(judge(logOf(2, 1), [add(1, 5, done(7), [0, 25]), add(2, 2, done(2), [20, 30])]))
  })

  it("is a command in the log before what a read had shown when it was called", () => {
    const history = [add(1, 5, unknown, [0, undefined]), read(2, 7, [10, 20]), add(3, 2, done(2), [30, 40])]
    assertFound(judge(logOf(3, 1), history), /^Linearizability: request 3 .* had returned, and is before it in the log/)
  })

  it("is found more than once where there are several", () => {
    const history = [add(1, 5, done(5), [0, 10]), read(2, 0, [20, 30]), add(3, 2, done(9), [40, 50])]
    assertFound(judge(logOf(1, 3), history), /request 2/, /request 3/)
  })
})

describe("the machine", () => {
  it("is given the index and term that the log has, gaps between commands included", () => {
    const reducer = {
      initial: 0,
      apply: (_: number, by: number, at: { readonly index: number; readonly term: number }) => ({
        state: 100 * at.term + at.index + by,
        result: at.index
      }),
      respond: (state: number) => state
    }
    const log = [{ index: 2, term: 1, id: 1 }, { index: 7, term: 4, id: 2 }]
    const judged = (results: readonly [number, number], answer: number) => {
      const history = [
        add(1, 0, done(results[0]), [0, 10]),
        add(2, 1, done(results[1]), [20, 30]),
        read(3, answer, [40, 50])
      ]
      const commands = commandsOf(history)
      return check({ reducer, commands, log, history, isSame: (a, b) => a === b, format: String })
    }
    assertFound(judged([2, 7], 408))
    assertFound(judged([1, 2], 408), /as entry 2 it gives 2/, /as entry 7 it gives 7/)
    assertFound(judged([2, 7], 108), /request 3/)
  })

  it("is compared as the caller says", () => {
    const history = [add(1, 5, done(-5), [0, 10])]
    const judged = (isSame: (a: number, b: number) => boolean) =>
      check({ reducer: sums, commands: commandsOf(history), log: logOf(1), history, isSame, format: String })
    assertFound(judged((a, b) => Math.abs(a) === Math.abs(b)))
    assertFound(judged((a, b) => a === b), /was answered -5; as entry 1 it gives 5/)
  })
})
