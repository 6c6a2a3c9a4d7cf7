/**
 * What every `Transport` owes its node. A run starts transports of the same cluster by name; on a healthy network,
 * what is sent arrives.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Configuration from "../../src/domain/Configuration.ts"
import { command, type Entry, noop } from "../../src/domain/Entry.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import type { Snapshot } from "../../src/domain/Snapshot.ts"
import type { Inbound, InstallSnapshot, PeerMessage, Transport } from "../../src/services/Transport.ts"

export interface Harness {
  /**
   * Brings up the transport of `n1`, `n2` or `n3`, until the scope closes. Starting it again is a restart of that
   * server.
   */
  readonly start: (id: NodeId) => Effect.Effect<Transport["Service"], never, Scope.Scope>
  /** The configuration of these servers, with their addresses where the transport needs them. They have been started. */
  readonly configuration: (...voters: ReadonlyArray<NodeId>) => Configuration.Configuration
}

/** Binds a title to a test, as `it.effect` and `it.live` do. */
export type Test = (title: string, body: () => Effect.Effect<void, unknown, Scope.Scope>) => void

export const heartbeat = (round: number): Message => ({
  _tag: "AppendEntries",
  term: 3,
  prev: { term: 2, index: 9 },
  entries: [],
  leaderCommit: 7,
  round
})

const everyByte = Uint8Array.from({ length: 256 }, (_, i) => i)

/** Several of its servers are being changed at once; one is named like a property that every object has. */
const configuration = Configuration.make({
  voters: ["n1", "n2", "n3"],
  learners: ["a.learner_with-a_longer.name", "__proto__"],
  joining: ["__proto__"],
  outgoing: ["n4", "n1"],
  addresses: new Map([["n1", "http://127.0.0.1:7101"], ["__proto__", "http://höst:7102/\u0007"]])
})

const entries: ReadonlyArray<Entry> = [
  { term: 2, index: 10, payload: noop },
  { term: 3, index: 11, payload: command(everyByte) },
  { term: 3, index: 12, payload: command(new Uint8Array(0)) },
  { term: 3, index: 13, payload: { _tag: "Configuration", configuration } },
  { term: 3, index: 14, payload: { _tag: "OpenSession", timeMs: 2 ** 47, sessionsMax: 2 ** 33, timeoutMs: 2 ** 46 } },
  {
    term: 3,
    index: 15,
    payload: {
      _tag: "SessionCommand",
      timeMs: 2 ** 47 + 1,
      sequenced: { session: 14, sequence: 2 ** 40, firstUnanswered: 2 ** 39 },
      bytes: everyByte
    }
  }
]

const snapshot: Snapshot = {
  last: { term: 2, index: 2 ** 40 },
  configuration,
  sizeBytes: 2 ** 52
}

const answerChunk = { _tag: "InstallSnapshotResponse", term: 3, last: snapshot.last } as const

