/** Histories of the key-value store: their lines, and what is found in them, beside the real store and all permutations. */
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { isDeepStrictEqual } from "node:util"
import * as Store from "../../src/layers/kv/Store.ts"
import { Draws } from "../../src/testing/Draws.ts"
import * as History from "../../src/testing/History.ts"
import * as KeyValueModel from "../../src/testing/KeyValueModel.ts"
import * as Linearizability from "../../src/testing/Linearizability.ts"

type Recorded = History.Recorded

/** A request in its place: the third of a history is called at 4 and returns at 5. `at` gives others. */
const inTurn = -1

const recorded = (fields: Partial<Recorded> & Pick<Recorded, "op">): Recorded => ({
  client: 1,
  key: "k",
  value: null,
  expected: null,
  ok: true,
  output: null,
  call: inTurn,
  return: inTurn,
  ...fields
})

const put = (value: string, revision: number, fields: Partial<Recorded> = {}): Recorded =>
  recorded({ op: "put", value, output: { _tag: "Written", revision }, ...fields })
/** A put that is open: its client never learned the outcome. */
const open = (value: string, fields: Partial<Recorded> = {}): Recorded =>
  recorded({ op: "put", value, ok: null, return: null, ...fields })
const openRead = recorded({ op: "get", ok: null, return: null })
const openDelete = recorded({ op: "delete", ok: null, return: null })
const mismatch = (expected: number, revision: number): Recorded =>
  put("never", 0, { expected, output: { _tag: "RevisionMismatch", revision } })
const del = (revision: number, deleted: boolean): Recorded =>
  recorded({ op: "delete", output: { _tag: "Deleted", revision, deleted } })
const found = (value: string, revision: number, version: number, fields: Partial<Recorded> = {}): Recorded =>
  recorded({ op: "get", output: { _tag: "Found", value, revision, version }, ...fields })
const missing = (revision: number, fields: Partial<Recorded> = {}): Recorded =>
  recorded({ op: "get", output: { _tag: "Missing", revision }, ...fields })
const at = (call: number, end: number, record: Recorded): Recorded => ({
  ...record,
  call,
  return: record.return === null ? null : end
})

const timed = (history: ReadonlyArray<Recorded>): ReadonlyArray<Recorded> =>
  history.map((record, i) => record.call === inTurn ? at(2 * i, 2 * i + 1, record) : record)

const check = (history: ReadonlyArray<Recorded>, options: Linearizability.Options = {}) =>
  KeyValueModel.check(timed(history), options)

const namesOf = (history: ReadonlyArray<Recorded>): ReadonlyArray<string> =>
  check(history).map((finding) => finding.split(":")[0] ?? "")

const good: Readonly<Record<string, ReadonlyArray<Recorded>>> = {
  "nothing happened": [],
  "each read sees the write before it": [missing(0), put("a", 3), found("a", 3, 1), put("b", 7), found("b", 7, 2)],
  "a delete begins anew": [put("a", 1), del(8, true), missing(8), del(9, false), put("c", 10), found("c", 10, 1)],
  "overlapping writes took effect as revisions rise": [
    at(0, 9, put("a", 2)),
    at(0, 9, put("b", 1)),
    at(1, 2, found("b", 1, 1)),
    at(3, 4, found("a", 2, 2))
  ],
  "an open write is never seen": [open("a"), missing(0)],
  "an open write is seen later": [open("a"), missing(0), found("a", 4, 1)],
  "an open write takes effect after a later write": [open("a"), put("b", 2), found("b", 2, 1), found("a", 5, 2)],
  "an open write is seen only in the version of the next": [open("a"), put("b", 2), found("b", 2, 2)],
  "an open write is first seen by a condition that fails": [open("a"), mismatch(0, 4), found("a", 4, 1)],
  "an open write is first seen by a condition that holds": [open("a"), put("b", 6, { expected: 4 }), found("b", 6, 2)],
  "an open conditional write takes effect at its revision": [
    put("a", 1),
    open("b", { expected: 1 }),
    found("a", 1, 1),
    found("b", 3, 2)
  ],
  "an open delete is seen": [put("a", 1), openDelete, found("a", 1, 1), missing(2), put("b", 3), found("b", 3, 1)],
  "one of two conditional writes is refused": [at(0, 9, put("a", 1, { expected: 0 })), at(0, 9, mismatch(0, 1))],
  "what was surely not applied leaves no trace": [put("a", 1), { ...open("b"), ok: false }, found("a", 1, 1)],
  "a read without an answer says nothing": [put("a", 1), openRead, found("a", 1, 1)],
  "a read called as a write returned does not see it": [at(0, 5, put("a", 1)), at(5, 6, missing(0))],
  "one value is written twice": [put("a", 1), open("a"), found("a", 1, 1), found("a", 3, 2)],
  "the later open write is first": [put("b", 1), found("b", 1, 1), put("a", 2), open("a"), open("b"), found("a", 4, 4)],
  "only the later is seen": [put("b", 1), put("a", 2), found("a", 2, 2), open("a"), open("b"), found("b", 3, 3)],
  "keys are independent": [put("a", 1, { key: "x" }), put("b", 2, { key: "y" }), missing(2, { key: "z" })]
}

