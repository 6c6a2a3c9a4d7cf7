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
  "losses"
] as const

export type Budget = (typeof budgets)[number]

/** Largest values of what is never exceeded in a state. */
export const limits = ["nodes", "terms", "log", "messages", "depth"] as const

export type Limit = (typeof limits)[number]

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
  elections: "paper",
  disks: "queued",
  torn: false,
  appendEntriesMax: 1,
  inflightMessagesMax: 1,
  sometimes: [],
  inTests: false
}

export const custom = (overrides: Partial<Bounds>): Bounds => ({ ...small, ...overrides })

const asked: ReadonlyArray<Sometimes> = ["a leader is elected", "an entry is committed"]

/** Those of `npm test` first: seconds each. The others are for a night, or a cup of tea. */
export const named: ReadonlyArray<Bounds> = [
  custom({
    name: "elections",
    about: "two terms of three servers whose disks lag behind",
    messages: 4,
    sometimes: [
      ...asked,
      "two leaders of different terms at once",
      "a term's votes are split",
      "a follower cuts a conflicting entry",
      "a vote is denied for an older log",
      "a stale AppendEntries is answered",
      "a merged write contains a cut",
      "a rejection is repaired"
    ],
    inTests: true
  }),
  custom({
    name: "figure-8",
    about: "four terms, as in Figure 8 of the paper",
    terms: 4,
    messages: 4,
    disks: "waited for",
    sometimes: [
      ...asked,
      "two leaders of different terms at once",
      "a follower cuts a conflicting entry",
      "an older term's entry is on a majority and not committed by counting",
      "a rejection is repaired"
    ],
    inTests: true
  }),
  custom({
    name: "logs",
    about: "three terms and logs that differ in length",
    terms: 3,
    log: 3,
    messages: 4,
    proposals: 1,
    disks: "waited for",
    sometimes: [
      ...asked,
      "a follower cuts a conflicting entry",
      "a vote is denied for an older log",
      "a rejection is repaired"
    ],
    inTests: true
  }),
  custom({
    name: "crashes",
    about: "power losses between any two things that a server does",
    messages: 4,
    reads: 1,
    crashes: 1,
    disks: "waited for",
    sometimes: [
      ...asked,
      "a commit survives the crash of its leader",
      "a voter crashes between its write and its vote",
      "a follower cuts a conflicting entry",
      "a read is served"
    ],
    inTests: true
  }),
  custom({
    name: "disks",
    about: "two servers, power losses in the middle of writes, lost and repeated messages",
    nodes: 2,
    terms: 3,
    log: 3,
    messages: 3,
    crashes: 2,
    duplicates: 1,
    losses: 1,
    torn: true,
    sometimes: [
      ...asked,
      "a term's votes are split",
      "a voter crashes between its write and its vote",
      "a write is torn and what is left of it survives"
    ],
    inTests: true
  }),
  custom({
    name: "reads",
    about: "a read at any leader at any time, and answers that come late",
    messages: 5,
    reads: 1,
    disks: "waited for",
    sometimes: [
      ...asked,
      "two leaders of different terms at once",
      "a read is served",
      "a read is refused because its leader stepped down"
    ],
    inTests: true
  }),
  custom({
    name: "pre-vote",
    about: "elections as they ship: pre-vote, check-quorum, leader stickiness",
    messages: 4,
    timeouts: 3,
    elections: "pre-vote",
    disks: "waited for",
    sometimes: [
      ...asked,
      "two leaders of different terms at once",
      "a pre-vote is denied",
      "a denial's term is adopted",
      "a leader steps down for lack of a quorum",
      "a vote request is ignored because a leader is alive"
    ],
    inTests: true
  }),
  custom({
    name: "late-answers",
    about: "a read, with more messages under way",
    messages: 6,
    reads: 1,
    disks: "waited for",
    sometimes: [...asked, "a read is served", "a read is refused because its leader stepped down"]
  }),
  custom({
    name: "losses",
    about: "four terms, and messages that make room for others by getting lost",
    terms: 4,
    log: 3,
    messages: 3,
    drops: 3,
    disks: "waited for",
    sometimes: [...asked, "a follower cuts a conflicting entry", "a rejection is repaired"]
  }),
  custom({
    name: "power",
    about: "three servers with lagging disks, and a power loss anywhere, in the middle of writes too",
    messages: 4,
    crashes: 1,
    torn: true,
    sometimes: [
      ...asked,
      "a commit survives the crash of its leader",
      "a voter crashes between its write and its vote",
      "a write is torn and what is left of it survives",
      "a merged write contains a cut"
    ]
  }),
  custom({
    name: "pair",
    about: "two servers and everything at once",
    nodes: 2,
    log: 3,
    messages: 4,
    crashes: 1,
    proposals: 1,
    reads: 1,
    heartbeats: 1,
    torn: true,
    sometimes: [...asked, "a read is served", "a write is torn and what is left of it survives"]
  }),
  custom({
    name: "windows",
    about: "several messages under way to each follower, repeated and lost",
    log: 3,
    messages: 4,
    duplicates: 1,
    losses: 1,
    proposals: 1,
    appendEntriesMax: 2,
    inflightMessagesMax: 2,
    disks: "waited for",
    sometimes: [...asked, "a follower cuts a conflicting entry", "a rejection is repaired"]
  }),
  custom({
    name: "pre-vote-disks",
    about: "elections as they ship, with lagging disks",
    messages: 3,
    timeouts: 3,
    elections: "pre-vote",
    sometimes: [...asked, "a pre-vote is denied", "a leader steps down for lack of a quorum"]
  }),
  custom({
    name: "pre-vote-crashes",
    about: "elections as they ship, and a power loss",
    messages: 3,
    timeouts: 3,
    crashes: 1,
    elections: "pre-vote",
    disks: "waited for",
    sometimes: [...asked, "a pre-vote is denied", "a commit survives the crash of its leader"]
  }),
  custom({
    name: "windows-disks",
    about: "several messages under way to each follower, and disks that lag behind",
    log: 3,
    messages: 3,
    duplicates: 1,
    losses: 1,
    proposals: 1,
    appendEntriesMax: 2,
    inflightMessagesMax: 2,
    sometimes: [...asked, "a rejection is repaired", "a merged write contains a cut"]
  })
]

export const byName = (name: string): Bounds | undefined => named.find((bounds) => bounds.name === name)

/** What cannot be searched: fields of the packed state hold no more. */
export const problems = (bounds: Bounds): ReadonlyArray<string> => {
  const most: Readonly<Record<string, readonly [number, number]>> = {
    nodes: [1, 3],
    terms: [1, 7],
    log: [1, 6],
    messages: [1, 24],
    depth: [1, 1_000_000],
    appendEntriesMax: [1, 7],
    inflightMessagesMax: [1, 7],
    ...Object.fromEntries(budgets.map((budget) => [budget, [0, 7] as const]))
  }
  return Object.entries(most).flatMap(([name, [from, to]]) => {
    const value = Number(Object.entries(bounds).find(([key]) => key === name)?.[1])
    return Number.isInteger(value) && value >= from && value <= to
      ? []
      : [`${name} must be a whole number from ${from} to ${to}, but is ${value}`]
  })
}
