/**
 * A node crashes at each boundary of its writes in turn, once before the write is durable and once right after, before anything that waited
 * for it has left; it restarts, and nothing that was acknowledged is lost. On memory under TestClock, on files in real time.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isEmptyWrite } from "../../src/domain/Command.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as StorageFile from "../../src/layers/StorageFile.ts"
import { Storage } from "../../src/services/Storage.ts"
import * as TestCluster from "../../src/testing/TestCluster.ts"
import { equalLogs, on } from "./cluster.ts"
import { Register } from "./register.ts"

interface Boundary {
  /** Who crashes: one of the three leads at first. */
  readonly victim: NodeId
  /** Which write of the node, from 1. */
  readonly write: number
  readonly when: "before" | "after"
}

/** Storage that reaches `boundary` once: there it stops for good, and tells. */
const stopping = (
  inner: Storage["Service"],
  boundary: Boundary,
  reached: Deferred.Deferred<void>,
  count: { writes: number }
) =>
  Storage.of({
    ...inner,
    persist: (write) =>
      Effect.suspend(() => {
        if (isEmptyWrite(write)) return inner.persist(write)
        const isHere = ++count.writes === boundary.write
        if (!isHere) return inner.persist(write)
        const stop = Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
        return boundary.when === "before" ? stop : Effect.andThen(inner.persist(write), stop)
      })
  })

const victims = ["n1", "n2", "n3"]
const commands = ["a", "b", "c", "d", "e", "f"]

/** Proposes `text` at whichever node leads until it is acknowledged; repeats what had no effect or an unknown one. */
const put = (cluster: TestCluster.TestCluster, text: string) =>
  Effect.gen(function*() {
    const leader = yield* cluster.leader
    if (leader === undefined) return yield* Effect.fail("no leader")
    return yield* on(cluster, leader).propose(text)
  }).pipe(Effect.timeout(400), Effect.retry({ schedule: Schedule.spaced(20) }))

const script = Effect.fnUntraced(function*(
  boundary: Boundary,
  options: Partial<TestCluster.Options>,
  wrap: NonNullable<TestCluster.Options["storage"]>
) {
  const { victim } = boundary
  const reached = yield* Deferred.make<void>()
  const count = { writes: 0 }
  const cluster = yield* TestCluster.make({
    size: 3,
    stateMachine: Register.layer,
    seed: 3,
    ...options,
    storage: (id, memory) => {
      const inner = wrap(id, memory)
      return id !== victim ? inner : Layer.effect(
        Storage,
        Effect.map(Storage, (storage) => stopping(storage, boundary, reached, count))
      ).pipe(Layer.provide(inner))
    }
  })
  const crashing = yield* Effect.forkChild(Effect.gen(function*() {
    yield* Deferred.await(reached)
    yield* cluster.crash(victim)
    yield* Effect.sleep(50)
    yield* cluster.restart(victim)
  }))
  for (const text of commands) {
    const before = count.writes
    yield* put(cluster, text)
    // A write of its own for each command, however slow the victim's disk: else it would have fewer boundaries.
    const written = Effect.filterOrFail(Deferred.isDone(reached), (isDone) => isDone || count.writes > before)
    yield* Effect.retry(written, { schedule: Schedule.spaced(5) })
  }
  if (yield* Deferred.isDone(reached)) yield* Fiber.join(crashing)
  const wasReached = yield* Deferred.isDone(reached)
  const checked = Effect.gen(function*() {
    yield* equalLogs(cluster)
    const leader = yield* cluster.leader
    if (leader === undefined) return yield* Effect.fail("no leader")
    return yield* on(cluster, leader).read()
  }).pipe(Effect.catchCause(() => Effect.fail("not settled")))
  const held = yield* Effect.retry(checked, { schedule: Schedule.spaced(20), times: 500 })
  assert.deepStrictEqual([...new Set(held)], commands, `${victim} ${boundary.when} write ${boundary.write}`)
  return wasReached
})

/** Every boundary until the script ends before the next one is reached. */
const everyBoundary = <E, R>(run: (boundary: Boundary) => Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    for (const victim of victims) {
      for (const when of ["before", "after"] as const) {
        let write = 1
        while (yield* run({ victim, write, when })) write++
        assert.isAbove(write, commands.length, `boundaries ${when} a write`)
      }
    }
  })

describe("a node that crashes at any write boundary violates nothing", () => {
  it.effect("on memory", () =>
    everyBoundary((boundary) =>
      Effect.scoped(Effect.gen(function*() {
        const fiber = yield* Effect.forkChild(script(boundary, {}, (_, memory) => memory))
        while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(10)
        return yield* Fiber.join(fiber)
      }))
    ), 60_000)

  it.live("on files", () =>
    everyBoundary((boundary) =>
      Effect.scoped(Effect.gen(function*() {
        const root = mkdtempSync(join(tmpdir(), "titan-crash-"))
        yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(root, { recursive: true })))
        const settings = { electionTimeoutMsMin: 40, electionTimeoutMsMax: 80, heartbeatIntervalMs: 10 }
        return yield* script(
          boundary,
          { settings },
          (nodeId) =>
            StorageFile.layer({ directory: join(root, nodeId), clusterId: "test", nodeId, segmentBytes: 64 << 10 })
        )
      }))
    ).pipe(Effect.provideService(References.MinimumLogLevel, "Error")), 60_000)
})
