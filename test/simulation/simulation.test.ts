/**
 * Seeded simulation of the real driver: the runs of every `npm test`, and that the simulation does what it says.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Counter } from "../../examples/counter.ts"
import * as StateMachine from "../../src/services/StateMachine.ts"
import type { Draws } from "../../src/testing/Draws.ts"
import * as Run from "../../src/testing/Run.ts"
import * as Simulation from "../../src/testing/Simulation.ts"
import * as Swarm from "../../src/testing/Swarm.ts"
import { keptSeeds } from "./keptSeeds.ts"
import { workload } from "./workload.ts"

const assertHeld = (hunted: Simulation.Hunted) => {
  const { failure } = hunted
  if (failure === undefined) return
  const replay = `npm run simulate -- --seed ${failure.seed} --keep ${failure.keep.join(",") || "0"}`
  assert.fail(Simulation.format(failure, { replay }))
}

/** The first of today's seeds: other ones every day, the same ones all day. */
const today = (): number => Math.floor(Date.now() / 86_400_000) * 1000

describe("simulated clusters under faults", () => {
  it("the kept seeds break no property", { timeout: 120_000 }, () => {
    const hunted = Simulation.hunt(workload, { seeds: keptSeeds.map(({ seed }) => seed) })
    assertHeld(hunted)
    assert.strictEqual(hunted.runs, keptSeeds.length)
  })

  it("today's seeds break no property, and much happens in them", { timeout: 120_000 }, () => {
    const first = today()
    const hunted = Simulation.hunt(workload, { seeds: Array.from({ length: 150 }, (_, i) => first + i) })
    assertHeld(hunted)
    const { faults, totals } = hunted
    // Runs in which nothing happens prove nothing.
    assert.isAbove(totals.leaders, 300)
    assert.isAbove(totals.committed, 5000)
    assert.isAbove(totals.done, 5000)
    assert.isAbove(totals.unknown, 100)
    assert.isAbove(totals.notApplied, 1000)
    assert.deepEqual(Swarm.kinds.filter((kind) => faults[kind] === undefined), [])
  })
})

describe("a run", () => {
  const traced = (seed: number) => Run.run(Swarm.plan(seed), workload, { trace: true })

  it("is decided by its seed, to the letter", () => {
    for (const seed of [2, 3, 5]) {
      const [one, other] = [traced(seed), traced(seed)]
      assert.isAbove(one.trace.length, 500)
      assert.deepEqual(one.trace, other.trace)
      assert.strictEqual(one.history, other.history)
      assert.deepEqual(one.counts, other.counts)
    }
  })

  it("of another seed goes another way, with the same plan too", () => {
    const plan = Swarm.plan(3)
    const [one, other] = [
      Run.run(plan, workload, { trace: true }),
      Run.run({ ...plan, seed: 4 }, workload, { trace: true })
    ]
    assert.notDeepEqual(one.trace, other.trace)
  })

  it("with and without its trace is the same run", () => {
    const { counts, history } = Run.run(Swarm.plan(3), workload)
    assert.deepEqual({ counts, history }, { counts: traced(3).counts, history: traced(3).history })
  })
})

/** Appends texts; `fault` spoils it. */
const listMachine = (fault: (text: string) => string) =>
  StateMachine.make({
    command: Schema.String,
    result: Schema.Int,
    query: Schema.Void,
    answer: Schema.Array(Schema.String),
    state: Schema.Array(Schema.String),
    initial: [],
    apply: (all, text) => ({ state: [...all, fault(text)], result: all.length + 1 }),
    respond: (all) => all
  })

const texts: Parameters<
  typeof Simulation.check<ReadonlyArray<string>, string, number, void, ReadonlyArray<string>>
>[1] = {
  command: (draws) => String(draws.below(1000)),
  query: () => undefined
}

describe("Simulation.check", () => {
  it.effect("passes a machine that is a function of its commands", () =>
    Effect.gen(function*() {
      const { runs, totals } = yield* Simulation.check(listMachine((text) => text), texts, { seeds: 10 })
      assert.strictEqual(runs, 10)
      assert.isAbove(totals.committed, 100)
    }))

  it.effect("judges what comes after the last write as well", () =>
    Effect.gen(function*() {
      const counter = { command: (draws: Draws) => ({ add: draws.between(1, 9) }), query: () => undefined }
      for (const firstSeed of [239, 320]) yield* Simulation.check(Counter, counter, { firstSeed, seeds: 1 })
    }))

  it.effect("finds a machine that keeps what is no part of its state, and says how to see it again", () =>
    Effect.gen(function*() {
      // Every node that runs it counts on, a restarted one from where the others are.
      let count = 0
      const machine = listMachine((text) => `${text} ${++count}`)
      const failed = yield* Effect.flip(Simulation.check(machine, texts, { seeds: 20, size: 3 }))
      assert.include(["Liveness", "Linearizability"], failed.property)
      assert.match(
        failed.message,
        /again: Simulation\.check\(machine, workload, \{"size":3,"firstSeed":\d+,"seeds":1,"keep":\[/
      )
    }))
})
