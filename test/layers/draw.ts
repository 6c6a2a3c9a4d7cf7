/**
 * What tests of the codecs send and store: sound things drawn from a seed, and configurations that are none.
 */
import { type Configuration, make } from "../../src/domain/Configuration.ts"
import { command, type Entry, type EntryId, noop, origin, type Payload } from "../../src/domain/Entry.ts"
import type { AppendEntriesResult } from "../../src/domain/Message.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import type { ConfigurationData } from "../../src/layers/ConfigurationCodec.ts"
import type { InstallSnapshotResult, PeerMessage } from "../../src/services/Transport.ts"
import { randomBelow } from "../domain/Given.ts"

const counterMax = 2 ** 48 - 1
const sizeMax = Number.MAX_SAFE_INTEGER

/** Characters of one to four bytes, and some that JSON escapes, of which one is both. */
const characters = ["a", "/", "\"", "\\", "\u0000", "\u001f", "é", "\u2028", "漢", "🚢", "\ufeff"]

/** Draws sound things: small numbers, the largest ones, and some between. */
export class Draw {
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

  some<A>(all: ReadonlyArray<A>): ReadonlyArray<A> {
    return this.from(() => [], () => all, () => all.filter(() => this.below(2) === 0))
  }

  address(): string {
    const length = this.from(() => 0, () => this.below(40), () => 1024)
    return Array.from({ length }, () => characters[this.below(characters.length)]).join("")
  }

  configuration(): Configuration {
    const name = (i: number) => `${i}.`.padEnd(this.from(() => 3, () => 64), "n_-Z")
    const names = ["__proto__", "constructor", ...Array.from({ length: 1 + this.below(9) }, (_, i) => name(i))]
    const voters = 1 + this.below(names.length)
    const learners = names.slice(voters)
    const outgoing = this.some([...names.slice(0, voters).toReversed(), "gone"])
    const addressed = this.some([...new Set([...names, ...outgoing])])
    return make({
      voters: names.slice(0, voters),
      learners,
      joining: this.some(learners),
      outgoing,
      addresses: new Map(addressed.map((id) => [id, this.address()]))
    })
  }

  payload(): Payload {
    const timeMs = this.counter()
    return this.from<Payload>(
      () => noop,
      () => command(this.bytes()),
      () => ({ _tag: "Configuration", configuration: this.configuration() }),
      () => ({ _tag: "OpenSession", timeMs, sessionsMax: this.number(1, counterMax), timeoutMs: this.counter() }),
      () => ({
        _tag: "SessionCommand",
        timeMs,
        sequenced: {
          session: this.number(1, counterMax),
          sequence: this.number(1, counterMax),
          firstUnanswered: this.number(1, counterMax)
        },
        bytes: this.bytes()
      })
    )
  }

  entries(term: number, prevIndex: number, count: number): ReadonlyArray<Entry> {
    return Array.from({ length: count }, (_, i) => ({ term, index: prevIndex + 1 + i, payload: this.payload() }))
  }

  appendEntries(): PeerMessage {
    const prev = this.id(0)
    const term = this.number(Math.max(prev.term, 1), counterMax)
    const entries = this.entries(term, prev.index, this.below(4))
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
    const isSo = this.below(2) === 0
    const chunkResult = this.from<InstallSnapshotResult>(
      () => ({ _tag: "Expects", offset: this.number(0, sizeMax) }),
      () => ({ _tag: "Received" }),
      () => ({ _tag: "Damaged" })
    )
    const readIndex = this.from(() => undefined, () => this.counter())
    return this.from<PeerMessage>(
      () => ({ _tag: "RequestVote", term, last: this.id(0), isTransfer: isSo }),
      () => ({ _tag: "RequestPreVote", term, last: this.id(0) }),
      () => ({ _tag: "RequestVoteResponse", term, voteGranted: isSo }),
      () => ({ _tag: "RequestPreVoteResponse", term, voteGranted: isSo }),
      () => this.appendEntries(),
      () => ({ _tag: "AppendEntriesResponse", term, round: this.counter(), result: this.result() }),
      () => ({ _tag: "RequestReadIndex", term, ask }),
      () => ({ _tag: "RequestReadIndexResponse", term, ask, readIndex }),
      () => this.installSnapshot(),
      () => ({ _tag: "InstallSnapshotResponse", term, last: this.id(1, term), result: chunkResult }),
      () => ({ _tag: "TimeoutNow", term })
    )
  }
}

