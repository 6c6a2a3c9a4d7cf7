/**
 * Each kind of fault does to a cluster what it says, from its beginning to its end, and is gone then.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as TransportMemory from "../../src/layers/TransportMemory.ts"
import { describe as textOf, type Fault, Injector } from "../../src/testing/Faults.ts"
import type * as TestCluster from "../../src/testing/TestCluster.ts"
import { type Cluster, leaderOf, on, others, settled } from "../services/cluster.ts"

const slowestMs = 1
const network = { ...TransportMemory.healthy, delayMsMin: slowestMs, delayMsMax: slowestMs }

interface Stage {
  readonly cluster: Cluster
  readonly injector: Injector
  readonly told: Array<string>
  /** Everything the network did, as `n1>n2 Delivered`, for messages that a test sent itself. */
  readonly fates: Array<string>
}

/** A message that nobody minds, told from others by its identity. */
const probe: Message = { _tag: "RequestVoteResponse", term: 0, voteGranted: false }

const stage = Effect.fnUntraced(function*(
  options: Partial<TestCluster.Options> = {},
  calm: { readonly syncDelayMs?: number; readonly clockRates?: ReadonlyMap<NodeId, number> } = {}
): Effect.fn.Return<Stage, never, Scope.Scope> {
  const fates: Array<string> = []
  const told: Array<string> = []
  const cluster = yield* settled({
    network,
    tap: ({ fate, from, message, to }) => {
      if (message === probe) fates.push(`${from}>${to} ${fate}`)
    },
    ...options
  })
  const injector = new Injector(
    cluster,
    { network, syncDelayMs: 0, clockRates: new Map(), ...calm },
    (line) => told.push(line)
  )
  yield* Effect.forEach(cluster.ids, injector.watch, { discard: true })
  yield* injector.calm
  return { cluster, injector, told, fates }
})

let faults = 0

/** `fault` from now on, for `forMs`. */
const inject = Effect.fnUntraced(function*({ injector }: Stage, fault: Fault, forMs: number) {
  yield* Effect.forkChild(injector.inject({ number: ++faults, fromMs: 0, toMs: forMs, fault }), {
    startImmediately: true
  })
  yield* TestClock.adjust(0)
})

/** What becomes of one message on every link, within `ms`. */
const fatesWithin = Effect.fnUntraced(function*({ cluster, fates }: Stage, ms: number) {
  const before = fates.length
  for (const from of cluster.ids) {
    for (const to of cluster.ids) if (from !== to) yield* cluster.network.send(from, to, probe)
  }
  yield* TestClock.adjust(ms)
  return fates.slice(before)
})

/** The links on which nothing arrives in time. */
const blocked = Effect.fnUntraced(function*(on: Stage) {
  const arrived = yield* fatesWithin(on, slowestMs)
  const links = on.cluster.ids.flatMap((from) => others(on.cluster, from).map((to) => `${from}>${to}`))
  return links.filter((link) => !arrived.includes(`${link} Delivered`)).join(" ")
})

const everyLink = "n1>n2 n1>n3 n2>n1 n2>n3 n3>n1 n3>n2"

const processOf = ({ cluster }: Stage, id: NodeId) => {
  const process = cluster.processes.get(id)
  if (process === undefined) throw new Error(`no process of ${id}`)
  return process
}

const diskOf = ({ cluster }: Stage, id: NodeId) => {
  const disk = cluster.disks.get(id)
  if (disk === undefined) throw new Error(`no disk of ${id}`)
  return disk
}

const isUp = ({ cluster }: Stage, id: NodeId): boolean => cluster.running().includes(id)

const onNode = (cluster: Cluster, text: string) => on(cluster, "n1").propose(text)

describe("a fault of the network cuts what it names, and nothing once it has ended", () => {
  const cuts: ReadonlyArray<readonly [Fault, string]> = [
    [{ _tag: "CutOneWay", from: "n1", to: "n2" }, "n1>n2"],
    [{ _tag: "Cut", a: "n1", b: "n2" }, "n1>n2 n2>n1"],
    [{ _tag: "Isolate", node: "n2" }, "n1>n2 n2>n1 n2>n3 n3>n2"],
    [{ _tag: "Deaf", node: "n2" }, "n1>n2 n3>n2"],
    [{ _tag: "Mute", node: "n2" }, "n2>n1 n2>n3"],
    [{ _tag: "Partition", groups: [["n2"], ["n3", "n1"]] }, "n1>n2 n2>n1 n2>n3 n3>n2"],
    [{ _tag: "Partition", groups: [["n1"], ["n2"], ["n3"]] }, everyLink],
    [{ _tag: "Chain", order: ["n2", "n1", "n3"] }, "n2>n3 n3>n2"],
    [{ _tag: "Loss", probability: 1 }, everyLink],
    [{ _tag: "Delay", delayMsMin: 30, delayMsMax: 30 }, everyLink],
    [{ _tag: "SlowLink", from: "n3", to: "n1", byMs: 30 }, "n3>n1"]
  ]
  for (const [fault, links] of cuts) {
    it.effect(textOf(fault), () =>
      Effect.gen(function*() {
        const on = yield* stage()
        assert.strictEqual(yield* blocked(on), "")
        yield* inject(on, fault, 50)
        assert.strictEqual(yield* blocked(on), links)
        yield* TestClock.adjust(48)
        assert.strictEqual(yield* blocked(on), links)
        yield* TestClock.adjust(50)
        assert.strictEqual(yield* blocked(on), "")
      }))
  }
})