/** One of every shape, with no field at a value that a decoder could have made up. */
export const everyShape: ReadonlyArray<PeerMessage> = [
  { _tag: "RequestVote", term: 4, last: { term: 3, index: 12 }, isTransfer: true },
  { _tag: "RequestVote", term: 1, last: { term: 0, index: 0 }, isTransfer: false },
  { _tag: "RequestVoteResponse", term: 4, voteGranted: true },
  { _tag: "RequestVoteResponse", term: 5, voteGranted: false },
  { _tag: "RequestPreVote", term: 2 ** 48 - 1, last: { term: 3, index: 2 ** 48 - 1 } },
  { _tag: "RequestPreVoteResponse", term: 6, voteGranted: true },
  { _tag: "RequestPreVoteResponse", term: 7, voteGranted: false },
  heartbeat(41),
  { _tag: "AppendEntries", term: 3, prev: { term: 2, index: 9 }, entries, leaderCommit: 8, round: 42 },
  { _tag: "AppendEntriesResponse", term: 3, round: 42, result: { _tag: "Matched", matchIndex: 12 } },
  {
    _tag: "AppendEntriesResponse",
    term: 3,
    round: 43,
    result: { _tag: "Rejected", prevIndex: 9, conflict: { term: 2, index: 5 } }
  },
  {
    _tag: "AppendEntriesResponse",
    term: 3,
    round: 44,
    result: { _tag: "Rejected", prevIndex: 10, conflict: { term: undefined, index: 6 } }
  },
  { _tag: "AppendEntriesResponse", term: 3, round: 45, result: { _tag: "NeedsSnapshot", prevIndex: 11 } },
  { _tag: "AppendEntriesResponse", term: 4, round: 46, result: { _tag: "Stale" } },
  { _tag: "RequestReadIndex", term: 3, ask: 2 ** 53 - 1 },
  { _tag: "RequestReadIndexResponse", term: 3, ask: 2 ** 53 - 2, readIndex: 12 },
  { _tag: "RequestReadIndexResponse", term: 4, ask: 2 ** 48, readIndex: undefined },
  { _tag: "InstallSnapshot", term: 3, snapshot, offset: 2 ** 51, bytes: everyByte },
  { _tag: "InstallSnapshot", term: 3, snapshot, offset: snapshot.sizeBytes, bytes: new Uint8Array(0) },
  { ...answerChunk, result: { _tag: "Expects", offset: 2 ** 51 + 256 } },
  { ...answerChunk, result: { _tag: "Received" } },
  { ...answerChunk, result: { _tag: "Damaged" } },
  { _tag: "TimeoutNow", term: 8 }
]

/** Piece `number` of a snapshot, unlike its neighbours in each byte. */
export const chunk = (number: number, bytes: number): InstallSnapshot => ({
  _tag: "InstallSnapshot",
  term: 3,
  // With a small configuration: the size of a piece is to be that of its bytes, and some more.
  snapshot: { ...snapshot, configuration: Configuration.ofVoters(["n1", "n2", "n3"]) },
  offset: number * bytes,
  bytes: Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + number) % 256)
})

/** Everything that `transport` reports from now on, as a queue. */
export const listen = Effect.fnUntraced(function*(transport: Transport["Service"]) {
  const events = yield* Queue.unbounded<Inbound>()
  yield* transport.inbound((event) => Queue.offerUnsafe(events, event))
  return events
})

/** Takes events until one is `wanted`, and returns it. */
export const takeUntil = (events: Queue.Dequeue<Inbound>, wanted: (event: Inbound) => boolean) =>
  Queue.take(events).pipe(Effect.repeat({ until: wanted }))

/** Sends `message` again and again, as Raft does, until something arrives. */
export const sendUntilReceived = Effect.fnUntraced(function*(
  transport: Transport["Service"],
  to: NodeId,
  message: PeerMessage,
  events: Queue.Dequeue<Inbound>
) {
  for (;;) {
    yield* transport.send(to, message)
    yield* Effect.yieldNow
    const arrived = yield* Queue.clear(events)
    const received = arrived.find((event) => event._tag === "Received")
    if (received !== undefined) return received
  }
})

const roundOf = (event: Inbound): number =>
  event._tag === "Received" && event.message._tag === "AppendEntries" ? event.message.round : -1

