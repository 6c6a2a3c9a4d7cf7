import { assert, describe, it } from "@effect/vitest"
import { type Configuration, make, ofVoters, unknown } from "../../src/domain/Configuration.ts"
import * as ConfigurationCodec from "../../src/layers/ConfigurationCodec.ts"
import * as Record from "../../src/layers/wal/Record.ts"
import { Draw, noConfigurations } from "./draw.ts"

const draws = 500
const drawn: ReadonlyArray<Configuration> = Array.from({ length: draws }, (_, seed) => new Draw(seed).configuration())

const decode = (json: string): Configuration =>
  ConfigurationCodec.fromData(ConfigurationCodec.decode(Buffer.from(json)))

const full = make({
  voters: ["n1", "n2"],
  learners: ["__proto__"],
  joining: ["__proto__"],
  outgoing: ["n3"],
  addresses: new Map([["__proto__", "http://p"], ["n1", ""]])
})

describe("a configuration as data", () => {
  it("is written as the header comment says, without what is empty", () => {
    assert.strictEqual(
      ConfigurationCodec.encode(full).toString(),
      `{"voters":["n1","n2"],"learners":["__proto__"],"joining":["__proto__"],"outgoing":["n3"],`
        + `"addresses":[["__proto__","http://p"],["n1",""]]}`
    )
    assert.strictEqual(ConfigurationCodec.encode(ofVoters(["n1"])).toString(), `{"voters":["n1"],"learners":[]}`)
  })

  it("comes out as it went in, and nothing is to be said against it", () => {
    const used = { voters: 0, learners: 0, joining: 0, outgoing: 0, addresses: 0 }
    for (const [seed, configuration] of drawn.entries()) {
      const data = ConfigurationCodec.decode(ConfigurationCodec.encode(configuration))
      assert.deepStrictEqual(ConfigurationCodec.fromData(data), configuration, `seed ${seed}`)
      assert.isUndefined(ConfigurationCodec.problem(data), `seed ${seed}`)
      for (const list of ["voters", "learners", "joining", "outgoing"] as const) {
        used[list] += configuration[list].length
      }
      used.addresses += configuration.addresses.size
    }
    for (const [list, count] of Object.entries(used)) assert.isAbove(count, draws, list)
  })

  it("is read without the fields that came later, and with ones that are unknown", () => {
    assert.deepStrictEqual(decode(`{"voters":["n1"],"learners":["n2"]}`), make({ voters: ["n1"], learners: ["n2"] }))
    assert.deepStrictEqual(decode(`{"voters":["n1"],"learners":[],"witnesses":["n9"]}`), ofVoters(["n1"]))
  })

  for (
    const json of [
      "",
      "null",
      `{"voters":["n1"]}`,
      `{"voters":"n1","learners":[]}`,
      `{"voters":["n1"],"learners":[],"joining":null}`,
      `{"voters":["n1"],"learners":[],"addresses":{"n1":"a"}}`,
      `{"voters":["n1"],"learners":[],"addresses":[["n1"]]}`,
      `{"voters":["n1"],"learners":[],"addresses":[["n1","a","b"]]}`
    ]
  ) {
    it(`is not ${json === "" ? "nothing" : json}`, () => {
      assert.throws(() => decode(json), /./, "SchemaError")
    })
  }

  for (const [data, problem] of noConfigurations) {
    it(`is not one where ${problem.slice(0, 60)}`, () => {
      const said = ConfigurationCodec.problem(data)
      assert.include(said, problem)
      assert.isBelow(said?.length ?? 0, 300)
    })
  }

  it("that names very many servers, all of them sound, is refused at once", () => {
    const ids = Array.from({ length: 300_000 }, (_, i) => `n${i}`)
    const addresses = ids.map((id) => [id, "a"] as const)
    const said = ConfigurationCodec.problem({ voters: ["v"], learners: ids, joining: ids, addresses })
    assert.strictEqual(said, "it takes up to 73800208 bytes, and a configuration may have 524288")
  })
})

const mark = Uint8Array.from({ length: Record.markBytes }, (_, i) => i + 1)

/** The record that says so and no more, read again. `spoil` gives another JSON of the same length. */
const stored = (configuration: Configuration, spoil = (json: string): string => json): Record.Found => {
  const start: Record.Start = { prev: { term: 2, index: 7 }, last: { term: 2, index: 9 }, keepsLog: true }
  const record = Record.make({ hardState: undefined, configuration, start, entries: [] })
  assert(record !== undefined && record.configuration !== undefined)
  record.configuration.write(spoil(record.configuration.toString("latin1")), "latin1")
  return Record.decode(Record.encode(record, mark, 1, Buffer.alloc(record.bytes)), 0, mark)
}

const partsOf = (found: Record.Found): Record.Parts => found._tag === "Whole" ? found.parts : assert.fail(found.problem)

describe("the configuration at the beginning of a log", () => {
  it("is any of a cluster, or that of a server that waits to be added", () => {
    for (const [seed, configuration] of [unknown, ...drawn].entries()) {
      assert.deepStrictEqual(partsOf(stored(configuration)).configuration, configuration, `number ${seed}`)
    }
  })

  it("goes with entries of every kind", () => {
    for (let seed = 0; seed < 200; seed++) {
      const draw = new Draw(seed)
      const hardState = { term: 4, votedFor: "n1" }
      const parts = { hardState, configuration: draw.configuration(), start: undefined, entries: draw.entries(3, 7, 3) }
      const record = Record.make(parts)
      assert(record !== undefined)
      const segment = Record.encode(record, mark, 1, Buffer.alloc(record.bytes))
      assert.deepStrictEqual(partsOf(Record.decode(segment, 0, mark)), parts, `seed ${seed}`)
    }
  })

  const swap = (from: string, to: string) => (json: string): string => {
    assert.include(json, from)
    return json.replace(from, to.padEnd(from.length))
  }
  const nonsense: ReadonlyArray<readonly [what: string, found: () => Record.Found, problem: string]> = [
    ["learners and no voter", () => stored(full, swap(`["n1","n2"]`, "[]")), "a cluster needs at least one voter"],
    ["a server that is named twice", () => stored(full, swap(`"n2"`, `"n1"`)), "a server is named twice: n1, n1"],
    ["two addresses of one", () => stored(full, swap(`["__proto__","http://p"]`, `["n1",""]`)), "two addresses of one"],
    ["what is no name", () => stored(full, swap(`"n2"`, `"n "`)), "it names a server \"n \""],
    ["no learners at all", () => stored(full, swap(`"learners"`, `"nothings"`)), "Missing key"],
    ["no JSON", () => stored(full, swap(`{`, "")), "JSON"]
  ]
  for (const [what, found, problem] of nonsense) {
    it(`has not ${what}, in an intact record`, () => {
      const decoded = found()
      if (decoded._tag !== "Nonsense") return assert.fail(decoded._tag)
      assert.include(decoded.problem, "record 1 is intact but makes no sense")
      assert.include(decoded.problem, problem)
    })
  }
})
