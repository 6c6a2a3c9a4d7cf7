import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { command } from "../../src/domain/Entry.ts"
import type { ConfigurationData } from "../../src/layers/ConfigurationCodec.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import { chunk, heartbeat, listen } from "../contracts/transport.ts"
import { blockOfOne, counters, noConfigurations } from "./draw.ts"
import { cluster, hello, rawClient, takeLine, withLog } from "./peerNode.ts"

/** What a well-formed Deliver can hold that is no message, and what the log says of it. */
type Malformed = readonly [MessageCodec.WireMessage, string]

const appendEntries = (): ReadonlyArray<Malformed> => {
  const good = MessageCodec.toWire({
    _tag: "AppendEntries",
    term: 3,
    prev: { term: 2, index: 9 },
    entries: [{ term: 3, index: 10, payload: command(new Uint8Array(8).fill(7)) }],
    leaderCommit: 7,
    round: 8
  })
  assert(good._tag === "AppendEntries")
  const block = good.entries
  return [
    [{ ...good, term: -1 }, "its term is -1"],
    [{ ...good, term: Number.NaN }, "its term is NaN"],
    [{ ...good, leaderCommit: 0.5 }, "its commit index is 0.5"],
    [{ ...good, round: 2 ** 53 }, "its round is 9007199254740992"],
    [{ ...good, prev: { term: 2, index: 0 } }, "its previous entry is"],
    [{ ...good, prev: { term: 2, index: 8 } }, "its entries start at 10 and follow 8"],
    [{ ...good, prev: { term: 4, index: 9 }, term: 4 }, "the term falls from 4 to 3 at index 10"],
    [{ ...good, term: 2 }, "its last entry is of term 3, later than its own, 2"],
    [{ ...good, prev: { term: 4, index: 9 } }, "the term of its previous entry is 4"],
    [{ ...good, entries: block.subarray(0, block.length - 1) }, "entry 1 of 1 is longer than its block"],
    [{ ...good, entries: blockOfOne(2, Buffer.from("[]")) }, "a configuration of 2 bytes makes no sense"],
    [{ ...good, entries: blockOfOne(3, counters(1, 2)) }, "unknown kind of entry 3 with 12 bytes"],
    [{ ...good, entries: blockOfOne(4, counters(1, 2, 0, 1)) }, "sequence is 0, and should be 1 at least"],
    ...noConfigurations.map(([data, problem]): Malformed => [
      { ...good, entries: blockOfOne(2, Buffer.from(JSON.stringify(data))) },
      `a configuration is none: ${problem}`
    ]),
    [{ _tag: "RequestVote", term: 1, last: { term: 1, index: 2 ** 48 }, isTransfer: true }, "its last entry is"],
    [{ _tag: "TimeoutNow", term: 0.5 }, "its term is 0.5"],
    [{ _tag: "AppendEntriesResponse", term: 1, round: 1, result: { _tag: "Matched", matchIndex: -1 } }, "its round is"],
    [
      { _tag: "AppendEntriesResponse", term: 1, round: 1, result: { _tag: "NeedsSnapshot", prevIndex: 0.5 } },
      "its round is 1 and its result {"
    ]
  ]
}

const readIndexes: ReadonlyArray<Malformed> = [
  [{ _tag: "RequestReadIndex", term: 2 ** 48, ask: 1 }, "its term is 281474976710656"],
  [{ _tag: "RequestReadIndex", term: 1, ask: 2 ** 53 }, "its ask is 9007199254740992"],
  [{ _tag: "RequestReadIndexResponse", term: 1, ask: -1 }, "its ask is -1"],
  [{ _tag: "RequestReadIndexResponse", term: 1, ask: 1, readIndex: 2 ** 48 }, "its read index is 281474976710656"]
]