const long = (first: number, count: number) => Array.from({ length: count }, (_, i) => `${first + i}`.padStart(64, "n"))

/**
 * Every name as long as it may be, and every address, of nothing but characters of six bytes each; and so many of them that hardly another one has
 * room.
 */
export const widest: Configuration = make({
  voters: long(0, 20),
  learners: long(20, 20),
  joining: long(20, 20),
  outgoing: long(40, 20),
  addresses: new Map(long(0, 40).map((id) => [id, "\u0001".repeat(2048)]))
})

const address = (id: string, ...addresses: ReadonlyArray<string>): ConfigurationData => ({
  voters: ["n1"],
  learners: [],
  addresses: addresses.map((one) => [id, one])
})

const named = (id: string): ConfigurationData => ({ voters: [id], learners: [] })

/** Well-formed data that is no configuration of a cluster, and what is said of it: of each something else, since a log says nothing twice. */
export const noConfigurations: ReadonlyArray<readonly [data: ConfigurationData, problem: string]> = [
  [{ voters: [], learners: ["n1"], outgoing: ["n2"] }, "a cluster needs at least one voter"],
  [{ voters: ["n1"], learners: ["n1"] }, "a server is named twice: n1, n1"],
  [{ voters: [...long(0, 100), ...long(0, 100)], learners: [] }, "a server is named twice: nnn"],
  [{ voters: ["n1"], learners: ["n2"], joining: ["n2", "n2"] }, "a server is named twice: n2, n2"],
  [{ voters: ["n1"], learners: [], outgoing: ["n3", "n3"] }, "a server is named twice: n3, n3"],
  [{ voters: ["n1"], learners: [], joining: ["n1"] }, "n1 is to become a voter and is no learner"],
  [address("n2", "http://n2"), "there is an address of n2, which is no member"],
  [address("n1", "http://n1", "http://n2"), "it has two addresses of one server"],
  [address("n1", "x".repeat(2049)), "its address of n1 has 2049 characters"],
  [address("n1", "http://\ud83d"), "its address of n1 has half a character"],
  [named(""), "it names a server \"\""],
  [named("x".repeat(100)), `it names a server "${"x".repeat(64)}"`],
  [named("\u0000".repeat(100)), "it names a server \"\\u0000"],
  [{ voters: ["n1"], learners: ["n 2"] }, "it names a server \"n 2\""],
  [{ voters: ["n1"], learners: [], joining: ["ñ2"] }, "it names a server \"ñ2\""],
  [{ voters: ["n1"], learners: [], outgoing: ["n/2"] }, "it names a server \"n/2\""],
  [address("n:1", "http://n1"), "it names a server \"n:1\""],
  [{ voters: long(0, 3300), learners: long(3300, 3300) }, "it takes up to 528128 bytes"]
]

/** The block of one entry at index 10 of term 3, whatever it holds. */
export const blockOfOne = (kind: number, payload: Uint8Array): Buffer => {
  const header = Buffer.alloc(21)
  header.writeUIntBE(10, 0, 6)
  header.writeUInt32BE(1, 6)
  header[10] = kind
  header.writeUIntBE(3, 11, 6)
  header.writeUInt32BE(payload.length, 17)
  return Buffer.concat([header, payload])
}

/** Six bytes for each number, as the payloads of sessions have them. */
export const counters = (...numbers: ReadonlyArray<number>): Buffer => {
  const bytes = Buffer.alloc(6 * numbers.length)
  for (const [i, number] of numbers.entries()) bytes.writeUIntBE(number, 6 * i, 6)
  return bytes
}
