import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { ofVoters } from "../../src/domain/Configuration.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as TransportMemory from "../../src/layers/TransportMemory.ts"
import { type PeerMessage, Transport } from "../../src/services/Transport.ts"
import { everyShape, heartbeat, transportContract } from "../contracts/transport.ts"

const start = (network: TransportMemory.Network, id: NodeId) =>
  Effect.map(Layer.build(TransportMemory.layer({ network, id })), Context.get(Transport))

const roundOf = (message: PeerMessage): number => message._tag === "AppendEntries" ? message.round : -1

/** Three servers; each hears into its list of `sender:round`. */
const cluster = Effect.fnUntraced(function*(options: TransportMemory.NetworkOptions) {
  const network = TransportMemory.makeNetwork(options)
  const [a, b, c] = [yield* start(network, "a"), yield* start(network, "b"), yield* start(network, "c")]
  const heard: Record<NodeId, Array<string>> = { a: [], b: [], c: [] }
  for (const [id, transport] of Object.entries({ a, b, c })) {
    yield* transport.inbound((event) => {
      heard[id]?.push(event._tag === "Received" ? `${event.from}:${roundOf(event.message)}` : event._tag)
    })
  }
  return { network, a, b, c, heard }
})

const sendRounds = Effect.fnUntraced(function*(from: Transport["Service"], to: NodeId, count: number) {
  for (let round = 1; round <= count; round++) yield* from.send(to, heartbeat(round))
})

const rounds = (from: NodeId, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, i) => `${from}:${i + 1}`)

describe("the contract, without delay", () => {
  transportContract(
    it.effect,
    Effect.sync(() => {
      const network = TransportMemory.makeNetwork({ seed: 1 })
      return { start: (id) => start(network, id), configuration: (...voters) => ofVoters(voters) }
    })
  )
})

it.effect("what arrives, and what the tap sees, is the very message that was sent, its bytes included", () =>
  Effect.gen(function*() {
    const tapped: Array<PeerMessage> = []
    const arrived: Array<PeerMessage> = []
    const network = TransportMemory.makeNetwork({ seed: 1, tap: ({ message }) => tapped.push(message) })
    network.listen("b", (event) => event._tag === "Received" && arrived.push(event.message))
    const a = yield* start(network, "a")
    for (const message of everyShape) yield* a.send("b", message)
    yield* TestClock.adjust(0)
    assert.strictEqual(arrived.length, everyShape.length)
    for (const [i, message] of everyShape.entries()) {
      assert.strictEqual(arrived[i], message)
      assert.strictEqual(tapped[i], message)
    }
  }))