const bad: Readonly<Record<string, ReadonlyArray<Recorded>>> = {
  "a read after an acknowledged write is stale": [put("a", 1), put("b", 2), found("a", 1, 1)],
  "a read after the first acknowledged write finds nothing": [put("a", 1), missing(1)],
  "a value is read that nobody wrote": [put("a", 1), found("b", 1, 1)],
  "a write is lost": [put("a", 1), put("b", 2), found("b", 2, 1)],
  "a write is seen that was surely not applied": [put("a", 1), { ...open("b"), ok: false }, found("b", 2, 2)],
  "a write took effect twice": [put("a", 1), put("b", 4), found("b", 4, 3)],
  "an open write took effect twice": [open("a"), found("a", 1, 1), found("a", 2, 2)],
  "an open write took effect twice, around another": [
    put("a", 1),
    open("b"),
    put("c", 4),
    found("c", 4, 3),
    found("b", 5, 4)
  ],
  "an open write is seen and then unseen": [put("a", 1), open("b"), found("b", 2, 2), found("a", 1, 1)],
  "an open write is seen before its call": [found("a", 1, 1), open("a")],
  "two clients see two writes in different orders": [
    at(0, 9, put("a", 1)),
    at(0, 9, put("b", 2)),
    at(1, 2, found("b", 2, 2)),
    at(3, 4, found("a", 1, 1))
  ],
  "two conditional writes on one revision both succeed": [
    put("a", 1),
    at(2, 9, put("b", 2, { expected: 1 })),
    at(2, 9, put("c", 3, { expected: 1 }))
  ],
  "a condition failed that held": [put("a", 1), mismatch(1, 1)],
  "a condition failed at a revision that the key never had": [put("a", 1), mismatch(2, 3)],
  "a condition failed at a revision of the past": [put("a", 1), put("b", 2), mismatch(5, 1)],
  "a delete is followed by a stale read": [put("a", 1), del(2, true), found("a", 1, 1)],
  "a delete found what was not there": [del(1, true)],
  "a delete did not find what was there": [put("a", 1), del(2, false)],
  "the version is not reset by a delete": [put("a", 1), del(2, true), put("b", 3), found("b", 3, 2)],
  "two reads show two revisions of one write": [open("a"), found("a", 2, 1), found("a", 3, 1)],
  "an open write has no room between two revisions": [put("a", 1), open("b"), put("c", 2), found("c", 2, 3)],
  "an open conditional write took effect on another revision": [
    put("a", 1),
    open("b", { expected: 7 }),
    found("b", 8, 2)
  ]
}

describe("the store may have answered so where", () => {
  for (const [title, history] of Object.entries(good)) it(title, () => assert.deepStrictEqual(check(history), []))
})

describe("the store cannot have answered so where", () => {
  for (const [title, history] of Object.entries(bad)) {
    it(title, () => assert.include(namesOf(history), "Linearizability (key k)"))
  }
})

describe("revisions rise over all keys", () => {
  it("two writes of different keys have one revision", () =>
    assert.deepStrictEqual(namesOf([at(0, 9, put("a", 1)), at(0, 9, put("b", 1, { key: "j" }))]), ["Revisions rise"]))

  it("a write that came later has a lower revision", () => {
    const history = [at(0, 1, put("a", 2)), at(2, 3, put("b", 1, { key: "j" }))]
    assert.deepStrictEqual(namesOf(history), ["Revisions rise"])
    assert.deepStrictEqual(namesOf([at(0, 2, put("a", 2)), at(2, 3, put("b", 1, { key: "j" }))]), [], "these overlap")
  })

  it("a write has a revision that an earlier read of another key has shown", () => {
    const history = [open("a"), at(1, 2, found("a", 5, 1)), at(3, 4, put("b", 5, { key: "j" }))]
    assert.deepStrictEqual(namesOf(history), ["Revisions rise"])
  })

  it("a key is missing in a store whose last mutation is older than one acknowledged before", () =>
    assert.deepStrictEqual(namesOf([at(0, 1, put("a", 5)), at(2, 3, missing(4, { key: "j" }))]), ["Revisions rise"]))

  it("a broken clock does not list the whole history", () => {
    const history = Array.from({ length: 100 }, (_, i) => put("a", 100 - i, { key: `k${i}` }))
    assert.lengthOf(check(history), 11)
  })
})