const deliveryClaims = (test: Test, makeHarness: Effect.Effect<Harness, never, Scope.Scope>): void => {
  test("every shape of message arrives intact, with its sender's name", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const events = yield* listen(yield* start("n2"))
      for (const message of everyShape) yield* n1.send("n2", message)
      for (const message of everyShape) {
        assert.deepStrictEqual(yield* Queue.take(events), { _tag: "Received", from: "n1", message })
      }
    }))

  test("messages of a healthy link arrive in the order they were sent", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const events = yield* listen(yield* start("n2"))
      for (let round = 1; round <= 2000; round++) {
        yield* n1.send("n2", heartbeat(round))
        if (round % 37 === 0) yield* Effect.yieldNow
      }
      for (let round = 1; round <= 2000; round++) assert.strictEqual(roundOf(yield* Queue.take(events)), round)
    }))

  test("pieces of a snapshot arrive whole and in order, each with bytes of its own, between other messages", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const events = yield* listen(yield* start("n2"))
      const sent = Array.from({ length: 12 }, (_, number) => [chunk(number, 256 << 10), heartbeat(number)]).flat()
      for (const message of sent) {
        yield* n1.send("n2", message)
        yield* Effect.yieldNow
      }
      // Compared once all have come: a later piece must not have written over an earlier one.
      const arrived = yield* Queue.takeN(events, sent.length)
      for (const [i, message] of sent.entries()) {
        assert.deepStrictEqual(arrived[i], { _tag: "Received", from: "n1", message })
      }
    }))

  test("servers talk both ways, and only to whom they name", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const [n1, n2, n3] = [yield* start("n1"), yield* start("n2"), yield* start("n3")]
      const [events1, events2, events3] = [yield* listen(n1), yield* listen(n2), yield* listen(n3)]
      yield* n1.send("n2", heartbeat(1))
      yield* n2.send("n1", heartbeat(2))
      yield* n3.send("n1", heartbeat(3))
      assert.strictEqual(roundOf(yield* Queue.take(events2)), 1)
      const atN1 = [yield* Queue.take(events1), yield* Queue.take(events1)]
      assert.deepStrictEqual(atN1.map(roundOf).toSorted(), [2, 3])
      assert.deepStrictEqual(yield* Queue.clear(events3), [])
    }))

  test("a burst of 10,000 messages arrives, or the sender hears that some were lost", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const lost = yield* listen(n1)
      const events = yield* listen(yield* start("n2"))
      for (let round = 1; round <= 10_000; round++) yield* n1.send("n2", heartbeat(round))
      const allArrived = takeUntil(events, (event) => roundOf(event) === 10_000)
      const someLost = takeUntil(lost, (event) => event._tag === "PeerLost" && event.peer === "n2")
      yield* Effect.raceFirst(allArrived, someLost)
    }))
}

const receiverClaims = (test: Test, makeHarness: Effect.Effect<Harness, never, Scope.Scope>): void => {
  test("a message to the server itself, or to nobody, is silence", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const events1 = yield* listen(n1)
      const events2 = yield* listen(yield* start("n2"))
      yield* n1.send("nobody", heartbeat(1))
      yield* n1.send("n1", heartbeat(2))
      yield* n1.send("n2", heartbeat(3))
      assert.strictEqual(roundOf(yield* Queue.take(events2)), 3)
      assert.deepStrictEqual(yield* Queue.clear(events1), [])
    }))

  test("send never calls a receiver before it returns", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const n2 = yield* start("n2")
      let isSending = false
      const calls = yield* Queue.unbounded<boolean>()
      yield* n2.inbound(() => Queue.offerUnsafe(calls, isSending))
      const send = Effect.suspend(() => {
        isSending = true
        return n1.send("n2", heartbeat(1))
      })
      yield* Effect.ensuring(send, Effect.sync(() => void (isSending = false)))
      assert.isFalse(yield* Queue.take(calls))
    }))

  test("a new receiver takes the place of the old one", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const n2 = yield* start("n2")
      const old = yield* listen(n2)
      yield* n1.send("n2", heartbeat(1))
      yield* Queue.take(old)
      const events = yield* listen(n2)
      yield* n1.send("n2", heartbeat(2))
      assert.strictEqual(roundOf(yield* Queue.take(events)), 2)
      assert.deepStrictEqual(yield* Queue.clear(old), [])
    }))

  test("a server that restarts hears its peers again, and its old self hears nothing", () =>
    Effect.gen(function*() {
      const { start } = yield* makeHarness
      const n1 = yield* start("n1")
      const firstLife = yield* Scope.make()
      const old = yield* Effect.flatMap(start("n2"), listen).pipe(Scope.provide(firstLife))
      yield* n1.send("n2", heartbeat(1))
      yield* Queue.take(old)
      yield* Scope.close(firstLife, Exit.void)
      yield* n1.send("n2", heartbeat(2))
      const events = yield* listen(yield* start("n2"))
      const received = yield* sendUntilReceived(n1, "n2", heartbeat(3), events)
      assert.include([2, 3], roundOf(received))
      assert.deepStrictEqual(yield* Queue.clear(old), [])
    }))
}

