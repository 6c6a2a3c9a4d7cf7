import { assert, describe, it } from "@effect/vitest"
import { type Configuration, make, ofVoters, unknown } from "../../src/domain/Configuration.ts"
import { command, type Entry, noop, type Payload, sizeBytes } from "../../src/domain/Entry.ts"
import { BlockError, decodeEntries, encodeEntries } from "../../src/layers/Codec.ts"
import * as ConfigurationCodec from "../../src/layers/ConfigurationCodec.ts"
import { entriesOf, plain } from "../contracts/storage.ts"
import { blockOfOne, counters, Draw, noConfigurations, widest } from "./draw.ts"

/** A block of the no-ops of the given terms, from `firstIndex` on, as bytes that a test may spoil. */
const blockOf = (firstIndex: number, ...terms: ReadonlyArray<number>): Buffer =>
  Buffer.from(encodeEntries(terms.map((term, i): Entry => ({ term, index: firstIndex + i, payload: noop }))))

/** Decodes a copy, so that nothing remembered of the bytes helps. */
const decodeCopy = (bytes: Uint8Array) => decodeEntries(Uint8Array.from(bytes))

const refusals: ReadonlyArray<readonly [what: string, bytes: () => Uint8Array, message: RegExp]> = [
  ["a block without room for its header", () => blockOf(1).subarray(0, 9), /9 bytes has no room for its header/],
  ["a block that ends before its last entry", () => blockOf(1, 1, 1).subarray(0, 21), /ends before entry 2 of 2/],
  ["an entry that is longer than its block", () => {
    const block = blockOf(1, 1)
    block.writeUInt32BE(1, 17)
    return block
  }, /entry 1 of 1 is longer than its block/],
  ["a length of 4 GiB, without allocating it", () => {
    const block = blockOf(1, 1)
    block.writeUInt32BE(0xffffffff, 17)
    return block
  }, /entry 1 of 1 is longer than its block/],
  ["a count of 4 Gi entries, without allocating them", () => {
    const block = blockOf(1, 1)
    block.writeUInt32BE(0xffffffff, 6)
    return block
  }, /ends before entry 2 of 4294967295/],
  ["a term that falls", () => blockOf(7, 3, 2), /the term falls from 3 to 2 at index 8/],
  ["a kind of entry that it does not know", () => {
    const block = blockOf(1, 1)
    block[10] = 9
    return block
  }, /unknown kind of entry 9/],
  ["a no-op with a payload", () => {
    const block = Buffer.from(encodeEntries([{ term: 1, index: 1, payload: command(Uint8Array.of(5)) }]))
    block[10] = 0
    return block
  }, /unknown kind of entry 0 with 1 bytes/],
  ["bytes after the last entry", () => Buffer.concat([blockOf(1, 1), Buffer.alloc(3)]), /3 bytes follow the last/],
  ["bytes after an empty block", () => Buffer.concat([blockOf(0), Buffer.alloc(1)]), /1 bytes follow the last/],
  ["an index below 1", () => blockOf(0, 1), /the first entry has index 0 and term 1/],
  ["a term below 1", () => blockOf(1, 0), /the first entry has index 1 and term 0/],
  [
    "a configuration that is no JSON",
    () => blockOfOne(2, Buffer.from("{\"voters\"")),
    /a configuration of 9 bytes makes no sense/
  ],
  ["a configuration of no bytes", () => blockOfOne(2, Buffer.alloc(0)), /a configuration of 0 bytes makes no sense/],
  [
    "JSON that is no configuration",
    () => blockOfOne(2, Buffer.from("{\"voters\":[1],\"learners\":[]}")),
    /a configuration of 28 bytes makes no sense/
  ],
  [
    "the configuration of a server that belongs to no cluster",
    () => blockOfOne(2, ConfigurationCodec.encode(unknown)),
    /a configuration is none: a cluster needs at least one voter/
  ],
  ["an opening that is too short", () => blockOfOne(3, Buffer.alloc(17, 1)), /kind of entry 3 with 17 bytes/],
  ["an opening that is too long", () => blockOfOne(3, Buffer.alloc(19, 1)), /kind of entry 3 with 19 bytes/],
  ["an opening where none may be", () => blockOfOne(3, counters(5, 0, 7)), /sessionsMax is 0, and should be 1 at/],
  ["a session command cut short", () => blockOfOne(4, Buffer.alloc(23, 1)), /kind of entry 4 with 23 bytes/],
  ["a command of no session", () => blockOfOne(4, counters(1, 0, 1, 1)), /session is 0, and should be 1 at least/],
  ["a command without a number", () => blockOfOne(4, counters(1, 1, 0, 1)), /sequence is 0, and should be 1 at least/],
  ["a command after none", () => blockOfOne(4, counters(1, 1, 1, 0)), /firstUnanswered is 0, and should be 1 at/]
]