describe("a fault of the network", () => {
  it.effect("begins when it is planned to, and not before", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      const planned = { number: 7, fromMs: 30, toMs: 60, fault: { _tag: "Deaf", node: "n1" } } as const
      const fiber = yield* Effect.forkChild(on.injector.inject(planned), { startImmediately: true })
      yield* TestClock.adjust(28)
      assert.strictEqual(yield* blocked(on), "")
      assert.deepStrictEqual(on.told, [])
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* blocked(on), "n2>n1 n3>n1")
      yield* TestClock.adjust(29)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(on.told, ["fault 7 begins: Deaf n1", "fault 7 ends: Deaf n1"])
      assert.strictEqual(yield* blocked(on), "")
    }))

  it.effect("Duplication delivers twice, and once again when it has ended", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      yield* inject(on, { _tag: "Duplication", probability: 1 }, 20)
      assert.strictEqual((yield* fatesWithin(on, 1)).length, 12)
      yield* TestClock.adjust(50)
      assert.strictEqual((yield* fatesWithin(on, 1)).length, 6)
    }))

  it.effect("Stragglers come late, some of them long after the fault has ended, and others do not", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      yield* inject(on, { _tag: "Stragglers", probability: 0.5, delayMsMax: 1000 }, 20)
      for (let i = 0; i < 10; i++) yield* fatesWithin(on, 1)
      const inTime = on.fates.length
      assert.isAbove(inTime, 15)
      assert.isBelow(inTime, 45)
      yield* TestClock.adjust(400)
      assert.isAbove(on.fates.length, inTime)
      assert.isBelow(on.fates.length, 60)
      yield* TestClock.adjust(600)
      assert.strictEqual(on.fates.length, 60)
    }))

  it.effect("Reconnect loses what is under way between the two, and cuts nothing", () =>
    Effect.gen(function*() {
      const lost: Array<string> = []
      const on = yield* stage({
        observe: ({ after, event }) => void (event._tag === "PeerLost" && lost.push(`${after.id} lost ${event.peer}`))
      })
      for (const [from, to] of [["n1", "n2"], ["n2", "n1"], ["n3", "n1"]] as const) {
        yield* on.cluster.network.send(from, to, probe)
      }
      yield* inject(on, { _tag: "Reconnect", a: "n1", b: "n2" }, 20)
      assert.strictEqual(yield* blocked(on), "")
      assert.sameMembers(on.fates.slice(0, 3), ["n1>n2 Cut", "n2>n1 Cut", "n3>n1 Delivered"])
      assert.sameMembers(lost, ["n1 lost n2", "n2 lost n1"])
    }))
})

