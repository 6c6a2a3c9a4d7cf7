/**
 * How much of the endless state space one search covers. Everything within a bound is explored; what lies beyond is counted as cut.
 */
import type { Sometimes } from "./Properties.ts"

/** What may happen only so many times on one path; at most 7 each. */
export const budgets = [
  "crashes",
  "drops",
  "duplicates",
  "proposals",
  "reads",
  "heartbeats",
  "timeouts",
  "losses",
  "snapshots",
  "damages",
  "asks",
  "repeats",
  "changes",
  "transfers"
] as const

export type Budget = (typeof budgets)[number]

/** Largest values of what is never exceeded in a state. */
export const limits = ["nodes", "terms", "log", "messages", "depth"] as const

export type Limit = (typeof limits)[number]

/** What may be asked of the configuration, with any servers. The last one is two changes at once, by way of both majorities. */
export const wishes = [
  "add a voter",
  "add a learner",
  "promote",
  "demote",
  "remove",
  "remove one and promote another"
] as const

export type Wish = (typeof wishes)[number]

export interface Bounds extends Readonly<Record<Budget | Limit, number>> {
  readonly name: string
  readonly about: string
  /** The paper's election alone, or with pre-vote, check-quorum and leader stickiness. */
  readonly elections: "paper" | "pre-vote"
  /** A write waits until the disk gets to it, alone or merged; or the server waits for its disk at every write. */
  readonly disks: "queued" | "waited for"
  /** A crash during a write leaves any beginning of it: first the vote, then entries one by one. */
  readonly torn: boolean
  readonly appendEntriesMax: number
  readonly inflightMessagesMax: number
  readonly logTailEntriesMax: number
  /** How many of the servers are learners at first, and how many belong to no cluster and have nothing. The others are voters. */
  readonly learners: number
  readonly newcomers: number
  /** Which changes are asked for, `changes` times at most. */
  readonly wishes: ReadonlyArray<Wish>
  /** All servers are new; or the first one leads term 1, its no-op is committed, and everybody has heard of it. */
  readonly begins: "new" | "led"
  /** What must be reached within the bound. */
  readonly sometimes: ReadonlyArray<Sometimes>
  /** Whether `npm test` searches it. */
  readonly inTests: boolean
}

const small: Bounds = {
  name: "custom",
  about: "bounds of the command line",
  nodes: 3,
  terms: 2,
  log: 2,
  messages: 3,
  depth: 1000,
  crashes: 0,
  drops: 0,
  duplicates: 0,
  proposals: 0,
  reads: 0,
  heartbeats: 0,
  timeouts: 7,
  losses: 0,
  snapshots: 0,
  damages: 0,
  asks: 0,
  repeats: 0,
  changes: 0,
  transfers: 0,
  elections: "paper",
  disks: "queued",
  torn: false,
  appendEntriesMax: 1,
  inflightMessagesMax: 1,
  logTailEntriesMax: 0,
  learners: 0,
  newcomers: 0,
  wishes: [],
  begins: "new",
  sometimes: [],
  inTests: false
}

export const custom = (overrides: Partial<Bounds>): Bounds => ({ ...small, ...overrides })

/** What cannot be searched: fields of the packed state hold no more. */
export const problems = (bounds: Bounds): ReadonlyArray<string> => {
  const most: Readonly<Record<string, readonly [number, number]>> = {
    nodes: [1, 4],
    terms: [1, 7],
    log: [1, 6],
    messages: [1, 24],
    depth: [1, 1_000_000],
    appendEntriesMax: [1, 7],
    inflightMessagesMax: [1, 7],
    logTailEntriesMax: [0, 7],
    learners: [0, 3],
    newcomers: [0, 3],
    ...Object.fromEntries(budgets.map((budget) => [budget, [0, 7] as const]))
  }
  const lives = bounds.asks > 0 && bounds.crashes > 3
    ? ["with asks a path has at most 3 crashes: there are 7 lives"]
    : []
  const voters = bounds.nodes - bounds.learners - bounds.newcomers
  const members = voters < 1 ? ["a cluster needs at least one voter"] : []
  const wrong = Object.entries(most).flatMap(([name, [from, to]]) => {
    const value = Number(Object.entries(bounds).find(([key]) => key === name)?.[1])
    return Number.isInteger(value) && value >= from && value <= to
      ? []
      : [`${name} must be a whole number from ${from} to ${to}, but is ${value}`]
  })
  return [...wrong, ...lives, ...members]
}
