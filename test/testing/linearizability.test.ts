/** The checker on a register: hand-made histories, a brute-force checker beside it, and what its explanation says. */
import { assert, describe, it } from "@effect/vitest"
import { Draws } from "../../src/testing/Draws.ts"
import { check, type Model, type Operation, type Verdict } from "../../src/testing/Linearizability.ts"

type Input =
  | { readonly op: "write"; readonly to: number }
  | { readonly op: "swap"; readonly from: number; readonly to: number }
  | { readonly op: "read" }
  /** Adds one or two: the answer does not tell which. */
  | { readonly op: "add" }
type Output = number | "done" | "refused"
type Call = Operation<Input, Output>

const plain: Model<number, Input, Output> = {
  initial: 0,
  apply: (state, input, output) => {
    switch (input.op) {
      case "write":
        return [input.to]
      case "swap": {
        const done = output === "refused" ? [] : [input.to]
        const refused = output === "done" ? [] : [state]
        return state === input.from ? done : refused
      }
      case "add":
        return [state + 1, state + 2]
      case "read":
        return output === undefined || output === state ? [state] : []
    }
  },
  keyOf: String
}

/** The same register with every shortcut that a model may offer. */
const quick: Model<number, Input, Output> = {
  ...plain,
  isRead: (input, output) => input.op === "read" || output === "refused",
  inputKey: (input) => JSON.stringify(input)
}

const write = (client: number, to: number, call: number, end: number): Call => ({
  client,
  input: { op: "write", to },
  output: "done",
  call,
  return: end
})
const read = (client: number, output: number, call: number, end: number): Call => ({
  client,
  input: { op: "read" },
  output,
  call,
  return: end
})
const swap = (client: number, from: number, to: number, output: Output, call: number, end: number): Call => ({
  client,
  input: { op: "swap", from, to },
  output,
  call,
  return: end
})
const unknown = (client: number, to: number, call: number): Call => ({
  client,
  input: { op: "write", to },
  output: undefined,
  call,
  return: undefined
})

const tagOf = (operations: ReadonlyArray<Call>): string => {
  const tag = check(plain, operations)._tag
  assert.strictEqual(check(quick, operations)._tag, tag, "shortcuts change no verdict")
  assert.strictEqual(check(quick, operations.toReversed())._tag, tag, "nor does the order in which a history is given")
  return tag
}

const good: Readonly<Record<string, ReadonlyArray<Call>>> = {
  "nothing happened": [],
  "a read sees the write before it": [write(1, 7, 0, 1), read(2, 7, 2, 3)],
  "a read that overlaps a write sees it": [write(1, 7, 0, 5), read(2, 7, 1, 2)],
  "a read that overlaps a write does not see it": [write(1, 7, 0, 5), read(2, 0, 1, 2)],
  "a read called at the instant at which a write returned overlaps it": [write(1, 7, 0, 5), read(2, 0, 5, 6)],
  "operations that take no time at one instant come in any order": [
    read(1, 1, 3, 3),
    write(2, 1, 3, 3),
    read(3, 0, 3, 3)
  ],
  "two overlapping writes, read in one order": [
    write(1, 1, 0, 9),
    write(2, 2, 0, 9),
    read(3, 2, 1, 2),
    read(3, 1, 3, 4)
  ],
  "a chain of swaps is found in the one order that works": [
    swap(1, 2, 3, "done", 0, 9),
    swap(2, 0, 1, "done", 0, 9),
    swap(3, 1, 2, "done", 0, 9),
    read(4, 3, 10, 11)
  ],
  "a write of unknown outcome is never seen": [unknown(1, 7, 0), read(2, 0, 10, 11)],
  "a write of unknown outcome is seen long after": [unknown(1, 7, 0), read(2, 0, 10, 11), read(2, 7, 20, 21)],
  "a write of unknown outcome overwrites one that came later": [
    unknown(1, 7, 0),
    write(2, 8, 10, 11),
    read(2, 8, 12, 13),
    read(2, 7, 14, 15)
  ],
  "two writes of unknown outcome are seen, one after the other": [
    unknown(1, 7, 0),
    unknown(2, 8, 0),
    swap(3, 7, 7, "done", 1, 9),
    read(3, 8, 10, 11)
  ],
  "of two equal writes of unknown outcome each is seen once": [
    unknown(1, 7, 0),
    read(2, 7, 1, 2),
    unknown(1, 7, 3),
    write(2, 8, 4, 5),
    read(2, 7, 6, 7)
  ],
  "an answer that leaves the state open allows each": [
    { client: 1, input: { op: "add" }, output: "done", call: 0, return: 1 },
    { client: 1, input: { op: "add" }, output: "done", call: 2, return: 3 },
    read(2, 3, 4, 5)
  ],
  "a known answer that nobody saw return": [{ ...write(1, 7, 0, 1), return: undefined }, read(2, 0, 5, 6)]
}