const opening = { _tag: "OpenSession", timeMs: 5, sessionsMax: 6, timeoutMs: 7 } as const
const sequenced = { session: 2, sequence: 3, firstUnanswered: 4 }
const sequencedWith = (changed: Partial<typeof sequenced>, timeMs = 1): Payload => ({
  _tag: "SessionCommand",
  timeMs,
  sequenced: { ...sequenced, ...changed },
  bytes: Uint8Array.of(170, 187)
})

/** What a block would not say as it is, or no server would read. */
const unwritable: ReadonlyArray<readonly [payload: Payload, problem: string]> = [
  [{ ...opening, timeMs: -1 }, "timeMs is -1"],
  [{ ...opening, sessionsMax: 0 }, "sessionsMax is 0"],
  [{ ...opening, timeoutMs: 2 ** 48 }, "timeoutMs is 281474976710656"],
  [sequencedWith({}, 0.5), "timeMs is 0.5"],
  [sequencedWith({ session: 0 }), "session is 0"],
  [sequencedWith({ sequence: Number.NaN }), "sequence is NaN"],
  [sequencedWith({ firstUnanswered: 1.5 }), "firstUnanswered is 1.5"],
  [{ _tag: "Configuration", configuration: unknown }, "a cluster needs at least one voter"],
  [{ _tag: "Configuration", configuration: ofVoters(["ñ1"]) }, "it names a server \"ñ1\""]
]

const oneOf = (payload: Payload): ReadonlyArray<Entry> => [{ term: 3, index: 258, payload }]

const hexOf = (payload: Payload): string => Buffer.from(encodeEntries(oneOf(payload))).toString("hex")

