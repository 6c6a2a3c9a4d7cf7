/**
 * A node among careless callers, faulty state machines and failed disks.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { ofVoters } from "../../src/domain/Configuration.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import * as TransportMemory from "../../src/layers/TransportMemory.ts"
import * as RaftNode from "../../src/services/RaftNode.ts"
import * as StateMachine from "../../src/services/StateMachine.ts"
import { Storage } from "../../src/services/Storage.ts"
import { Simulator } from "../../src/testing/Simulator.ts"
import * as TestCluster from "../../src/testing/TestCluster.ts"
import { during, leaderOf, on, others, settled } from "./cluster.ts"
import { Register } from "./register.ts"

const alone = (options: Partial<RaftNode.Options> = {}) =>
  RaftNode.layer({ configuration: ofVoters(["n1"]), ...options }).pipe(Layer.provide([
    StorageMemory.layer({ disk: StorageMemory.makeDisk({ clusterId: "test", nodeId: "n1" }) }),
    TransportMemory.layer({ network: TransportMemory.makeNetwork({ seed: 1 }), id: "n1" }),
    Register.layer
  ]))

/** The snapshots of machines that keep nothing. */
const stateless = { snapshot: Effect.succeed(Stream.empty), restore: Stream.runDrain }

describe("a caller", () => {
  it.effect("that reuses its buffer changes no command that it has proposed", () =>
    Effect.gen(function*() {
      const applied: Array<Array<string>> = []
      const recording = Layer.sync(StateMachine.StateMachine, () => {
        const mine: Array<string> = []
        applied.push(mine)
        return StateMachine.StateMachine.of({
          apply: (commands) =>
            Effect.sync(() =>
              commands.map(({ command }) => {
                mine.push(new TextDecoder().decode(command))
                return new Uint8Array()
              })
            ),
          query: () => Effect.succeed(new Uint8Array()),
          ...stateless
        })
      })
      const cluster = yield* TestCluster.make({ size: 3, stateMachine: recording, seed: 1 })
      yield* TestClock.adjust("1 second")
      const leader = yield* leaderOf(cluster)
      const [, down = ""] = others(cluster, leader)
      yield* cluster.crash(down)
      const buffer = new TextEncoder().encode("one")
      yield* cluster.node(leader).propose(buffer)
      buffer.set(new TextEncoder().encode("two"))
      yield* cluster.node(leader).propose(buffer)
      yield* cluster.restart(down)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(applied.filter((mine) => mine.length > 0), [["one", "two"], ["one", "two"], [
        "one",
        "two"
      ]])
    }))

  it.effect("of a node that was closed as soon as it was built is told that nothing was applied", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const node = Context.get(yield* Layer.buildWithScope(alone(), scope), RaftNode.RaftNode)
      yield* Scope.close(scope, Exit.void)
      const outcome = yield* during(node.propose(new Uint8Array(3)), 1000)
      assert.strictEqual(outcome._tag === "Failure" ? outcome.failure._tag : "applied", "Stopped")
    }))
})

describe("a node that is closed while its loops have not begun", () => {
  it("leaves nobody waiting (300 orders of what could run)", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const program = Effect.gen(function*() {
        const cluster = yield* TestCluster.make({ size: 1, stateMachine: Register.layer, seed })
        yield* cluster.crash("n1")
        yield* Effect.forkDetach(cluster.restart("n1"))
        while (!cluster.running().includes("n1")) yield* Effect.yieldNow
        yield* cluster.pause("n1")
        const asked = yield* Effect.forkDetach(Effect.result(on(cluster, "n1").propose("a")), {
          startImmediately: true
        })
        yield* cluster.crash("n1")
        yield* Effect.sleep("1 minute")
        return asked.pollUnsafe() !== undefined
      })
      const exit = new Simulator({ seed, yieldEveryOps: 20 }).run(Effect.scoped(program))
      assert.isTrue(exit !== undefined && Exit.isSuccess(exit) && exit.value, `seed ${seed}`)
    }
  })
})

