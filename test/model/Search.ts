/**
 * The search: breadth first, so that the first violation found has a shortest trace.
 */
import * as NodeState from "../../src/domain/NodeState.ts"
import * as Settings from "../../src/domain/Settings.ts"
import { step } from "../../src/domain/Step.ts"
import type { Bounds } from "./bound.ts"
import { eachOf, emptyTally, type Finding, type Seen, type Sometimes, sometimes, type Tally } from "./Properties.ts"
import type { Rules } from "./Server.ts"
import { type Cut, kindsOf, strideOf, Successors } from "./Successors.ts"
import { permutations, within } from "./Symmetry.ts"
import { Tables } from "./Tables.ts"
import { Tracer } from "./Trace.ts"
import { collisionOdds, Visited } from "./Visited.ts"

export interface Progressed {
  readonly level: number
  readonly states: number
  readonly frontier: number
  readonly ms: number
}

export interface Options {
  /** The core: what ships, unless a test breaks it on purpose. */
  readonly step?: typeof step
  readonly start?: typeof NodeState.make
  /** False asks nothing of the state and the step of one server alone, so that only what shows between servers is found. */
  readonly invariants?: boolean
  /** False explores states that differ only in the servers' names one by one. */
  readonly symmetry?: boolean
  readonly minutes?: number
  readonly progress?: (progressed: Progressed) => void
}

export interface Result {
  readonly states: number
  readonly transitions: number
  /** Actions from the first state to the farthest, or to the violation. */
  readonly depth: number
  readonly ms: number
  /** Whether everything within the bound was explored: no violation, and no lack of time, ended the search. */
  readonly exhausted: boolean
  readonly collisionOdds: number
  readonly cut: Readonly<Record<Cut | "depth", number>>
  readonly always: Tally
  /** How many transitions showed each. */
  readonly sometimes: Readonly<Record<Sometimes, number>>
  /** Those that the bound must reach and did not; after a violation nobody asks. */
  readonly missing: ReadonlyArray<Sometimes>
  readonly violation?: Finding & { readonly trace: ReadonlyArray<string> }
  /** Distinct servers, messages and steps of the core behind the states. */
  readonly distinct: { readonly servers: number; readonly messages: number; readonly steps: number }
}

const settingsOf = (bounds: Bounds): Settings.Settings => {
  const isPaper = bounds.elections === "paper"
  const made = Settings.make({
    preVote: !isPaper,
    checkQuorum: !isPaper,
    leaderStickiness: !isPaper,
    appendEntriesMax: bounds.appendEntriesMax,
    inflightMessagesMax: bounds.inflightMessagesMax,
    logTailEntriesMax: bounds.logTailEntriesMax
  })
  if ("settings" in made) return made.settings
  throw new Error(made.problems.join("; "))
}

/** States of one level, one after the other. */
class Level {
  states: Int32Array
  count = 0
  private readonly stride: number

  constructor(stride: number) {
    this.stride = stride
    this.states = new Int32Array(stride * 1024)
  }

  push(state: Int32Array): void {
    const at = this.count * this.stride
    if (at === this.states.length) {
      const longer = new Int32Array(at * 2)
      longer.set(this.states)
      this.states = longer
    }
    this.states.set(state, at)
    this.count++
  }
}

const msBetweenReports = 2000

class Search {
  private readonly bounds: Bounds
  private readonly options: Options
  private readonly tally = emptyTally()
  private readonly successors: Successors
  private readonly visited = new Visited()
  private readonly counts = sometimes.map(() => 0)
  private readonly startedMs = performance.now()
  private transitions = 0
  private beyondDepth = 0
  private lastReportMs = this.startedMs
  private found: { readonly finding: Finding; readonly state: number; readonly ordinal: number } | undefined