describe("a finding", () => {
  it("names the first answer that is wrong, though later ones are too", () => {
    const history = [
      at(1e6, 2e6, put("a", 1)),
      at(3e6, 4e6, put("b", 2)),
      at(4.5e6, 0, open("c", { client: 3 })),
      at(5e6, 6e6, found("b", 2, 1, { client: 2 })),
      at(7e6, 8e6, put("d", 3)),
      at(9e6, 10e6, found("d", 3, 9))
    ]
    assert.deepStrictEqual(check(history).flatMap((finding) => finding.split("\n")), [
      "Linearizability (key k): no order explains what was answered by 6.000 ms",
      "2 of 3 operations can be put in an order that explains their answers, and no order goes further",
      "   order       call ms     return ms  client  operation",
      "       1         1.000         2.000       1  put \"a\"                   Written, revision 1",
      "       2         3.000         4.000       1  put \"b\"                   Written, revision 2",
      "          here the state is: \"b\", revision 2, version 2",
      "  cannot         5.000         6.000       2  get                       Found \"b\", revision 2, version 1"
    ])
  })

  it("says when no verdict was reached", () => {
    const history = Array.from({ length: 9 }, (_, i) => at(0, 100, put(`v${i}`, i + 1)))
    assert.deepStrictEqual(
      check(history, { statesMax: 3 }).map((finding) => finding.slice(0, 40)),
      ["Undecided (key k): no verdict within 3 s"]
    )
  })
})

type Draw = (max: number) => number

const drawing = (seed: number): Draw => {
  const draws = new Draws(seed)
  return (max) => draws.below(max)
}

/** What the store answers. Nothing here is too long for it, and nothing lists. */
const execute = (store: ReturnType<typeof Store.make>, asked: Recorded, index: number): History.Output => {
  const { expected, key, op, value } = asked
  const condition = expected === null ? {} : { ifRevision: expected }
  const answer = op === "get"
    ? store.respond({ _tag: "Get", key })
    : op === "put"
    ? store.apply({ _tag: "Put", key, value: new TextEncoder().encode(value ?? ""), ...condition }, { index, term: 1 })
    : store.apply({ _tag: "Delete", key, ...condition }, { index, term: 1 })
  if (answer._tag === "Invalid" || answer._tag === "Listed") throw new Error(`answered ${answer._tag}`)
  return answer._tag === "Found" ? { ...answer, value: new TextDecoder().decode(answer.value) } : answer
}

/** `values`: how many there are to write; each is written once if it is 0. */
type Size = Readonly<Record<"requests" | "clients" | "keys" | "unknownPercent" | "values", number>>

/** What the real store answers when each request takes effect at a random moment of its interval, or long after if nobody waits. */
const drawHistory = (draw: Draw, size: Size): ReadonlyArray<Recorded> => {
  const free = Array.from({ length: size.clients }, (_, client) => ({ client, ns: draw(500) }))
  const requests = Array.from({ length: size.requests }, (_, i) => {
    const one = free.reduce((first, other) => other.ns < first.ns ? other : first)
    const kind = draw(20)
    const op = kind < 9 ? "get" : kind < 11 ? "delete" : "put"
    const call = one.ns + draw(200)
    const end = call + draw(1000)
    const isUnknown = draw(100) < size.unknownPercent
    const effect = isUnknown ? (draw(2) === 0 ? Infinity : call + draw(20_000)) : call + draw(end - call + 1)
    const request = recorded({
      client: one.client,
      op,
      key: `k${draw(size.keys)}`,
      value: op === "put" ? `v${size.values === 0 ? i : draw(size.values)}` : null,
      ok: isUnknown ? null : true,
      call,
      return: isUnknown ? null : end
    })
    if (isUnknown) one.client += size.clients
    one.ns = end + 1
    return { request, effect, guess: op !== "get" && draw(5) === 0 ? draw(3) : undefined }
  })
  const store = Store.make()
  const revisions = new Map<string, number>()
  let index = 0
  const history: Array<Recorded> = []
  for (const { effect, guess, request } of requests.toSorted((a, b) => a.effect - b.effect)) {
    const last = revisions.get(request.key) ?? 0
    const expected = guess === undefined ? null : Math.max(0, last - (guess === 0 ? 1 : 0))
    const asked = { ...request, expected }
    const output = effect === Infinity ? null : execute(store, asked, index += 1 + draw(2))
    if (output?._tag === "Written") revisions.set(request.key, output.revision)
    if (output?._tag === "Deleted") revisions.set(request.key, 0)
    history.push(asked.ok === true ? { ...asked, output } : asked)
  }
  return history.toSorted((a, b) => a.call - b.call)
}