describe("a fault of a node", () => {
  it.effect("Crash takes it down until its end, and it is started again then", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      yield* inject(on, { _tag: "Crash", node: "n2", keepUnits: 0 }, 500)
      assert.isFalse(isUp(on, "n2"))
      yield* TestClock.adjust(499)
      assert.isFalse(isUp(on, "n2"))
      yield* TestClock.adjust(2)
      assert.isTrue(isUp(on, "n2"))
    }))

  it.effect("Crash keeps the first units of what the disk was writing", () =>
    Effect.gen(function*() {
      for (const [keepUnits, kept] of [[0, 0], [2, 2], [1000, 3]] as const) {
        const on = yield* stage({ size: 1 })
        const disk = diskOf(on, "n1")
        const before = disk.durable().entries.length
        disk.syncDelayMs = 20
        const { cluster } = on
        const writes = ["a", "b", "c"].map((text) => Effect.result(onNode(cluster, text)))
        yield* Effect.forkChild(Effect.all(writes, { concurrency: "unbounded" }), { startImmediately: true })
        yield* TestClock.adjust(1)
        yield* TestClock.adjust(1)
        yield* inject(on, { _tag: "Crash", node: "n1", keepUnits }, 100)
        assert.strictEqual(disk.durable().entries.length - before, kept)
      }
    }))

  it.effect("UnreadableSector takes it down: it cannot be started until the fault has ended", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      yield* inject(on, { _tag: "UnreadableSector", node: "n2", keepUnits: 0 }, 100)
      yield* TestClock.adjust(1)
      assert.isFalse(isUp(on, "n2"))
      assert.match(on.told.join(), /n2 does not start: a sector cannot be read/)
      assert.strictEqual((yield* Effect.flip(on.cluster.restart("n2"))).reason, "Corrupt")
      yield* TestClock.adjust(100)
      assert.isTrue(isUp(on, "n2"))
      assert.isFalse(diskOf(on, "n2").isUnreadable)
    }))

  it.effect("Pause stops it and nobody else, and resumes it", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      yield* inject(on, { _tag: "Pause", node: "n2" }, 100)
      assert.deepStrictEqual(on.cluster.ids.map((id) => processOf(on, id).isPaused), [false, true, false])
      yield* TestClock.adjust(101)
      assert.isFalse(processOf(on, "n2").isPaused)
    }))

  it.effect("ClockRate makes its clock fast, then as fast as in the calm", () =>
    Effect.gen(function*() {
      const on = yield* stage({}, { clockRates: new Map([["n2", 0.5]]) })
      const process = processOf(on, "n2")
      const passing = Effect.fnUntraced(function*(ms: number) {
        const from = process.nowMs
        yield* TestClock.adjust(ms)
        return Math.round(process.nowMs - from)
      })
      assert.strictEqual(yield* passing(10), 5)
      yield* inject(on, { _tag: "ClockRate", node: "n2", rate: 4 }, 100)
      assert.strictEqual(yield* passing(100), 400)
      assert.strictEqual(yield* passing(10), 5)
    }))

  it.effect("ClockJump and WallClock move its clocks once, and its end does not move them back", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      const process = processOf(on, "n2")
      const [monotonic, wall] = [process.nowMs, process.wallMs]
      yield* inject(on, { _tag: "ClockJump", node: "n2", byMs: 70 }, 10)
      assert.deepStrictEqual([process.nowMs - monotonic, process.wallMs - wall], [70, 70])
      yield* inject(on, { _tag: "WallClock", node: "n2", byMs: -1000 }, 10)
      assert.deepStrictEqual([process.nowMs - monotonic, process.wallMs - wall], [70, -930])
      yield* TestClock.adjust(20)
      assert.deepStrictEqual([process.nowMs - monotonic, process.wallMs - wall], [90, -910])
    }))

  it.effect("that is to hit the leader hits whoever leads when it begins, and stays with it", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      const leader = yield* leaderOf(on.cluster)
      yield* inject(on, { _tag: "Isolate", node: "leader" }, 1000)
      yield* TestClock.adjust(900)
      assert.notStrictEqual(yield* leaderOf(on.cluster), leader)
      const cut = yield* blocked(on)
      for (const other of others(on.cluster, leader)) assert.include(cut, `${leader}>${other}`)
      assert.match(on.told[0] ?? "", new RegExp(`begins: Isolate leader \\(${leader}\\)$`))
    }))
})

describe("a fault of a disk", () => {
  it.effect("SlowDisk makes its syncs slow, then as slow as in the calm", () =>
    Effect.gen(function*() {
      const on = yield* stage({}, { syncDelayMs: 3 })
      const delays = () => on.cluster.ids.map((id) => diskOf(on, id).syncDelayMs)
      assert.deepStrictEqual(delays(), [3, 3, 3])
      yield* inject(on, { _tag: "SlowDisk", node: "n2", syncMs: 80 }, 50)
      assert.deepStrictEqual(delays(), [3, 80, 3])
      yield* TestClock.adjust(50)
      assert.deepStrictEqual(delays(), [3, 3, 3])
    }))

  it.effect("FailedSync stops the node with its next write; it is started again", () =>
    Effect.gen(function*() {
      const on = yield* stage({ size: 1 })
      yield* inject(on, { _tag: "FailedSync", node: "n1" }, 50)
      assert.deepInclude(yield* Effect.flip(onNode(on.cluster, "x")), { outcome: "unknown" })
      yield* TestClock.adjust(10)
      assert.isFalse(isUp(on, "n1"))
      assert.include(on.told.join("\n"), "n1 has stopped: a sync failed")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* onNode(on.cluster, "y"), 1)
    }))

  it.effect("FullDisk stops the node with its next write, and keeps it down until it ends", () =>
    Effect.gen(function*() {
      const on = yield* stage({ size: 1 })
      yield* inject(on, { _tag: "FullDisk", node: "n1" }, 1000)
      assert.isTrue(isUp(on, "n1"))
      yield* Effect.flip(onNode(on.cluster, "x"))
      yield* TestClock.adjust(900)
      assert.isFalse(isUp(on, "n1"))
      assert.include(on.told.join("\n"), "n1 has stopped: the disk is full")
      yield* TestClock.adjust("1 second")
      assert.isTrue(isUp(on, "n1"))
      assert.strictEqual(yield* onNode(on.cluster, "y"), 1)
    }))

  it.effect("that nobody met is gone at its end", () =>
    Effect.gen(function*() {
      for (const _tag of ["FailedSync", "FullDisk"] as const) {
        const on = yield* stage({ size: 1 })
        yield* inject(on, { _tag, node: "n1" }, 10)
        assert.isDefined(diskOf(on, "n1").nextFailure)
        yield* TestClock.adjust(10)
        assert.strictEqual(yield* onNode(on.cluster, "x"), 1)
      }
    }))
})

