import { assert, describe, it } from "@effect/vitest"
import * as PeerFrames from "../../src/layers/PeerFrames.ts"
import { randomBelow } from "../domain/Given.ts"

/** The bytes in pieces of so many at a time, in turn. */
const cut = (bytes: Uint8Array, sizes: ReadonlyArray<number>): ReadonlyArray<Uint8Array> => {
  const pieces: Array<Uint8Array> = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    // As the network gives them: each piece in memory of its own.
    pieces.push(Uint8Array.from(bytes.subarray(at, at + size)))
    at += size
  }
  return pieces
}

describe("frames", () => {
  it("are found whole and in order, wherever the bytes are cut", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const below = randomBelow(seed)
      const sent = Array.from({ length: below(20) }, () => ({
        kind: below(256),
        body: Uint8Array.from({ length: below(300) }, () => below(256))
      }))
      const bytes = Buffer.concat(sent.flatMap(({ body, kind }) => PeerFrames.encode(kind, body)))
      const reader = new PeerFrames.Reader(1000)
      const read = cut(bytes, [1 + below(400), 1 + below(10), 1 + below(100)]).flatMap((piece) => {
        const found = reader.read(piece)
        assert(!("problem" in found))
        return found
      })
      assert.deepStrictEqual(read.map(({ body, kind }) => ({ kind, body: Uint8Array.from(body) })), sent)
    }
  })

  it("that would be longer than any that is sent are refused before they come", () => {
    const head = Buffer.alloc(5)
    head.writeUInt32BE(1001, 0)
    assert.deepStrictEqual(new PeerFrames.Reader(1000).read(head), { problem: "a frame of 1001 bytes is too long" })
  })

  it("do not keep what came with them: a body is a view only where it is most of that", () => {
    const [small, large] = [new Uint8Array(10), new Uint8Array(1000)]
    const bytes = Uint8Array.from(Buffer.concat([...PeerFrames.encode(3, small), ...PeerFrames.encode(3, large)]))
    const read = new PeerFrames.Reader(1000).read(bytes)
    assert(!("problem" in read))
    assert.deepStrictEqual(read.map(({ body }) => body.buffer === bytes.buffer), [false, true])
  })
})