/** One answer or one interval is not what it was. */
const damaged = (draw: Draw, history: ReadonlyArray<Recorded>): ReadonlyArray<Recorded> => {
  const at = draw(history.length)
  const [one, other] = [history[at], history[draw(history.length)]]
  if (one === undefined || one.output === null || one.return === null) return history
  const { output } = one
  const [late, by] = [one.return - one.call + 1 + draw(600), draw(2) === 0 ? 1 : -1]
  const damages: ReadonlyArray<Recorded> = [
    { ...one, output: { ...output, revision: Math.max(1, output.revision + by) } },
    output._tag === "Found" ? { ...one, output: { ...output, version: Math.max(1, output.version + by) } } : one,
    output._tag === "Deleted" ? { ...one, output: { ...output, deleted: !output.deleted } } : one,
    other !== undefined && other.op === one.op ? { ...one, output: other.output ?? output } : one,
    { ...one, call: one.call + late, return: one.return + late }
  ]
  return history.with(at, damages[draw(damages.length)] ?? one)
}

/** `Missing` shows the revision of the whole store, which one key does not determine. */
const sameAnswer = (a: History.Output, b: History.Output | null): boolean =>
  a._tag === "Missing" ? b?._tag === "Missing" : isDeepStrictEqual(a, b)

type Step = readonly [request: Recorded, index: number]

/** All orders, all choices of what took effect, all log positions, each played on the real store. One key. */
const isPossible = (left: ReadonlyArray<Recorded>, positionMax: number, steps: ReadonlyArray<Step> = []): boolean =>
  left.every(({ ok }) => ok !== true) || left.some((next, i) => {
    if (left.some(({ ok, return: end }) => ok === true && end !== null && end < next.call)) return false
    const last = steps.at(-1)?.[1] ?? 0
    const store = Store.make()
    for (const [request, index] of steps) execute(store, request, index)
    const rest = left.toSpliced(i, 1)
    if (next.ok === true) {
      const isMutation = next.output?._tag === "Written" || next.output?._tag === "Deleted"
      const index = isMutation ? next.output.revision : last
      if (isMutation && index <= last) return false
      if (!sameAnswer(execute(store, next, index), next.output)) return false
      return isPossible(rest, positionMax, [...steps, [next, index]])
    }
    return next.op !== "get"
      && Array.from({ length: Math.max(0, positionMax - last) }, (_, n) => last + 1 + n)
        .some((index) => isPossible(rest, positionMax, [...steps, [next, index]]))
  })