/** The claims about configurations alone, for a harness whose servers know of each other by them only. */
export const reconfigureContract = (test: Test, makeHarness: Effect.Effect<Harness, never, Scope.Scope>): void => {
  test("a server is reached once the configuration has it, and in order through every change after that", () =>
    Effect.gen(function*() {
      const { configuration, start } = yield* makeHarness
      const n1 = yield* start("n1")
      const events = yield* listen(yield* start("n2"))
      yield* start("n3")
      const changes = [configuration("n1", "n2"), configuration("n1", "n2", "n3"), configuration("n2", "n3")]
      let round = 0
      for (const change of [...changes, ...changes.toReversed()]) {
        yield* n1.reconfigure(change)
        for (let i = 0; i < 20; i++) yield* n1.send("n2", heartbeat(++round))
        yield* Effect.yieldNow
      }
      for (let expected = 1; expected <= round; expected++) {
        assert.strictEqual(roundOf(yield* Queue.take(events)), expected)
      }
    }))

  test("a server hears one that its configuration does not contain, and what it answers arrives", () =>
    Effect.gen(function*() {
      const { configuration, start } = yield* makeHarness
      const [n1, n2] = [yield* start("n1"), yield* start("n2")]
      const [events1, events2] = [yield* listen(n1), yield* listen(n2)]
      yield* n1.reconfigure(configuration("n1", "n2"))
      yield* n2.reconfigure(configuration("n2"))
      yield* n1.send("n2", heartbeat(1))
      assert.strictEqual(roundOf(yield* Queue.take(events2)), 1)
      yield* n2.send("n1", heartbeat(2))
      assert.strictEqual(roundOf(yield* Queue.take(events1)), 2)
    }))

  test("a server that waits to be added hears who adds it, and what it answers arrives", () =>
    Effect.gen(function*() {
      const { configuration, start } = yield* makeHarness
      const [n1, n2] = [yield* start("n1"), yield* start("n2")]
      const [events1, events2] = [yield* listen(n1), yield* listen(n2)]
      yield* n2.reconfigure(Configuration.unknown)
      yield* n1.reconfigure(configuration("n1", "n2"))
      yield* n1.send("n2", heartbeat(1))
      assert.strictEqual(roundOf(yield* Queue.take(events2)), 1)
      yield* n2.send("n1", heartbeat(2))
      assert.strictEqual(roundOf(yield* Queue.take(events1)), 2)
      yield* n2.reconfigure(configuration("n1", "n2"))
      yield* n2.send("n1", heartbeat(3))
      assert.strictEqual(roundOf(yield* Queue.take(events1)), 3)
    }))

  test("a server that was removed is still told so, and answers", () =>
    Effect.gen(function*() {
      const { configuration, start } = yield* makeHarness
      const [n1, n2] = [yield* start("n1"), yield* start("n2")]
      const [events1, events2] = [yield* listen(n1), yield* listen(n2)]
      for (const transport of [n1, n2]) yield* transport.reconfigure(configuration("n1", "n2"))
      yield* n1.send("n2", heartbeat(1))
      assert.strictEqual(roundOf(yield* Queue.take(events2)), 1)
      yield* n1.reconfigure(configuration("n1"))
      yield* n1.send("n2", heartbeat(2))
      assert.strictEqual(roundOf(yield* Queue.take(events2)), 2)
      yield* n2.reconfigure(configuration("n1"))
      yield* n2.send("n1", heartbeat(3))
      assert.strictEqual(roundOf(yield* Queue.take(events1)), 3)
    }))
}

/** Registers one test per claim. Example: `transportContract(it.effect, makeHarness)`. */
export const transportContract = (test: Test, makeHarness: Effect.Effect<Harness, never, Scope.Scope>): void => {
  deliveryClaims(test, makeHarness)
  receiverClaims(test, makeHarness)
  reconfigureContract(test, makeHarness)
}
