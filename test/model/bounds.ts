/**
 * The bounds that have a name. Those of `npm test` first: seconds each. The others are for a night, or a cup of tea.
 */
import { type Bounds, custom } from "./bound.ts"
import { membershipBounds } from "./membershipBounds.ts"
import type { Sometimes } from "./Properties.ts"
import { snapshotBounds } from "./snapshotBounds.ts"

const asked: ReadonlyArray<Sometimes> = ["a leader is elected", "an entry is committed"]

const withoutSnapshots: ReadonlyArray<Bounds> = [
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

export const named: ReadonlyArray<Bounds> = [...withoutSnapshots, ...snapshotBounds, ...membershipBounds]
  .toSorted((a, b) => Number(b.inTests) - Number(a.inTests))

export const byName = (name: string): Bounds | undefined => named.find((bounds) => bounds.name === name)