const chunks = (): ReadonlyArray<Malformed> => {
  const good = MessageCodec.toWire(chunk(1, 256))
  assert(good._tag === "InstallSnapshot")
  const { last, sizeBytes } = good.snapshot
  const of = (changed: Partial<typeof good.snapshot>) => ({ ...good, snapshot: { ...good.snapshot, ...changed } })
  const named = (configuration: ConfigurationData) => of({ configuration })
  return [
    [{ ...good, term: 0.5 }, "its term is 0.5"],
    [{ ...good, term: 1 }, "its snapshot is of term 2, later than its own, 1"],
    [of({ last: { term: 0, index: 0 } }), "its snapshot stands for nothing"],
    [of({ last: { term: 0, index: 5 } }), "the last entry of its snapshot is {"],
    [of({ last: { ...last, index: 2 ** 48 } }), "the last entry of its snapshot is"],
    [of({ sizeBytes: -1 }), "the size of its snapshot is -1"],
    [of({ sizeBytes: 2 ** 53 }), "the size of its snapshot is 9007199254740992"],
    [{ ...good, offset: -1 }, "its offset is -1"],
    [{ ...good, offset: Number.POSITIVE_INFINITY }, "its offset is Infinity"],
    [of({ sizeBytes: 511 }), "its bytes end at 512, and its snapshot at 511"],
    [{ ...good, offset: sizeBytes + 1, bytes: new Uint8Array(0) }, `its bytes end at ${sizeBytes + 1}`],
    // Half a character does not survive the way here: what comes is another one, and no harm to others.
    ...noConfigurations.filter(([, problem]) => !problem.endsWith("half a character")).map((
      [data, problem]
    ): Malformed => [
      named(data),
      `its configuration is none: ${problem}`
    ])
  ]
}

const chunkAnswers: ReadonlyArray<Malformed> = [
  [
    { _tag: "InstallSnapshotResponse", term: 3, last: { term: 2, index: 0 }, result: { _tag: "Received" } },
    "the last entry of its snapshot is"
  ],
  [
    { _tag: "InstallSnapshotResponse", term: 3, last: { term: 0, index: 0 }, result: { _tag: "Damaged" } },
    "its snapshot stands for nothing"
  ],
  [
    { _tag: "InstallSnapshotResponse", term: 3, last: { term: 4, index: 9 }, result: { _tag: "Received" } },
    "its snapshot is of term 4, later than its own, 3"
  ],
  [
    { _tag: "InstallSnapshotResponse", term: 3, last: { term: 2, index: 9 }, result: { _tag: "Expects", offset: 0.5 } },
    "its result is {"
  ]
]

const kinds = { appendEntries: appendEntries(), readIndexes, chunks: chunks(), chunkAnswers }

describe("a malformed message is dropped by itself, with a warning; its neighbours arrive", () => {
  for (const [kind, malformed] of Object.entries(kinds)) {
    it.live(kind, () =>
      withLog((lines) =>
        Effect.gen(function*() {
          const { start, urls } = yield* cluster()
          urls.set("n3", "http://127.0.0.1:1")
          const n2 = yield* start("n2")
          const events = yield* listen(n2)
          const client = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
          const { token } = yield* client.Hello(hello)
          const [before, after] = [MessageCodec.toWire(heartbeat(1)), MessageCodec.toWire(chunk(2, 16))]
          for (const [wire, problem] of malformed) {
            yield* client.Deliver({ token, messages: MessageFrame.encode([before, wire, after]) })
            const line = yield* takeLine(lines, "n2", "dropped a malformed message")
            assert.strictEqual(line.level, "Warn")
            const said = String(line.annotations["problem"])
            assert.include(said, `${wire._tag}: ${problem}`)
            assert.isBelow(said.length, 400)
            const arrived = yield* Queue.clear(events)
            assert.deepStrictEqual(arrived.map((event) => event._tag === "Received" && event.message), [
              heartbeat(1),
              chunk(2, 16)
            ])
          }
        })
      ))
  }
})