describe("faults", () => {
  it.effect("a message with a delay of 20 ms arrives after 20 ms of the clock, not before", () =>
    Effect.gen(function*() {
      const { a, heard } = yield* cluster({ seed: 1, delayMsMin: 20, delayMsMax: 20 })
      yield* a.send("b", heartbeat(1))
      yield* TestClock.adjust("19 millis")
      assert.deepStrictEqual(heard["b"], [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(heard["b"], ["a:1"])
    }))

  it.effect("a message with a shorter delay overtakes one with a longer", () =>
    Effect.gen(function*() {
      const { a, heard, network } = yield* cluster({ seed: 1, delayMsMin: 20, delayMsMax: 20 })
      yield* a.send("b", heartbeat(1))
      network.setFaults({ delayMsMin: 5, delayMsMax: 5 })
      yield* a.send("b", heartbeat(2))
      yield* TestClock.adjust("5 millis")
      assert.deepStrictEqual(heard["b"], ["a:2"])
      yield* TestClock.adjust("15 millis")
      assert.deepStrictEqual(heard["b"], ["a:2", "a:1"])
    }))

  it.effect("a fixed delay keeps the order, and a random one does not", () =>
    Effect.gen(function*() {
      const { a, heard, network } = yield* cluster({ seed: 1, delayMsMin: 5, delayMsMax: 5 })
      yield* sendRounds(a, "b", 100)
      yield* TestClock.adjust("5 millis")
      assert.deepStrictEqual(heard["b"], rounds("a", 100))
      network.setFaults({ delayMsMin: 0, delayMsMax: 50 })
      yield* sendRounds(a, "c", 100)
      yield* TestClock.adjust("50 millis")
      assert.notDeepEqual(heard["c"], rounds("a", 100))
      assert.sameMembers(heard["c"] ?? [], [...rounds("a", 100)])
    }))

  it.effect("the same seed gives the same run, and another seed another", () =>
    Effect.gen(function*() {
      const faults = { delayMsMin: 0, delayMsMax: 30, lossProbability: 0.2, duplicateProbability: 0.2 }
      const run = Effect.fnUntraced(function*(seed: number) {
        const { a, heard } = yield* cluster({ seed, ...faults })
        yield* sendRounds(a, "b", 200)
        yield* TestClock.adjust("30 millis")
        return heard["b"]
      })
      assert.deepStrictEqual(yield* run(7), yield* run(7))
      assert.notDeepEqual(yield* run(7), yield* run(8))
    }))

  it.effect("of messages lost with probability 0.3, about 70 in 100 arrive, and all are counted", () =>
    Effect.gen(function*() {
      const { a, heard, network } = yield* cluster({ seed: 3, lossProbability: 0.3 })
      yield* sendRounds(a, "b", 1000)
      yield* TestClock.adjust(0)
      assert.isAbove(heard["b"]?.length ?? 0, 640)
      assert.isBelow(heard["b"]?.length ?? 0, 760)
      assert.strictEqual(network.delivered(), heard["b"]?.length)
      assert.strictEqual(network.delivered() + network.dropped(), 1000)
    }))

  it.effect("a duplicated message arrives twice", () =>
    Effect.gen(function*() {
      const { a, heard } = yield* cluster({ seed: 3, duplicateProbability: 1 })
      yield* a.send("b", heartbeat(1))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(heard["b"], ["a:1", "a:1"])
    }))

  it.effect("what happens on one link does not depend on whether another is cut", () =>
    Effect.gen(function*() {
      const run = Effect.fnUntraced(function*(isCut: boolean) {
        const { a, heard, network } = yield* cluster({ seed: 5, delayMsMax: 20, lossProbability: 0.5 })
        if (isCut) network.cut("a", "c")
        for (let round = 1; round <= 50; round++) {
          yield* a.send("c", heartbeat(round))
          yield* a.send("b", heartbeat(round))
        }
        yield* TestClock.adjust("20 millis")
        return heard["b"]
      })
      assert.deepStrictEqual(yield* run(true), yield* run(false))
    }))
})

describe("partitions", () => {
  it.effect("a cut is one-way, and heals", () =>
    Effect.gen(function*() {
      const { a, b, heard, network } = yield* cluster({ seed: 1 })
      network.cut("a", "b")
      yield* a.send("b", heartbeat(1))
      yield* b.send("a", heartbeat(2))
      yield* TestClock.adjust(0)
      network.heal()
      yield* a.send("b", heartbeat(3))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(heard, { a: ["b:2"], b: ["a:3"], c: [] })
    }))

  it.effect("an isolated server neither hears nor is heard", () =>
    Effect.gen(function*() {
      const { a, b, heard, network } = yield* cluster({ seed: 1 })
      network.isolate("a")
      yield* a.send("b", heartbeat(1))
      yield* b.send("a", heartbeat(2))
      yield* b.send("c", heartbeat(3))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(heard, { a: [], b: [], c: ["b:3"] })
    }))

  it.effect("a partition separates groups; whom it does not name are together", () =>
    Effect.gen(function*() {
      const { a, b, c, heard, network } = yield* cluster({ seed: 1 })
      network.partition([["a"]])
      yield* a.send("b", heartbeat(1))
      yield* b.send("c", heartbeat(2))
      yield* c.send("a", heartbeat(3))
      network.partition([["a", "b"], ["c"]])
      yield* a.send("b", heartbeat(4))
      yield* a.send("c", heartbeat(5))
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(heard, { a: [], b: ["a:4"], c: [] })
    }))

  it.effect("messages under way are lost when the link is cut or the receiver goes down", () =>
    Effect.gen(function*() {
      const fates: Array<string> = []
      const network = TransportMemory.makeNetwork({
        seed: 1,
        delayMsMin: 10,
        delayMsMax: 10,
        tap: ({ fate, from, message, to }) => fates.push(`${from} -> ${to} ${roundOf(message)} ${fate}`)
      })
      const a = yield* start(network, "a")
      const b = yield* start(network, "b")
      yield* Effect.scoped(Effect.andThen(b.inbound(() => {}), a.send("b", heartbeat(1))))
      yield* a.send("c", heartbeat(2))
      network.cut("a", "c")
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(fates, ["a -> b 1 Down", "a -> c 2 Cut"])
      assert.strictEqual(network.dropped(), 2)
    }))
})

describe("a slow link", () => {
  it.effect("delays one direction of one link, beyond what every message takes", () =>
    Effect.gen(function*() {
      const { a, b, heard, network } = yield* cluster({ seed: 1, delayMsMin: 10, delayMsMax: 10 })
      network.slow("a", "b", 30)
      yield* a.send("b", heartbeat(1))
      yield* b.send("a", heartbeat(2))
      yield* a.send("c", heartbeat(3))
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(heard, { a: ["b:2"], b: [], c: ["a:3"] })
      yield* TestClock.adjust("29 millis")
      assert.deepStrictEqual(heard["b"], [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(heard["b"], ["a:1"])
    }))

  it.effect("keeps its order, and is as fast as others once it is healed", () =>
    Effect.gen(function*() {
      const { a, heard, network } = yield* cluster({ seed: 1, delayMsMin: 5, delayMsMax: 5 })
      network.slow("a", "b", 100)
      yield* sendRounds(a, "b", 20)
      yield* TestClock.adjust("105 millis")
      assert.deepStrictEqual(heard["b"], rounds("a", 20))
      network.heal()
      yield* a.send("c", heartbeat(1))
      yield* a.send("b", heartbeat(21))
      yield* TestClock.adjust("5 millis")
      assert.deepStrictEqual(heard["b"], rounds("a", 21))
    }))
})

describe("stragglers", () => {
  it.effect("take up to their bound longer than others, and arrive", () =>
    Effect.gen(function*() {
      const stragglers = { stragglerProbability: 0.3, stragglerDelayMsMax: 1000 }
      const { a, heard } = yield* cluster({ seed: 1, delayMsMin: 5, delayMsMax: 5, ...stragglers })
      yield* sendRounds(a, "b", 200)
      yield* TestClock.adjust("5 millis")
      const inTime = heard["b"]?.length ?? 0
      assert.isAbove(inTime, 110)
      assert.isBelow(inTime, 170)
      yield* TestClock.adjust("500 millis")
      assert.isAbove(heard["b"]?.length ?? 0, inTime + 10)
      assert.isBelow(heard["b"]?.length ?? 0, 190)
      yield* TestClock.adjust("500 millis")
      assert.sameMembers(heard["b"] ?? [], [...rounds("a", 200)])
    }))

  it.effect("are none on a network that was not told of any", () =>
    Effect.gen(function*() {
      const { a, heard } = yield* cluster({ seed: 1, delayMsMin: 5, delayMsMax: 5, stragglerDelayMsMax: 1000 })
      yield* sendRounds(a, "b", 200)
      yield* TestClock.adjust("5 millis")
      assert.strictEqual(heard["b"]?.length, 200)
    }))
})

describe("a connection that breaks and is up again at once", () => {
  it.effect("loses what is under way in both directions, and reports the peer to both sides", () =>
    Effect.gen(function*() {
      const { a, b, heard, network } = yield* cluster({ seed: 1, delayMsMin: 10, delayMsMax: 10 })
      yield* a.send("b", heartbeat(1))
      yield* b.send("a", heartbeat(2))
      yield* a.send("c", heartbeat(3))
      network.reconnect("a", "b")
      assert.deepStrictEqual(heard, { a: ["PeerLost"], b: ["PeerLost"], c: [] })
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(heard, { a: ["PeerLost"], b: ["PeerLost"], c: ["a:3"] })
      assert.strictEqual(network.dropped(), 2)
    }))

  it.effect("carries what is sent afterwards, though what was sent before is still to come to nothing", () =>
    Effect.gen(function*() {
      const { a, heard, network } = yield* cluster({ seed: 1, delayMsMin: 10, delayMsMax: 10 })
      yield* a.send("b", heartbeat(1))
      network.reconnect("b", "a")
      yield* a.send("b", heartbeat(2))
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(heard["b"], ["PeerLost", "a:2"])
    }))

  it.effect("names the other side to each, and tells nobody who does not listen", () =>
    Effect.gen(function*() {
      const network = TransportMemory.makeNetwork({ seed: 1 })
      const told: Array<unknown> = []
      network.listen("a", (event) => told.push(event))
      network.reconnect("a", "b")
      assert.deepStrictEqual(told, [{ _tag: "PeerLost", peer: "b" }])
      network.reconnect("b", "c")
      assert.strictEqual(told.length, 1)
    }))
})

describe("a network with a time of its own", () => {
  it.effect("arrives when `after` says so, whatever the clock and the fiber of the sender do", () =>
    Effect.gen(function*() {
      const due: Array<{ readonly delayMs: number; readonly arrive: () => void }> = []
      const { a, heard, network } = yield* cluster({
        seed: 1,
        delayMsMin: 10,
        delayMsMax: 10,
        after: (delayMs, arrive) => due.push({ delayMs, arrive })
      })
      network.slow("a", "c", 5)
      yield* Effect.scoped(Effect.forkScoped(sendRounds(a, "b", 2), { startImmediately: true }))
      yield* a.send("c", heartbeat(3))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(heard, { a: [], b: [], c: [] })
      assert.deepStrictEqual(due.map(({ delayMs }) => delayMs), [10, 10, 15])
      for (const { arrive } of due.toReversed()) arrive()
      assert.deepStrictEqual(heard, { a: [], b: ["a:2", "a:1"], c: ["a:3"] })
    }))

  it.effect("is not asked for what is lost or cut, and cuts what is under way", () =>
    Effect.gen(function*() {
      const due: Array<() => void> = []
      const { a, heard, network } = yield* cluster({ seed: 1, after: (_, arrive) => due.push(arrive) })
      network.setFaults({ lossProbability: 1 })
      yield* a.send("b", heartbeat(1))
      network.setFaults({ lossProbability: 0 })
      network.cut("a", "b")
      yield* a.send("b", heartbeat(2))
      assert.deepStrictEqual(due, [])
      network.heal()
      yield* a.send("b", heartbeat(3))
      network.cut("a", "b")
      for (const arrive of due) arrive()
      assert.deepStrictEqual(heard["b"], [])
      assert.strictEqual(network.dropped(), 3)
    }))

  it.effect("is asked twice for a message that it doubles", () =>
    Effect.gen(function*() {
      const due: Array<() => void> = []
      const { a, heard } = yield* cluster({ seed: 1, duplicateProbability: 1, after: (_, arrive) => due.push(arrive) })
      yield* a.send("b", heartbeat(1))
      for (const arrive of due) arrive()
      assert.deepStrictEqual(heard["b"], ["a:1", "a:1"])
    }))
})