describe("of two faults under way, the other one still holds when one has ended", () => {
  const first = 50
  const second = 90
  /** What `look` sees while both hold, while the second does, and afterwards. */
  const overlap = Effect.fnUntraced(
    function*<A>(faults: readonly [Fault, Fault], look: (on: Stage) => Effect.Effect<A>) {
      const on = yield* stage()
      yield* inject(on, faults[0], first)
      yield* inject(on, faults[1], second)
      const both = yield* look(on)
      yield* TestClock.adjust(first)
      const one = yield* look(on)
      yield* TestClock.adjust(second)
      return [both, one, yield* look(on)]
    }
  )

  it.effect("on links: the same cut twice, and cuts that share a link", () =>
    Effect.gen(function*() {
      const isolate = { _tag: "Isolate", node: "n1" } as const
      const alone = "n1>n2 n1>n3 n2>n1 n3>n1"
      assert.deepStrictEqual(yield* overlap([isolate, isolate], blocked), [alone, alone, ""])
      const cut = { _tag: "Cut", a: "n1", b: "n2" } as const
      assert.deepStrictEqual(yield* overlap([isolate, cut], blocked), [alone, "n1>n2 n2>n1", ""])
      const parted = { _tag: "Partition", groups: [["n3"], ["n1", "n2"]] } as const
      assert.deepStrictEqual(yield* overlap([cut, parted], blocked), [everyLink, "n1>n3 n2>n3 n3>n1 n3>n2", ""])
    }))

  it.effect("on the network: of two losses", () =>
    Effect.gen(function*() {
      const loss = { _tag: "Loss", probability: 1 } as const
      assert.deepStrictEqual(yield* overlap([loss, loss], blocked), [everyLink, everyLink, ""])
    }))

  it.effect("on a node: of two crashes and of two pauses", () =>
    Effect.gen(function*() {
      const crash = { _tag: "Crash", node: "n1", keepUnits: 0 } as const
      const up = (on: Stage) => Effect.sync(() => isUp(on, "n1"))
      assert.deepStrictEqual(yield* overlap([crash, crash], up), [false, false, true])
      const pause = { _tag: "Pause", node: "n1" } as const
      const paused = (on: Stage) => Effect.sync(() => processOf(on, "n1").isPaused)
      assert.deepStrictEqual(yield* overlap([pause, pause], paused), [true, true, false])
    }))

  it.effect("on a disk and on a clock", () =>
    Effect.gen(function*() {
      const slow = (syncMs: number): Fault => ({ _tag: "SlowDisk", node: "n1", syncMs })
      const delay = (on: Stage) => Effect.sync(() => diskOf(on, "n1").syncDelayMs)
      assert.deepStrictEqual(yield* overlap([slow(10), slow(20)], delay), [20, 20, 0])
      const rate = (at: number): Fault => ({ _tag: "ClockRate", node: "n1", rate: at })
      const pace = (on: Stage) =>
        Effect.gen(function*() {
          const from = processOf(on, "n1").nowMs
          yield* TestClock.adjust(1)
          return Math.round(processOf(on, "n1").nowMs - from)
        })
      assert.deepStrictEqual(yield* overlap([rate(3), rate(2)], pace), [2, 2, 1])
    }))
})

describe("the calm", () => {
  it.effect("joins what was cut, and starts what is down", () =>
    Effect.gen(function*() {
      const on = yield* stage()
      yield* on.cluster.isolate("n1")
      on.cluster.network.setFaults({ lossProbability: 1 })
      diskOf(on, "n3").syncDelayMs = 1000
      yield* on.cluster.crash("n2")
      yield* on.injector.calm
      yield* TestClock.adjust(1)
      assert.isTrue(isUp(on, "n2"))
      assert.strictEqual(yield* blocked(on), "")
      assert.strictEqual(diskOf(on, "n3").syncDelayMs, 0)
    }))
})