describe("the model", () => {
  it("agrees with all orders on the real store, on 5,000 small histories of which most are damaged", () => {
    const counts = { good: 0, bad: 0 }
    for (let seed = 0; seed < 5000; seed++) {
      const draw = drawing(seed)
      const values = seed % 3 === 0 ? 0 : 2
      const drawn = drawHistory(draw, { requests: 3 + draw(4), clients: 3, keys: 1, unknownPercent: 25, values })
      const history = seed % 4 === 0 ? drawn : damaged(draw, damaged(draw, damaged(draw, drawn)))
      const shown = history.map(({ expected, output }) => Math.max(expected ?? 0, output?.revision ?? 0))
      const unknown = history.filter(({ ok }) => ok === null).length
      const expected = isPossible(history, Math.max(...shown) + unknown)
      counts[expected ? "good" : "bad"]++
      const operations = KeyValueModel.operationsOf(History.byKey(history).get("k0") ?? [])
      const plain = Linearizability.check(KeyValueModel.modelOf(), operations)._tag
      assert.strictEqual(plain, expected ? "Linearizable" : "NotLinearizable", `without evidence, seed ${seed}`)
      const names = namesOf(history).filter((name) => name !== "Revisions rise")
      assert.deepStrictEqual(names, expected ? [] : ["Linearizability (key k0)"], `seed ${seed}`)
    }
    assert.isAbove(counts.good, 1000)
    assert.isAbove(counts.bad, 1000)
  })

  it("is asked about what says something, key by key", () => {
    const history = timed([put("a", 1), openRead, { ...open("b"), ok: false }, missing(1, { key: "j" })])
    assert.deepStrictEqual([...History.byKey(history)], [["k", history.slice(0, 1)], ["j", history.slice(3)]])
  })

  it("finds nothing in what the real store answered, of whatever size", () => {
    for (let seed = 0; seed < 150; seed++) {
      const draw = drawing(seed)
      const [clients, keys, unknownPercent] = [1 + draw(10), 1 + draw(4), draw(25)]
      const size = { requests: 100 + draw(300), clients, keys, unknownPercent, values: 0 }
      assert.deepStrictEqual(KeyValueModel.check(drawHistory(draw, size)), [], `seed ${seed}`)
    }
  })

  it("decides 2,000 requests of 6 clients to one key, a tenth of unknown outcome, either way", () => {
    const history = drawHistory(drawing(1), { requests: 2000, clients: 6, keys: 1, unknownPercent: 10, values: 0 })
    assert.deepStrictEqual(KeyValueModel.check(history, { statesMax: 20_000 }), [])
    const late = history.findIndex(({ output }, i) => i > 1800 && output?._tag === "Found")
    const stale = history.find(({ output }) => output?._tag === "Found")?.output ?? null
    const read = history[late] ?? missing(0)
    assert.deepStrictEqual(namesOf(history.with(late, { ...read, output: stale })), ["Linearizability (key k0)"])
  })
})

describe("JSON lines", () => {
  const answered = [put("\"a\"\n", 1, { expected: 0 }), del(3, true), mismatch(2, 0), found("ü", 4, 1), missing(4)]
  const history = timed([...answered, open("ü"), openRead, { ...open("z"), ok: false }])
  const failureOf = (text: string) => Result.getOrThrow(Result.flip(History.parseJsonLines(text)))
  const line = (fields: object) => History.toJsonLines([{ ...at(5, 6, put("a", 1)), ...fields }])

  it("what is written is read back", () => {
    const text = History.toJsonLines(history)
    assert.lengthOf(text.split("\n"), history.length + 1)
    assert.deepStrictEqual(Result.getOrThrow(History.parseJsonLines(text)), history)
    assert.deepStrictEqual(Result.getOrThrow(History.parseJsonLines("")), [])
  })

  it("a line has these fields, in this order", () =>
    assert.strictEqual(
      line({}),
      "{\"client\":1,\"op\":\"put\",\"key\":\"k\",\"value\":\"a\",\"expected\":null,\"ok\":true,"
        + "\"output\":{\"_tag\":\"Written\",\"revision\":1},\"call\":5,\"return\":6}\n"
    ))

  it("a bad line is named, with what is wrong with it", () => {
    const error = failureOf(`${History.toJsonLines(history.slice(0, 2))}\n{"client":1,`)
    assert.instanceOf(error, History.BadLine)
    assert.strictEqual(error.line, 4)
    assert.match(error.message, /^line 4: /)
  })

  it("what contradicts itself is no record", () => {
    const problems: ReadonlyArray<readonly [fields: object, problem: RegExp]> = [
      [{ value: null }, /a put has a value/],
      [{ op: "delete" }, /a delete has no value/],
      [{ op: "get", value: null, expected: 3 }, /a get has no condition/],
      [{ ok: null }, /only a request that is ok has an output/],
      [{ ok: false }, /only a request that is ok has an output/],
      [{ output: null }, /that is ok has an output and a return/],
      [{ return: null }, /that is ok has an output and a return/],
      [{ output: { _tag: "Missing", revision: 1 } }, /a put is answered Written or RevisionMismatch/],
      [{ output: { _tag: "RevisionMismatch", revision: 1 } }, /without a condition/],
      [{ return: 4 }, /a request returns after its call/],
      [{ call: 0.5 }, /integer/],
      [{ op: "list" }, /op/],
      [{ output: { _tag: "Written", revision: -1 } }, /revision/]
    ]
    for (const [fields, problem] of problems) assert.match(failureOf(line(fields)).message, problem)
    assert.match(failureOf(line({}).replace("{", "{\"node\":1,")).message, /node/)
  })
})