  constructor(bounds: Bounds, options: Options) {
    this.bounds = bounds
    this.options = options
    const rules: Rules = {
      settings: settingsOf(bounds),
      step: options.step ?? step,
      start: options.start ?? NodeState.make,
      waitsForDisk: bounds.disks === "waited for",
      isFixed: bounds.changes === 0,
      hasLives: bounds.asks > 0,
      invariants: options.invariants ?? true,
      tally: this.tally
    }
    const all = within(permutations(bounds.nodes), kindsOf(bounds))
    const used = options.symmetry === false ? all.slice(0, 1) : all
    this.successors = new Successors(bounds, new Tables({ rules, torn: bounds.torn, permutations: used }), rules)
  }

  run(): Result {
    const { bounds, successors, visited } = this
    const stride = strideOf(bounds)
    successors.initial()
    let level = new Level(stride)
    visited.add(successors.next, 0, 0)
    level.push(successors.next)
    let depth = 0
    let first = 0
    while (level.count > 0 && depth < bounds.depth && this.found === undefined) {
      const following = new Level(stride)
      if (!this.expand(level, following, first, depth)) return this.result(depth, false)
      first += level.count
      level = following
      if (level.count > 0 || this.found !== undefined) depth++
    }
    this.beyondDepth = this.found === undefined ? level.count : 0
    return this.result(depth, this.found === undefined)
  }

  /** False when time is up. */
  private expand(level: Level, following: Level, first: number, depth: number): boolean {
    const { successors, visited } = this
    for (let i = 0; i < level.count && this.found === undefined; i++) {
      successors.each(level.states, i * successors.next.length, (finding) => {
        this.transitions++
        if (finding !== undefined) {
          this.found ??= { finding, state: first + i, ordinal: successors.ordinal }
          return
        }
        if (successors.seen !== 0) this.count(successors.seen)
        if (visited.add(successors.next, first + i, successors.ordinal)) following.push(successors.next)
      })
      if ((i & 0xfff) === 0 && !this.report(depth, following.count)) return false
    }
    return true
  }

  private readonly countOne = (i: number): void => void (this.counts[i] = (this.counts[i] ?? 0) + 1)

  private count(seen: Seen): void {
    eachOf(seen, this.countOne)
  }

  private report(level: number, frontier: number): boolean {
    const now = performance.now()
    const ms = now - this.startedMs
    if (now - this.lastReportMs >= msBetweenReports) {
      this.lastReportMs = now
      this.options.progress?.({ level, states: this.visited.size, frontier, ms })
    }
    return ms < (this.options.minutes ?? Infinity) * 60_000
  }

  private result(depth: number, exhausted: boolean): Result {
    const { bounds, counts, found, successors, visited } = this
    const ms = performance.now() - this.startedMs
    // What was asked for in vain leads nowhere, and is seen all the same.
    if (depth > 0) this.count(successors.seenInVain)
    const reached = Object.fromEntries(sometimes.map((name, i) => [name, counts[i] ?? 0])) as Record<Sometimes, number>
    const { packets, servers, transitions } = successors.tables
    const base = {
      states: visited.size,
      transitions: this.transitions,
      depth,
      ms,
      exhausted,
      collisionOdds: collisionOdds(visited.size),
      cut: { ...successors.cut, depth: this.beyondDepth },
      always: this.tally,
      sometimes: reached,
      missing: found === undefined ? bounds.sometimes.filter((name) => reached[name] === 0) : [],
      distinct: { servers: servers.length, messages: packets.length, steps: transitions.length }
    }
    if (found === undefined) return base
    const { detail, property } = found.finding
    return {
      ...base,
      violation: { property, ...new Tracer(successors, visited).to(found.state, found.ordinal, detail) }
    }
  }
}

/** Everything that can happen within `bounds`. */
export const explore = (bounds: Bounds, options: Options = {}): Result => new Search(bounds, options).run()

/** Whether a search found what it should: no violation, and every situation that its bound must reach. */
export const isPassed = (result: Result): boolean => result.violation === undefined && result.missing.length === 0