describe("a state machine", () => {
  const Faulty = StateMachine.make({
    command: Schema.String,
    result: Schema.Int,
    query: Schema.String,
    answer: Schema.String,
    state: Schema.Int,
    initial: 0,
    apply: (count) => ({ state: count + 1, result: count + 1 }),
    respond: (_, query) => {
      if (query === "bad") throw new Error("a defect in respond")
      return query
    }
  })

  it.effect("that dies of a query fails its caller, and the node goes on", () =>
    Effect.gen(function*() {
      const cluster = yield* settled({ stateMachine: Faulty.layer })
      const leader = yield* leaderOf(cluster)
      const faulty = Faulty.on(cluster.node(leader))
      const exit = yield* Effect.exit(faulty.read("bad"))
      assert.match(String(exit), /a defect in respond/)
      assert.strictEqual(yield* faulty.read("good"), "good")
      assert.strictEqual(yield* faulty.propose("x"), 1)
    }))

  it.effect("that throws before it has an Effect to give fails its caller only, too", () =>
    Effect.gen(function*() {
      const throwing = Layer.succeed(StateMachine.StateMachine)({
        apply: (commands) => Effect.succeed(commands.map(() => new Uint8Array())),
        query: () => {
          throw new Error("no Effect at all")
        },
        ...stateless
      })
      const cluster = yield* settled({ size: 1, stateMachine: throwing })
      assert.match(String(yield* Effect.exit(cluster.node("n1").read(new Uint8Array()))), /no Effect at all/)
      assert.strictEqual((yield* cluster.node("n1").propose(new Uint8Array(1))).length, 0)
    }))

  it.effect("that loses a result stops the node rather than answer for it", () =>
    Effect.gen(function*() {
      const silent = Layer.succeed(StateMachine.StateMachine)({
        apply: () => Effect.succeed([]),
        query: () => Effect.succeed(new Uint8Array()),
        ...stateless
      })
      const cluster = yield* settled({ size: 1, stateMachine: silent })
      const outcome = yield* during(cluster.node("n1").propose(new Uint8Array(1)), 1000)
      assert.strictEqual(outcome._tag === "Failure" ? outcome.failure._tag : "answered", "OutcomeUnknown")
      assert.match(String(yield* Effect.exit(cluster.node("n1").halted)), /0 results for 1 commands/)
      assert.match(String(yield* cluster.takeViolation), /0 results for 1 commands/)
    }))

  it.effect("made once is a new one for every node", () =>
    Effect.gen(function*() {
      const machines: Array<StateMachine.StateMachine["Service"]> = []
      const user = Layer.effectDiscard(Effect.map(StateMachine.StateMachine, (machine) => machines.push(machine)))
      const one = Layer.provide(user, Register.layer)
      const other = Layer.provide(Layer.fresh(user), Register.layer)
      yield* Layer.build(Layer.mergeAll(one, other))
      assert.strictEqual(new Set(machines).size, 2)
    }))
})

describe("a node that has stopped", () => {
  it.effect("leaves nobody waiting for a disk that never answers, and leads no more", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const dying = Layer.succeed(StateMachine.StateMachine)({
        apply: () => Effect.andThen(Deferred.await(gate), Effect.die("a defect in apply")),
        query: () => Effect.succeed(new Uint8Array()),
        ...stateless
      })
      let isStalled = false
      const answered = yield* Deferred.make<void>()
      const stalling = Effect.map(Storage, (storage) =>
        Storage.of({
          ...storage,
          // As on a real disk: a write that the kernel has cannot be taken back.
          persist: (write) => isStalled ? Effect.uninterruptible(Deferred.await(answered)) : storage.persist(write)
        }))
      const cluster = yield* settled({
        size: 1,
        stateMachine: dying,
        storage: (_, memory) => Layer.provide(Layer.effect(Storage, stalling), memory)
      })
      yield* Effect.addFinalizer(() => Deferred.succeed(answered, undefined))
      const first = yield* Effect.forkChild(Effect.result(cluster.node("n1").propose(new Uint8Array(1))), {
        startImmediately: true
      })
      yield* TestClock.adjust(10)
      isStalled = true
      const second = yield* Effect.forkChild(Effect.result(cluster.node("n1").propose(new Uint8Array(1))), {
        startImmediately: true
      })
      yield* TestClock.adjust(10)
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust(10)
      for (const caller of [first, second]) {
        const exit = caller.pollUnsafe()
        const outcome = exit?._tag === "Success" ? exit.value : undefined
        assert.strictEqual(outcome?._tag === "Failure" ? outcome.failure._tag : outcome?._tag, "OutcomeUnknown")
      }
      const { leaderId, role } = yield* cluster.node("n1").status
      assert.deepStrictEqual([role, leaderId], ["Follower", undefined])
      assert.match(String(yield* cluster.takeViolation), /a defect in apply/)
    }))

  it.effect("takes nothing in any more", () =>
    Effect.gen(function*() {
      const cluster = yield* settled()
      const leader = yield* leaderOf(cluster)
      const [broken = ""] = others(cluster, leader)
      const disk = cluster.disks.get(broken)
      if (disk === undefined) return assert.fail("no disk")
      disk.nextFailure = "Failed"
      yield* during(on(cluster, leader).propose("x"), 1000)
      const before = yield* cluster.node(broken).status
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* cluster.node(broken).status, before)
      assert.strictEqual((yield* Effect.flip(on(cluster, broken).read()))._tag, "Stopped")
    }))
})

describe("settings that cannot work", () => {
  const refusals: ReadonlyArray<readonly [Partial<RaftNode.Options>, RegExp]> = [
    [{ commandBytesMax: 20 << 20 }, /commandBytesMax \(20971520\).*16777216/],
    [{ commandBytesMax: (16 << 20) - 24 }, /commandBytesMax \(16777192\).*16777216/],
    [{ settings: { appendBytesMax: 32 << 20, inflightBytesMax: 64 << 20 } }, /appendBytesMax \(33554432\).*16777216/],
    [{ requestTimeoutMs: 0 }, /requestTimeoutMs .* 0/],
    [{ waitingRequestsMax: Number.NaN }, /waitingRequestsMax .* NaN/],
    [{ configuration: { ...ofVoters([]), learners: ["n1"] } }, /at least one voter/],
    [{ configuration: ofVoters(["n1", "n1"]) }, /named twice/]
  ]
  for (const [options, expected] of refusals) {
    it.effect(`are refused, with their values: ${JSON.stringify(options)}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(alone(options))))
        assert.strictEqual(error._tag, "SettingsError")
        assert.match(error.message, expected)
      }))
  }
})