const bad: Readonly<Record<string, ReadonlyArray<Call>>> = {
  "a read after an acknowledged write is stale": [write(1, 7, 0, 1), read(2, 0, 2, 3)],
  "a value is read that nobody wrote": [write(1, 7, 0, 5), read(2, 8, 1, 2)],
  "a value is read before its write is called": [read(2, 7, 0, 1), write(1, 7, 2, 3)],
  "a value is read before a write of unknown outcome is called": [read(2, 7, 0, 1), unknown(1, 7, 2)],
  "reads go back in time": [write(1, 7, 0, 9), read(2, 7, 1, 2), read(3, 0, 3, 4)],
  "two clients see two writes in different orders": [
    write(1, 1, 0, 9),
    write(2, 2, 0, 9),
    read(3, 1, 10, 11),
    read(4, 2, 12, 13)
  ],
  "a write is lost": [write(1, 7, 0, 1), write(2, 8, 2, 3), read(3, 7, 4, 5)],
  "two swaps from one value both succeed": [swap(1, 0, 1, "done", 0, 9), swap(2, 0, 2, "done", 0, 9)],
  "a swap is refused although its condition held": [swap(1, 0, 1, "refused", 0, 9)],
  "a write of unknown outcome is seen and then unseen": [unknown(1, 7, 0), read(2, 7, 1, 2), read(2, 0, 3, 4)],
  "a write of unknown outcome takes effect twice": [
    unknown(1, 7, 0),
    read(2, 7, 1, 2),
    write(2, 8, 3, 4),
    read(2, 7, 5, 6)
  ],
  "an answer that leaves the state open does not allow all": [
    { client: 1, input: { op: "add" }, output: "done", call: 0, return: 1 },
    read(2, 3, 4, 5)
  ]
}

describe("a history is linearizable where", () => {
  for (const [title, operations] of Object.entries(good)) {
    it(title, () => assert.strictEqual(tagOf(operations), "Linearizable"))
  }
})

describe("a history is not linearizable where", () => {
  for (const [title, operations] of Object.entries(bad)) {
    it(title, () => assert.strictEqual(tagOf(operations), "NotLinearizable"))
  }
})

type Draw = (max: number) => number

const drawing = (seed: number): Draw => {
  const draws = new Draws(seed)
  return (max) => draws.below(max)
}

const precedes = (a: Call, b: Call): boolean => a.output !== undefined && (a.return ?? Infinity) < b.call

/** All orders that real time allows, with and without each operation of unknown outcome, and nothing clever. */
const isLinearizable = (state: number, left: ReadonlyArray<Call>): boolean =>
  left.every(({ output }) => output === undefined)
  || left.some((next, i) =>
    !left.some((other) => precedes(other, next))
    && plain.apply(state, next.input, next.output).some((after) => isLinearizable(after, left.toSpliced(i, 1)))
  )

const drawInput = (draw: Draw): Input => {
  const kind = draw(10)
  if (kind < 4) return { op: "read" }
  if (kind < 7) return { op: "write", to: draw(3) }
  return kind < 9 ? { op: "swap", from: draw(3), to: draw(3) } : { op: "add" }
}

const drawHistory = (draw: Draw): ReadonlyArray<Call> =>
  Array.from({ length: 2 + draw(6) }, (_, client): Call => {
    const input = drawInput(draw)
    const call = draw(12)
    if (input.op !== "read" && draw(4) === 0) return { client, input, output: undefined, call, return: undefined }
    const output = input.op === "read" ? draw(3) : input.op === "swap" && draw(2) === 0 ? "refused" : "done"
    return { client, input, output, call, return: call + draw(8) }
  })

/** Whether `order` is one that the operations allow: it is played back, and looked at for what it leaves out. */
const isWitness = (verdict: Verdict<Input, Output>, operations: ReadonlyArray<Call>): boolean => {
  if (verdict._tag !== "Linearizable") return false
  const { order } = verdict
  const states = order.reduce(
    (states: ReadonlyArray<number>, { input, output }) => states.flatMap((state) => plain.apply(state, input, output)),
    [0]
  )
  return states.length > 0
    && new Set(order).size === order.length
    && operations.every((one) => one.output === undefined || order.includes(one))
    && order.every((one, i) => !order.slice(i).some((later) => precedes(later, one)))
}

