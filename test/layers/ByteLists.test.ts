import { assert, describe, it } from "@effect/vitest"
import * as ByteLists from "../../src/layers/ByteLists.ts"

const lists = [[], [new Uint8Array()], [Uint8Array.of(1, 2, 3), new Uint8Array(), new Uint8Array(70_000).fill(7)]]

const numbersOf = (bytes: Uint8Array): ReadonlyArray<number> => Array.from(bytes)

describe("byte lists", () => {
  it("are read as they were written", () => {
    for (const list of lists) {
      const read = ByteLists.decode(ByteLists.encode(list), 10)
      assert.deepStrictEqual(read.map(numbersOf), list.map(numbersOf))
    }
  })

  it("are refused when they are cut, and when they have more items than are allowed", () => {
    const bytes = ByteLists.encode([Uint8Array.of(1, 2), Uint8Array.of(3)])
    for (const end of [1, 3, 4, 5, 7, 9, 10]) {
      assert.throws(() => ByteLists.decode(bytes.subarray(0, end), 10), RangeError, undefined, `cut at ${end}`)
    }
    assert.strictEqual(ByteLists.decode(bytes, 2).length, 2)
    assert.throws(() => ByteLists.decode(bytes, 1), RangeError)
  })

  it("hold numbers, each at its place", () => {
    const numbers = [1, 2 ** 48 - 1, 0]
    const bytes = ByteLists.encodeNumbers(numbers)
    assert.deepStrictEqual(ByteLists.decodeNumbers(bytes, 3), numbers)
    assert.throws(() => ByteLists.decodeNumbers(bytes, 4), RangeError)
  })
})
