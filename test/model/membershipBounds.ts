/**
 * Bounds in which the membership changes, or leadership is handed over. All begin where the first server leads, so that what is asked comes early.
 */
import { type Bounds, custom, type Wish } from "./bound.ts"
import type { Sometimes } from "./Properties.ts"

const asked: ReadonlyArray<Sometimes> = ["a leader is elected", "an entry is committed"]

const removal: ReadonlyArray<Wish> = ["remove"]

const removed: ReadonlyArray<Sometimes> = [
  ...asked,
  "a configuration is rolled back",
  "a change waits for an entry of its leader's term",
  "a change waits for the one before it",
  "a leader that removed itself steps down",
  "a server that removed itself stands once more",
  "a server that was removed asks for votes",
  "a server hears that it was removed",
  "an election is won by transfer",
  "a leader that removed itself is followed by whom it told to stand"
]

const learned: ReadonlyArray<Sometimes> = [
  ...asked,
  "a learner is promoted",
  "a learner has what is not committed without it"
]

export const membershipBounds: ReadonlyArray<Bounds> = [
  custom({
    name: "removals",
    about: "servers are removed one after the other, leaders too, in three terms",
    begins: "led",
    terms: 3,
    log: 4,
    messages: 4,
    changes: 2,
    wishes: removal,
    disks: "waited for",
    sometimes: removed,
    inTests: true
  }),
  custom({
    name: "removals-crashes",
    about: "a server is removed, and power is lost anywhere",
    begins: "led",
    terms: 3,
    log: 3,
    messages: 3,
    changes: 1,
    crashes: 1,
    wishes: removal,
    disks: "waited for",
    sometimes: removed.filter((one) => one !== "a change waits for the one before it"),
    inTests: true
  }),
  custom({
    name: "learners",
    about: "servers are promoted and demoted",
    begins: "led",
    learners: 1,
    terms: 3,
    log: 4,
    messages: 4,
    changes: 2,
    wishes: ["promote", "demote"],
    disks: "waited for",
    sometimes: [...learned, "a configuration is rolled back", "a leader that removed itself steps down"],
    inTests: true
  }),
  custom({
    name: "newcomers",
    about: "a server that belongs to no cluster is added, gets a snapshot and is promoted, by a later leader too",
    begins: "led",
    newcomers: 1,
    log: 4,
    messages: 3,
    timeouts: 1,
    heartbeats: 2,
    changes: 1,
    snapshots: 1,
    wishes: ["add a voter"],
    disks: "waited for",
    sometimes: [
      ...learned,
      "a learner is promoted by a later leader",
      "a newcomer learns of its cluster",
      "a server hears that it was removed"
    ],
    inTests: true
  }),
  custom({
    name: "joint",
    about: "one server takes another's place, by way of both majorities",
    begins: "led",
    nodes: 4,
    learners: 1,
    log: 4,
    messages: 5,
    timeouts: 1,
    changes: 1,
    wishes: ["remove one and promote another"],
    disks: "waited for",
    sometimes: [
      ...learned,
      "a joint configuration is left by another leader",
      "one of two majorities has what is not committed"
    ],
    inTests: true
  }),
  custom({
    name: "transfers",
    about: "leadership is handed over while commands come",
    begins: "led",
    terms: 3,
    log: 4,
    messages: 4,
    timeouts: 2,
    proposals: 1,
    transfers: 1,
    disks: "waited for",
    sometimes: [
      ...asked,
      "an election is won by transfer",
      "a transfer is given up",
      "a proposal is refused while leadership is handed over"
    ],
    inTests: true
  }),
  custom({
    name: "barrier",
    about: "what rule M1 is for: two of four servers are removed by leaders who do not know of each other",
    begins: "led",
    nodes: 4,
    terms: 3,
    log: 3,
    messages: 5,
    timeouts: 3,
    changes: 2,
    wishes: removal,
    disks: "waited for",
    sometimes: [...asked, "a configuration is rolled back", "a change waits for an entry of its leader's term"]
  }),
  custom({
    name: "joint-terms",
    about: "one server takes another's place, in three terms",
    begins: "led",
    nodes: 4,
    learners: 1,
    terms: 3,
    log: 4,
    messages: 4,
    timeouts: 2,
    changes: 1,
    wishes: ["remove one and promote another"],
    disks: "waited for",
    sometimes: [...learned, "one of two majorities has what is not committed"]
  }),
  custom({
    name: "joint-leader",
    about: "two of three servers change places, and whoever finds that in its log goes on",
    begins: "led",
    learners: 1,
    log: 4,
    messages: 4,
    timeouts: 1,
    heartbeats: 1,
    changes: 1,
    wishes: ["remove one and promote another"],
    disks: "waited for",
    sometimes: [...learned, "a joint configuration is left by another leader"]
  }),
  custom({
    name: "transfers-removals",
    about: "leadership is handed over, and a server removed",
    begins: "led",
    terms: 3,
    log: 4,
    messages: 4,
    timeouts: 2,
    changes: 1,
    transfers: 1,
    wishes: removal,
    disks: "waited for",
    sometimes: [...removed, "a transfer is given up"]
  }),
  custom({
    name: "removals-disks",
    about: "servers are removed while disks lag behind",
    begins: "led",
    terms: 3,
    log: 3,
    messages: 3,
    changes: 1,
    wishes: removal,
    sometimes: [...asked, "a configuration is rolled back", "a leader that removed itself steps down"]
  }),
  custom({
    name: "removals-pre-vote",
    about: "elections as they ship, and a server that is removed",
    begins: "led",
    terms: 3,
    log: 3,
    messages: 3,
    timeouts: 3,
    changes: 1,
    elections: "pre-vote",
    wishes: removal,
    disks: "waited for",
    sometimes: [...asked, "a leader that removed itself steps down", "a pre-vote is denied"]
  }),
  custom({
    name: "everything-asked",
    about: "two changes of any kind to three servers, one of them a learner",
    begins: "led",
    learners: 1,
    log: 4,
    messages: 3,
    timeouts: 2,
    changes: 2,
    wishes: ["promote", "demote", "remove", "remove one and promote another"],
    disks: "waited for",
    sometimes: learned
  })
]
