/**
 * Copies that share memory and nothing else.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Slab from "../../src/services/Slab.ts"

const filled = (length: number, with_: number): Uint8Array => new Uint8Array(length).fill(with_)

describe("a slab", () => {
  it("gives copies that neither their origin nor each other changes, of any length", () => {
    const copy = Slab.make()
    const origins = [0, 1, 100, 4096, 4097, 70_000, 3, 4095, 65_536].flatMap((length, i) =>
      Array.from({ length: 20 }, (_, j) => filled(length, (i * 20 + j) % 256))
    )
    const copies = origins.map((origin) => copy(origin))
    const expected = origins.map((origin) => Uint8Array.from(origin))
    for (const origin of origins) origin.fill(0)
    assert.deepStrictEqual(copies, expected)
    for (const one of copies) one.fill(7)
    assert.isTrue(copies.every((one, i) => one.length === expected[i]?.length && one.every((byte) => byte === 7)))
  })

  it("puts short ones side by side, so that a thousand of them are a few arrays", () => {
    const copy = Slab.make()
    const buffers = new Set(Array.from({ length: 1000 }, () => copy(filled(100, 1)).buffer))
    assert.isAtMost(buffers.size, 2)
  })

  it("never holds a long one together with others", () => {
    const copy = Slab.make()
    assert.notStrictEqual(copy(filled(5000, 1)).buffer, copy(filled(10, 1)).buffer)
  })
})
