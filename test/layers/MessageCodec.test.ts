import { assert, describe, it } from "@effect/vitest"
import type * as Entries from "../../src/domain/Entry.ts"
import * as ConfigurationCodec from "../../src/layers/ConfigurationCodec.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import type { PeerMessage } from "../../src/services/Transport.ts"
import { everyShape } from "../contracts/transport.ts"
import { Draw, widest } from "./draw.ts"

const encode = (wire: MessageCodec.WireMessage): Uint8Array => MessageFrame.encode([wire])

const decode = (frame: Uint8Array): MessageCodec.WireMessage => {
  const messages = MessageFrame.decode(frame)
  return "problem" in messages ? assert.fail(messages.problem) : messages[0] ?? assert.fail("no message")
}

const travel = (message: PeerMessage): Uint8Array => encode(MessageCodec.toWire(message))

const counterMax = 2 ** 48 - 1

const draws = 3000
const messages: ReadonlyArray<PeerMessage> = Array.from({ length: draws }, (_, seed) => new Draw(seed).message())

/** `value` with each of its numbers in turn replaced by `put`, and where that number was. */
const withNumbers = (
  value: unknown,
  put: number
): ReadonlyArray<{ readonly path: string; readonly value: unknown }> => {
  if (typeof value === "number") return [{ path: "", value: put }]
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || Array.isArray(value)) return []
  return Object.entries(value).flatMap(([key, field]) =>
    withNumbers(field, put).map((changed) => ({
      path: `.${key}${changed.path}`,
      value: { ...value, [key]: changed.value }
    }))
  )
}

/** What becomes of `everyShape`, as wire messages, with `put` in place of one number: where it was, and the verdict. */
const verdicts = (put: number) =>
  everyShape.flatMap((message) =>
    withNumbers(MessageCodec.toWire(message), put).map(({ path, value }) => ({
      where: `${message._tag}${path}`,
      decoded: MessageCodec.fromWire(decode(encode(value as MessageCodec.WireMessage)))
    }))
  )

describe("messages", () => {
  it("are drawn of every kind, with every kind of entry", () => {
    const kinds = (of: ReadonlyArray<PeerMessage>) =>
      [...new Set(of.map((message) => `${message._tag} ${"result" in message ? message.result._tag : ""}`))].toSorted()
    assert.deepStrictEqual(kinds(messages), kinds(everyShape))
    const carried = (of: ReadonlyArray<PeerMessage>) =>
      new Set(
        of.flatMap((message) => message._tag === "AppendEntries" ? message.entries : []).map((entry) =>
          entry.payload._tag
        )
      )
    for (const  of of[messages, everyShape]) {
      assert.hasAllKeys(carried(of), ["Noop", "Command", "Configuration", "OpenSession", "SessionCommand"])
    }
  })

  it("come out of the wire as they went in", () => {
    for (const [seed, message] of messages.entries()) {
      assert.deepStrictEqual(MessageCodec.fromWire(decode(travel(message))), { message }, `seed ${seed}`)
    }
  })

  it("take no more bytes than they are said to", () => {
    for (const [seed, message] of messages.entries()) {
      assert.isAtMost(travel(message).length, MessageCodec.sizeBytes(message), `seed ${seed}`)
    }
  })

  it("count for the bytes that they carry", () => {
    for (const message of messages) {
      if (message._tag !== "InstallSnapshot") continue
      assert.isAtLeast(MessageCodec.sizeBytes(message), message.bytes.length)
      const configurationBytes = ConfigurationCodec.encode(message.snapshot.configuration).length
      assert.isAtMost(MessageCodec.sizeBytes(message), message.bytes.length + 512 + 20 * configurationBytes)
    }
  })

  it("take no more bytes than they are said to where every name and address is as long as it may be", () => {
    const payload: Entries.Payload = { _tag: "Configuration", configuration: widest }
    const entry: Entries.Entry = { term: counterMax, index: counterMax, payload }
    const last = { term: counterMax, index: counterMax - 1 }
    const appendEntries: PeerMessage = {
      _tag: "AppendEntries",
      term: counterMax,
      prev: last,
      entries: [entry],
      leaderCommit: counterMax,
      round: counterMax
    }
    const piece: PeerMessage = {
      _tag: "InstallSnapshot",
      term: counterMax,
      snapshot: { last, configuration: widest, sizeBytes: Number.MAX_SAFE_INTEGER },
      offset: Number.MAX_SAFE_INTEGER,
      bytes: new Uint8Array(0)
    }
    for (const message of [appendEntries, piece]) {
      assert.isAtMost(travel(message).length, MessageCodec.sizeBytes(message), message._tag)
      assert.deepStrictEqual(MessageCodec.fromWire(decode(travel(message))), { message })
    }
  })

  for (const impossible of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 60]) {
    it(`are refused with ${impossible} in any of their numbers`, () => {
      const all = verdicts(impossible)
      assert.isAbove(all.length, 50)
      assert.deepStrictEqual(all.filter(({ decoded }) => !("problem" in decoded)).map(({ where }) => where), [])
    })
  }

  it("are refused with a term or index that does not fit into six bytes; sizes and asks may be larger", () => {
    const passed = verdicts(counterMax + 1).filter(({ decoded }) => "message" in decoded).map(({ where }) => where)
    assert.deepStrictEqual([...new Set(passed)].toSorted(), [
      "InstallSnapshot.offset",
      "InstallSnapshotResponse.result.offset",
      "RequestReadIndex.ask",
      "RequestReadIndexResponse.ask"
    ])
  })

  it("do not share the bytes of a chunk with the frame that brought them", () => {
    const message = everyShape.find((shape) => shape._tag === "InstallSnapshot")
    assert(message !== undefined)
    const frame = travel(message)
    const decoded = MessageCodec.fromWire(decode(frame))
    frame.fill(0)
    assert.deepStrictEqual(decoded, { message })
  })

  it("travel together, and a frame that is cut, or changed anywhere, is refused or is other messages", () => {
    const wires = everyShape.map(MessageCodec.toWire)
    const frame = MessageFrame.encode(wires)
    assert.deepStrictEqual(MessageFrame.decode(frame), wires)
    const ends = new Set(wires.map((_, i) => MessageFrame.encode(wires.slice(0, i + 1)).length)).add(0)
    for (let end = 0; end <= frame.length; end++) {
      assert.strictEqual("problem" in MessageFrame.decode(frame.subarray(0, end)), !ends.has(end), `cut at ${end}`)
    }
    for (let at = 0; at < frame.length; at++) {
      const changed = frame.slice()
      changed[at] = (changed[at] ?? 0) ^ 0xff
      const decoded = MessageFrame.decode(changed)
      if (!("problem" in decoded)) decoded.forEach(MessageCodec.fromWire)
    }
  })
})
