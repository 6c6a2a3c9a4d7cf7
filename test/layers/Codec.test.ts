import { assert, describe, it } from "@effect/vitest"
import { command, type Entry, noop } from "../../src/domain/Entry.ts"
import { BlockError, decodeEntries, encodeEntries } from "../../src/layers/Codec.ts"
import { entriesOf, plain } from "../contracts/storage.ts"

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
  ["a term below 1", () => blockOf(1, 0), /the first entry has index 1 and term 0/]
]

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

  for (const [what, bytes, message] of refusals) {
    it(`refuses ${what}`, () => {
      assert.throws(() => decodeCopy(bytes()), BlockError, message)
    })
  }

  it("refuses every prefix of a block", () => {
    const block = encodeEntries(entriesOf(1, 1, 3))
    for (let length = 0; length < block.length; length++) {
      assert.throws(() => decodeCopy(block.subarray(0, length)), BlockError)
    }
  })
})