describe("the search", () => {
  it("agrees with all permutations on 6,000 small histories, and shows an order for each that has one", () => {
    const counts = { Linearizable: 0, NotLinearizable: 0 }
    for (let seed = 0; seed < 6000; seed++) {
      const operations = drawHistory(drawing(seed))
      const expected = isLinearizable(0, operations) ? "Linearizable" : "NotLinearizable"
      counts[expected]++
      for (const model of [plain, quick]) {
        const verdict = check(model, operations)
        assert.strictEqual(verdict._tag, expected, `seed ${seed}`)
        if (expected === "Linearizable") assert.isTrue(isWitness(verdict, operations), `seed ${seed}`)
      }
    }
    assert.isAbove(counts.Linearizable, 1500)
    assert.isAbove(counts.NotLinearizable, 1500)
  })

  it("places 20,000 operations one after the other without running out of stack", () => {
    const operations = Array.from(
      { length: 10_000 },
      (_, i) => [write(1, i, 4 * i, 4 * i + 1), read(2, i, 4 * i + 2, 4 * i + 3)]
    )
    assert.strictEqual(check(quick, operations.flat())._tag, "Linearizable")
  })

  it("is not slowed down by sixty writes of unknown outcome, whatever the verdict", () => {
    const open = Array.from({ length: 60 }, (_, i) => unknown(100 + i, 1000 + i, i))
    const reads = Array.from({ length: 60 }, (_, i) => read(1, 1000 + i, 1000 + 10 * i, 1005 + 10 * i))
    assert.strictEqual(check(plain, [...open, ...reads])._tag, "Linearizable")
    const verdict = check(plain, [...open, ...reads, read(2, 1000, 9000, 9001)], { statesMax: 50_000 })
    assert.strictEqual(verdict._tag, "NotLinearizable")
  })

  it("gives up after as many states as it may visit, which is no pass", () => {
    const operations = Array.from({ length: 12 }, (_, i) => write(i, i, 0, 100))
    const verdict = check(plain, [...operations, read(99, 77, 200, 201)], { statesMax: 1000 })
    assert.strictEqual(verdict._tag, "Undecided")
    if (verdict._tag === "Undecided") assert.match(verdict.explanation, /within 1000 states; at most 12 of 13/)
  })

  it("keeps the state of lower rank when one of higher rank came first", () => {
    const budget: Model<number, string, string> = {
      initial: 0,
      // Who pays has paid two or one, and has never more than three.
      apply: (spent) => [spent + 2, spent + 1].filter((sum) => sum <= 3),
      keyOf: () => "",
      rank: (spent) => spent
    }
    const pay = (call: number) => ({ client: 1, input: "pay", output: "paid", call, return: call + 1 })
    const times = [0, 2, 4].map(pay)
    assert.strictEqual(check(budget, times)._tag, "Linearizable")
    assert.strictEqual(check(budget, [...times, pay(6)])._tag, "NotLinearizable")
  })

  it("takes no operation that returns before it is called", () => {
    assert.throws(() => check(plain, [write(4, 1, 5, 3)]), /client 4 returns at 3 and is called at 5/)
  })
})

describe("an explanation", () => {
  const operations = [
    write(1, 7, 1_000_000, 2_500_000),
    read(2, 7, 3_000_000, 3_100_000),
    read(3, 0, 4_000_000, 4_200_000),
    unknown(4, 8, 0)
  ]

  it("shows the longest order, then what cannot come next, in columns", () => {
    const described: Model<number, Input, Output> = {
      ...quick,
      describe: (input, output) => `${input.op} ${output ?? "unknown"}`,
      describeState: (state) => `the register holds ${state}`
    }
    const verdict = check(described, operations)
    assert.strictEqual(verdict._tag, "NotLinearizable")
    if (verdict._tag !== "NotLinearizable") return
    assert.deepStrictEqual(verdict.placed, operations.slice(0, 2))
    assert.deepStrictEqual(verdict.stuck, operations.slice(2, 3))
    assert.deepStrictEqual(verdict.explanation.split("\n"), [
      "2 of 3 operations can be put in an order that explains their answers, and no order goes further",
      "   order       call ms     return ms  client  operation",
      "       1         1.000         2.500       1  write done",
      "       2         3.000         3.100       2  read 7",
      "          here the state is: the register holds 7",
      "  cannot         4.000         4.200       3  read 0"
    ])
  })

  it("is the same each time, and shows the end of a long order only", () => {
    const long = Array.from({ length: 50 }, (_, i) => write(1, i, 10 * i, 10 * i + 1))
    const verdicts = [1, 2].map(() => check(quick, [...long, read(2, 77, 900, 901)]))
    assert.deepStrictEqual(verdicts[0], verdicts[1])
    const text = verdicts[0]?._tag === "NotLinearizable" ? verdicts[0].explanation : ""
    assert.match(text, /… 38 before\n {6}39 /)
    assert.lengthOf(text.split("\n"), 17)
  })
})
