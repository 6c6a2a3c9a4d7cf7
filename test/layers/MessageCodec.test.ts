import { assert, describe, it } from "@effect/vitest"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import * as Schema from "effect/Schema"
import type { Configuration } from "../../src/domain/Configuration.ts"
import { command, type Entry, type EntryId, noop, origin } from "../../src/domain/Entry.ts"
import type { AppendEntriesResult } from "../../src/domain/Message.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import type { InstallSnapshotResult, PeerMessage } from "../../src/services/Transport.ts"
import { everyShape } from "../contracts/transport.ts"
import { randomBelow } from "../domain/Given.ts"

const wireCodec = SchemaBinary.toCodec(MessageCodec.WireMessage)
const encode = Schema.encodeSync(wireCodec)
const decode = Schema.decodeSync(wireCodec)

/** `message` as bytes that nothing else shares. */
const travel = (message: PeerMessage): Uint8Array<ArrayBuffer> => Uint8Array.from(encode(MessageCodec.toWire(message)))

const counterMax = 2 ** 48 - 1
const sizeMax = Number.MAX_SAFE_INTEGER

/** Draws sound messages: small numbers, the largest ones, and some between. */
class Draw {
  readonly below: (max: number) => number

  constructor(seed: number) {
    this.below = randomBelow(seed)
  }

  from<A>(...makers: readonly [() => A, ...ReadonlyArray<() => A>]): A {
    return (makers[this.below(makers.length)] ?? makers[0])()
  }

  number(min: number, max: number): number {
    const span = Math.min(max - min, 2 ** 31)
    return this.from(() => min, () => max, () => min + this.below(span + 1), () => max - this.below(span + 1))
  }

  bytes(): Uint8Array {
    return Uint8Array.from({ length: this.from(() => 0, () => this.below(5000)) }, () => this.below(256))
  }

  id(min: number, termMax = counterMax): EntryId {
    const id = { term: this.number(1, termMax), index: this.number(1, counterMax - 10) }
    return min === 0 && this.below(4) === 0 ? origin : id
  }

  configuration(): Configuration {
    const name = (i: number) => `${i}.`.padEnd(this.from(() => 3, () => 64), "n_-Z")
    const names = Array.from({ length: 1 + this.below(9) }, (_, i) => name(i))
    const voters = 1 + this.below(names.length)
    return { voters: names.slice(0, voters), learners: names.slice(voters) }
  }

  appendEntries(): PeerMessage {
    const prev = this.id(0)
    const term = this.number(Math.max(prev.term, 1), counterMax)
    const entries = Array.from({ length: this.below(4) }, (_, i): Entry => ({
      term,
      index: prev.index + 1 + i,
      payload: this.from(() => noop, () => command(this.bytes()))
    }))
    return { _tag: "AppendEntries", term, prev, entries, leaderCommit: this.counter(), round: this.counter() }
  }

  installSnapshot(): PeerMessage {
    const term = this.number(1, counterMax)
    const bytes = this.bytes()
    const sizeBytes = this.number(bytes.length, sizeMax)
    const snapshot: Snapshot = { last: this.id(1, term), configuration: this.configuration(), sizeBytes }
    return { _tag: "InstallSnapshot", term, snapshot, offset: this.number(0, sizeBytes - bytes.length), bytes }
  }

  counter(): number {
    return this.number(0, counterMax)
  }

  result(): AppendEntriesResult {
    const prevIndex = this.counter()
    const conflict = { term: this.from(() => undefined, () => this.counter()), index: this.counter() }
    return this.from<AppendEntriesResult>(
      () => ({ _tag: "Matched", matchIndex: prevIndex }),
      () => ({ _tag: "Rejected", prevIndex, conflict }),
      () => ({ _tag: "NeedsSnapshot", prevIndex }),
      () => ({ _tag: "Stale" })
    )
  }

  message(): PeerMessage {
    const term = this.number(1, counterMax)
    const ask = this.number(0, sizeMax)
    const voteGranted = this.below(2) === 0
    const chunkResult = this.from<InstallSnapshotResult>(
      () => ({ _tag: "Expects", offset: this.number(0, sizeMax) }),
      () => ({ _tag: "Received" }),
      () => ({ _tag: "Damaged" })
    )
    const readIndex = this.from(() => undefined, () => this.counter())
    return this.from<PeerMessage>(
      () => ({ _tag: "RequestVote", term, last: this.id(0) }),
      () => ({ _tag: "RequestPreVote", term, last: this.id(0) }),
      () => ({ _tag: "RequestVoteResponse", term, voteGranted }),
      () => ({ _tag: "RequestPreVoteResponse", term, voteGranted }),
      () => this.appendEntries(),
      () => ({ _tag: "AppendEntriesResponse", term, round: this.counter(), result: this.result() }),
      () => ({ _tag: "RequestReadIndex", term, ask }),
      () => ({ _tag: "RequestReadIndexResponse", term, ask, readIndex }),
      () => this.installSnapshot(),
      () => ({ _tag: "InstallSnapshotResponse", term, last: this.id(1, term), result: chunkResult })
    )
  }
}

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
  it("are drawn of every kind", () => {
    const kinds = (of: ReadonlyArray<PeerMessage>) =>
      [...new Set(of.map((message) => `${message._tag} ${"result" in message ? message.result._tag : ""}`))].toSorted()
    assert.deepStrictEqual(kinds(messages), kinds(everyShape))
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
      assert.isAtMost(MessageCodec.sizeBytes(message), message.bytes.length + 1024)
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
})