describe("Codec", () => {
  it("decodes what it encoded: no-ops, empty and large commands, the largest terms and indices", () => {
    const index = 2 ** 47
    const cases: ReadonlyArray<ReadonlyArray<Entry>> = [
      [],
      entriesOf(1, 1, 64, 280),
      [
        { term: 1, index, payload: noop },
        { term: 1, index: index + 1, payload: command(new Uint8Array(0)) },
        { term: 2 ** 47, index: index + 2, payload: command(Buffer.alloc(100_000, "large")) }
      ]
    ]
    for (const entries of cases) {
      const decoded = decodeCopy(encodeEntries(entries))
      assert.deepStrictEqual(plain(decoded), plain(entries))
      assert.deepStrictEqual(decoded.map(({ payload }) => payload._tag), entries.map(({ payload }) => payload._tag))
    }
  })

  it("lays a block out as its header comment says", () => {
    const block = encodeEntries([{ term: 3, index: 258, payload: command(Uint8Array.of(170, 187)) }])
    assert.strictEqual(
      Buffer.from(block).toString("hex"),
      ["000000000102", "00000001", "01", "000000000003", "00000002", "aabb"].join("")
    )
  })

  it("lays out the other kinds of payload as its header comment says", () => {
    const before = "00000000010200000001"
    const configuration = make({ voters: ["n1"], learners: [], addresses: new Map([["n1", "http://ñ"]]) })
    const json = Buffer.from(`{"voters":["n1"],"learners":[],"addresses":[["n1","http://ñ"]]}`)
    assert.strictEqual(
      hexOf({ _tag: "Configuration", configuration }),
      [before, "02", "000000000003", "00000040", json.toString("hex")].join("")
    )
    assert.strictEqual(
      hexOf(opening),
      [before, "03", "000000000003", "00000012", "000000000005", "000000000006", "000000000007"].join("")
    )
    assert.strictEqual(
      hexOf(sequencedWith({})),
      [before, "04", "000000000003", "0000001a", "000000000001000000000002000000000003000000000004", "aabb"].join("")
    )
  })

  it("decodes payloads of every kind as they were, and takes no more bytes for them than the limits count", () => {
    const seen = new Map<string, number>()
    for (let seed = 0; seed < 2000; seed++) {
      const entries = new Draw(seed).entries(3, seed, 1 + seed % 4)
      const block = encodeEntries(entries)
      assert.deepStrictEqual(decodeCopy(block), entries, `seed ${seed}`)
      assert.isAtMost(block.length, 10 + entries.reduce((sum, entry) => sum + sizeBytes(entry), 0), `seed ${seed}`)
      for (const { payload } of entries) seen.set(payload._tag, (seen.get(payload._tag) ?? 0) + 1)
    }
    assert.deepStrictEqual([...seen.values()].map((count) => count > 500), [true, true, true, true, true])
  })

  it("takes no more than the limits count for a configuration where all is as long as it may be", () => {
    const entries = oneOf({ _tag: "Configuration", configuration: widest })
    assert.isAtMost(encodeEntries(entries).length, 10 + sizeBytes(entries[0] ?? assert.fail()))
    assert.deepStrictEqual(decodeCopy(encodeEntries(entries)), entries)
  })

  it("reads a configuration without the fields that came later", () => {
    const json = Buffer.from(`{"learners":["n2"],"voters":["n1"],"unknown":{"to":"this program"}}`)
    const configuration: Configuration = make({ voters: ["n1"], learners: ["n2"] })
    const payload: Payload = { _tag: "Configuration", configuration }
    assert.deepStrictEqual(decodeCopy(blockOfOne(2, json)), [{ term: 3, index: 10, payload }])
  })

  for (const [payload, problem] of unwritable) {
    it(`writes no entry that says ${payload._tag}: ${problem}`, () => {
      assert.throws(() => encodeEntries(oneOf(payload)), RangeError, `an entry cannot be written: ${problem}`)
    })
  }

  for (const [data, problem] of noConfigurations) {
    it(`neither reads nor writes a configuration of which is to be said: ${problem.slice(0, 80)}`, () => {
      const json = Buffer.from(JSON.stringify(data))
      assert.throws(() => decodeCopy(blockOfOne(2, json)), BlockError, `a configuration is none: ${problem}`)
      // Of two addresses a map holds one.
      if (problem.startsWith("it has two addresses")) return
      const payload: Payload = { _tag: "Configuration", configuration: ConfigurationCodec.fromData(data) }
      assert.throws(() => encodeEntries(oneOf(payload)), RangeError, `an entry cannot be written: ${problem}`)
    })
  }

  it("encodes an array once, and a decoded array not at all", () => {
    const entries = entriesOf(1, 1, 3)
    const block = encodeEntries(entries)
    assert.strictEqual(encodeEntries(entries), block)
    const received = Uint8Array.from(block)
    assert.strictEqual(encodeEntries(decodeEntries(received)), received)
  })

  it("decodes payloads as views on the block, wherever in its buffer the block lies", () => {
    const block = encodeEntries(entriesOf(1, 1, 3))
    const larger = new Uint8Array(block.length + 20)
    larger.set(block, 13)
    const decoded = decodeEntries(larger.subarray(13, 13 + block.length))
    assert.deepStrictEqual(plain(decoded), plain(entriesOf(1, 1, 3)))
    for (const { payload } of decoded) {
      assert.strictEqual(payload._tag === "Command" && payload.bytes.buffer, larger.buffer)
    }
  })

  it("decodes commands of sessions as views on the block, too", () => {
    const block = Uint8Array.from(encodeEntries(oneOf(sequencedWith({}))))
    const [entry] = decodeEntries(block)
    assert(entry?.payload._tag === "SessionCommand")
    assert.strictEqual(entry.payload.bytes.buffer, block.buffer)
    assert.notInstanceOf(entry.payload.bytes, Buffer)
    assert.deepStrictEqual(entry.payload.bytes, Uint8Array.of(170, 187))
  })

  for (const [what, bytes, message] of refusals) {
    it(`refuses ${what}`, () => {
      assert.throws(() => decodeCopy(bytes()), BlockError, message)
    })
  }

  it("refuses every prefix of a block", () => {
    const configuration = ofVoters(["n1", "n2"])
    const payloads: ReadonlyArray<Payload> = [opening, sequencedWith({}), { _tag: "Configuration", configuration }]
    const others = payloads.map((payload, i): Entry => ({ term: 1, index: 4 + i, payload }))
    const block = encodeEntries([...entriesOf(1, 1, 3), ...others])
    for (let length = 0; length < block.length; length++) {
      assert.throws(() => decodeCopy(block.subarray(0, length)), BlockError)
    }
  })
})
