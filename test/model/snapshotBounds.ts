/**
 * Bounds with snapshots, and with reads that followers answer.
 */
import { type Bounds, custom } from "./bound.ts"

export const snapshotBounds: ReadonlyArray<Bounds> = [
  custom({
    name: "snapshots",
    about: "a snapshot that waits for the disk of whom it is sent to, is late, and is overtaken",
    messages: 3,
    snapshots: 1,
    heartbeats: 1,
    timeouts: 2,
    sometimes: [
      "a snapshot is installed and the log stays",
      "a snapshot takes the place of a shorter log",
      "a snapshot takes the place of a log that went another way",
      "a snapshot is ignored because more is committed",
      "entries are appended while an install waits for the disk",
      "a server leads whose log was compacted"
    ],
    inTests: true
  }),
  custom({
    name: "installs",
    about: "a power loss anywhere, between a snapshot and its log too",
    messages: 3,
    snapshots: 1,
    crashes: 1,
    drops: 1,
    timeouts: 2,
    sometimes: [
      "a snapshot is installed and the log stays",
      "a snapshot takes the place of a shorter log",
      "power is lost between an installed snapshot and its log",
      "the acknowledgement of an install is lost",
      "a server leads whose log was compacted"
    ],
    inTests: true
  }),
  custom({
    name: "copies",
    about: "a snapshot that arrives twice, or is sent twice",
    messages: 3,
    snapshots: 1,
    duplicates: 1,
    repeats: 1,
    timeouts: 2,
    sometimes: [
      "a snapshot takes the place of a shorter log",
      "a snapshot is ignored because more is committed",
      "entries are appended while an install waits for the disk"
    ],
    inTests: true
  }),
  custom({
    name: "lost-snapshots",
    about: "two servers, one of which loses its snapshot, and power losses in the middle of writes",
    nodes: 2,
    snapshots: 2,
    damages: 1,
    crashes: 1,
    heartbeats: 2,
    timeouts: 2,
    torn: true,
    sometimes: [
      "a server gets the state back that it lost",
      "a write is torn and what is left of it survives"
    ],
    inTests: true
  }),
  custom({
    name: "questions",
    about: "a read at a follower, which asks its leader",
    messages: 4,
    asks: 1,
    heartbeats: 1,
    timeouts: 2,
    disks: "waited for",
    sometimes: [
      "two leaders of different terms at once",
      "a read of a follower is served",
      "a leader that steps down answers what it was asked"
    ],
    inTests: true
  }),
  custom({
    name: "lives",
    about: "answers that come to a later life of the server that asked, of two",
    nodes: 2,
    asks: 2,
    crashes: 1,
    proposals: 1,
    heartbeats: 1,
    timeouts: 1,
    disks: "waited for",
    sometimes: ["a read of a follower is served", "an answer comes to a later life of its asker"],
    inTests: true
  }),
  custom({
    name: "copies-crashes",
    about: "a snapshot that arrives twice, or is sent twice, and a power loss",
    messages: 3,
    snapshots: 1,
    crashes: 1,
    duplicates: 1,
    repeats: 1,
    timeouts: 2,
    sometimes: [
      "a snapshot is ignored because more is committed",
      "entries are appended while an install waits for the disk",
      "power is lost between an installed snapshot and its log"
    ]
  }),
  custom({
    name: "snapshots-crashes",
    about: "a snapshot that is late, and a power loss anywhere",
    messages: 3,
    snapshots: 1,
    crashes: 1,
    heartbeats: 1,
    timeouts: 2,
    sometimes: [
      "a snapshot takes the place of a log that went another way",
      "power is lost between an installed snapshot and its log"
    ]
  }),
  custom({
    name: "snapshots-terms",
    about: "three terms, two snapshots, and a log that keeps an entry of what they stand for",
    terms: 3,
    log: 3,
    messages: 4,
    snapshots: 2,
    heartbeats: 1,
    timeouts: 3,
    logTailEntriesMax: 1,
    disks: "waited for",
    sometimes: [
      "a snapshot takes the place of a shorter log",
      "a snapshot is ignored because more is committed",
      "a server leads whose log was compacted"
    ]
  }),
  custom({
    name: "snapshots-pre-vote",
    about: "elections as they ship, and a snapshot",
    messages: 4,
    snapshots: 1,
    heartbeats: 1,
    timeouts: 2,
    elections: "pre-vote",
    disks: "waited for",
    sometimes: ["a snapshot takes the place of a log that went another way", "a server leads whose log was compacted"]
  }),
  custom({
    name: "second-snapshots",
    about: "one leader, and snapshots that follow each other before they are installed",
    terms: 1,
    log: 3,
    messages: 4,
    proposals: 2,
    snapshots: 3,
    heartbeats: 1,
    timeouts: 1,
    disks: "waited for",
    sometimes: ["a follower is sent a second snapshot", "a snapshot is ignored because more is committed"]
  }),
  custom({
    name: "lost-snapshots-terms",
    about: "three servers, one of which loses its snapshot",
    messages: 4,
    snapshots: 1,
    damages: 1,
    crashes: 1,
    heartbeats: 1,
    timeouts: 2,
    disks: "waited for",
    sometimes: [
      "a server gets the state back that it lost",
      "a snapshot takes the place of a log that went another way"
    ]
  }),
  custom({
    name: "lost-snapshots-pair",
    about: "two servers and two power losses, and a snapshot that is lost",
    nodes: 2,
    log: 3,
    proposals: 1,
    snapshots: 2,
    damages: 1,
    crashes: 2,
    heartbeats: 2,
    timeouts: 2,
    torn: true,
    sometimes: [
      "a server gets the state back that it lost",
      "a snapshot is ignored because more is committed",
      "a write is torn and what is left of it survives"
    ]
  }),
  custom({
    name: "lives-terms",
    about: "answers that come to a later life of the server that asked, and a new leader",
    messages: 3,
    asks: 2,
    crashes: 1,
    timeouts: 2,
    disks: "waited for",
    sometimes: ["a read of a follower is served", "an answer comes to a later life of its asker"]
  }),
  custom({
    name: "questions-pre-vote",
    about: "elections as they ship, and a question that is put again",
    messages: 4,
    asks: 1,
    repeats: 1,
    timeouts: 2,
    elections: "pre-vote",
    disks: "waited for",
    sometimes: ["a read of a follower is served", "a leader that steps down answers what it was asked"]
  })
]
