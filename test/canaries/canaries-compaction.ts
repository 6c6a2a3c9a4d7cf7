/**
 * Snapshots in the core (paper §7, rule M2): what they let the log give up, and what an installed one puts in the place of what was there.
 */
import type { Canary } from "./canaries.ts"

const compaction = "test/domain/compaction.test.ts"
const install = "test/domain/install.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "M2a",
    rule: "M2",
    bug: "a snapshot does not say who the voters are",
    file: "src/services/Compactor.ts",
    find: "configuration: configurationAt(state(), last.index)",
    replace: "configuration: { ...configurationAt(state(), last.index), voters: [] }",
    caughtBy: "simulation",
    property: /^(?:a snapshot has the configuration in force|Liveness)/
  },
  {
    id: "M2b",
    rule: "M2",
    bug: "a snapshot has all servers for voters but the one that took it",
    file: "src/services/Compactor.ts",
    find: "configuration: configurationAt(state(), last.index)",
    replace: `configuration: {
        ...configurationAt(state(), last.index),
        voters: configurationAt(state(), last.index).voters.filter((voter) => voter !== state().id)
      }`,
    caughtBy: "simulation",
    property: /^a snapshot has the configuration in force \(M2\)/
  },
  {
    id: "M2c",
    rule: "M2",
    bug: "an installed snapshot's configuration is not put in force",
    file: "src/domain/Compaction.ts",
    find: ": Configuration.beginning({ index: last.index, configuration: snapshot.configuration })",
    replace: ": Configuration.beginning({ index: last.index, configuration: follower.configuration.latest })",
    caughtBy: "tests",
    tests: [install],
    property: /its configuration in force \(rule M2\)/
  },
  {
    id: "M2d",
    rule: "M2",
    bug: "after a restart the log's start says who is in the cluster, whatever the log holds",
    file: "src/domain/NodeState.ts",
    find: "      configurationsIn(entries)\n    ),",
    replace: "      []\n    ),",
    caughtBy: "simulation",
    property: /^the configuration is a function of snapshot and log \(M2\)/
  },
  {
    id: "M2e",
    rule: "M2",
    bug: "after a restart a snapshot says who is in the cluster where the log begins, though it is later than that",
    file: "src/domain/NodeState.ts",
    find: "Configuration.beginning({ index: prev.index, configuration: options.configuration })",
    replace: "Configuration.beginning({ index: prev.index, configuration: snapshot.configuration })",
    caughtBy: "simulation",
    property: /^the configuration is a function of snapshot and log \(M2\)/
  },
  {
    id: "M2f",
    rule: "M2",
    bug: "the log's new start does not say which configuration is in force there",
    file: "src/domain/Compaction.ts",
    find: "configuration: configurationAt(state, index) }",
    replace: "configuration: { ...configurationAt(state, index), voters: [state.id] } }",
    caughtBy: "tests",
    tests: [compaction],
    property: /rule M2: the log's new start is told with the configuration in force there/
  },
  {
    id: "S1a",
    rule: "snapshot",
    bug: "the log is compacted up to the commit index, past what the snapshot stands for",
    file: "src/domain/Compaction.ts",
    find: "return compact(next, compactIndex(state, snapshot), turn)",
    replace: "return compact(next, state.commitIndex, turn)",
    caughtBy: "simulation",
    property: /^a snapshot stands for all that is compacted/
  },
  {
    id: "S1b",
    rule: "snapshot",
    bug: "the log is compacted up to what is applied, past what the snapshot stands for",
    file: "src/domain/Compaction.ts",
    find: "return compact(next, compactIndex(state, snapshot), turn)",
    replace: "return compact(next, state.lastApplied, turn)",
    caughtBy: "simulation",
    property: /^a snapshot stands for all that is compacted/
  },
  {
    id: "S1c",
    rule: "snapshot",
    bug: "the log is compacted as soon as a snapshot is asked for",
    file: "src/domain/Compaction.ts",
    find: "  return { ...state, isTakingSnapshot: true }",
    replace: "  return compact({ ...state, isTakingSnapshot: true }, state.lastApplied, turn)",
    caughtBy: "simulation",
    property: /^a snapshot stands for all that is compacted/
  },
  {
    id: "S1d",
    rule: "snapshot",
    bug: "no tail of the log is kept for followers that are a little behind",
    file: "src/domain/Compaction.ts",
    find: "while (index > before.log.prev.index && last - index < logTailEntriesMax) {",
    replace: "while (index > last) {",
    caughtBy: "tests",
    tests: [compaction],
    property: /but for a tail of logTailEntriesMax entries/
  },
  {
    id: "S1e",
    rule: "L7",
    bug: "the log is compacted while a follower receives the snapshot that it would go on from",
    file: "src/domain/Compaction.ts",
    find: "if (isReceiving) index = Math.min(index, progress.snapshotIndex)",
    replace: "void isReceiving",
    caughtBy: "tests",
    tests: ["test/domain/snapshots.test.ts"],
    property: /compaction is held back, once, for a follower that is receiving the previous one/
  },
  {
    id: "S1f",
    rule: "L7",
    bug: "a leader that compacts its log goes on sending entries that it has given up",
    file: "src/domain/Compaction.ts",
    find: "if (known.nextIndex <= index && known._tag !== \"Snapshot\") progress.set",
    replace: "if (known.nextIndex < 0) progress.set",
    caughtBy: "simulation",
    property: /^what is to be sent is in the log, or a snapshot is sent \(L7\)/
  },
  {
    id: "S1g",
    rule: "snapshot",
    bug: "an older snapshot that is ready late takes the place of the present one",
    file: "src/domain/Compaction.ts",
    find: "if (snapshot.last.index <= state.snapshot.last.index) return taken",
    replace: "",
    caughtBy: "tests",
    tests: [compaction],
    property: /a snapshot that is not later than the present one lets nothing go/
  },
  {
    id: "S1h",
    rule: "snapshot",
    bug: "once one snapshot was taken no other ever is",
    file: "src/domain/Compaction.ts",
    find: "const taken: NodeState = { ...state, isTakingSnapshot: false }",
    replace: "const taken: NodeState = state",
    caughtBy: "tests",
    tests: [compaction],
    property: /not while one is under way, and then counted from the end of that one/
  },
  {
    id: "S1i",
    rule: "snapshot",
    bug: "a compacted log forgets where its terms begin",
    file: "src/domain/Log.ts",
    find: "...log.terms.filter((run) => run.index > index + 1)]",
    replace: "]",
    caughtBy: "simulation",
    property: /^(?:Log Matching|State Machine Safety|Leader Completeness|what is committed stays|a leader)/
  },
  {
    id: "S1j",
    rule: "snapshot",
    bug: "a compacted log is one place off within its first chunk",
    file: "src/domain/Log.ts",
    find: "const offset = dropped % chunkSize",
    replace: "const offset = Math.max(0, dropped % chunkSize - 1)",
    caughtBy: "simulation",
    property: /^(?:indices are positions|Log Matching|State Machine Safety)/
  },
  {
    id: "S1k",
    rule: "snapshot",
    bug: "a log that is compacted as a whole forgets the term of its last entry",
    file: "src/domain/Log.ts",
    find: "if (next === undefined) return empty(prev)",
    replace: "if (next === undefined) return empty({ term: 0, index })",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "S2a",
    rule: "L4",
    bug: "a follower that has compacted past the leader's message answers with the end of its log",
    file: "src/domain/Replication.ts",
    find: "acknowledge(follower, from, message, follower.commitIndex, turn)",
    replace: "acknowledge(follower, from, message, follower.log.lastIndex, turn)",
    caughtBy: "tests",
    tests: ["test/domain/snapshots.test.ts"],
    property: /says up to where they agree/
  },
  {
    id: "I1a",
    rule: "L3",
    bug: "an installed snapshot keeps a log that went another way",
    file: "src/domain/Compaction.ts",
    find: "const keepsLog = Log.matches(follower.log, last)",
    replace: "const keepsLog = last.index <= follower.log.lastIndex",
    caughtBy: "simulation",
    property: /^(?:State Machine Safety|Log Matching|Leader Completeness|what a leader takes for matched|Durability)/
  },
  {
    id: "I1b",
    rule: "L3",
    bug: "an installed snapshot throws away entries behind it, though the log holds its last one",
    file: "src/domain/Compaction.ts",
    find: "const keepsLog = Log.matches(follower.log, last)",
    replace: "const keepsLog = false",
    caughtBy: "simulation",
    property: /^(?:Liveness|Durability|Leader Completeness|what a leader takes for matched)/
  },
  {
    id: "I1c",
    rule: "L3",
    bug: "the disk begins its log anew where the core keeps it",
    file: "src/domain/Compaction.ts",
    find: "turn.install = { snapshot, keepsLog }",
    replace: "turn.install = { snapshot, keepsLog: false }",
    caughtBy: "simulation",
    property:
      /^(?:the contract of Storage is kept|Durability|what a leader takes for matched|the configuration is a function)/
  },
  {
    id: "I1d",
    rule: "L3",
    bug: "a snapshot at or below the commit index is installed",
    file: "src/domain/Compaction.ts",
    find: ": last.index <= follower.commitIndex) {",
    replace: ": last.index < 0) {",
    caughtBy: "tests",
    tests: [install],
    property: /at or below the commit index it changes nothing/
  },
  {
    id: "I1e",
    rule: "L7",
    bug: "a snapshot at or below the commit index is not acknowledged",
    file: "src/domain/Compaction.ts",
    find: "if (!needsSnapshot(follower)) acknowledge(follower, from, follower.commitIndex, turn)",
    replace: "",
    caughtBy: "tests",
    tests: [install],
    property: /is acknowledged so that the leader goes on \(rule L7\)/
  },
  {
    id: "I1f",
    rule: "snapshot",
    bug: "a snapshot of an older term's leader is installed",
    file: "src/domain/Step.ts",
    find: "if (term < state.term || !isBelievable(state, term)) {",
    replace: "if (!isBelievable(state, term)) {",
    caughtBy: "simulation",
    property: /^(?:only what V10 names puts an election off|Election Safety)/
  },
  {
    id: "I1g",
    rule: "snapshot",
    bug: "the newer term of a snapshot's leader is not adopted",
    file: "src/domain/Step.ts",
    find: "const current = term > state.term ? adoptTerm(state, term, from, turn) : state",
    replace: "const current = state",
    caughtBy: "tests",
    tests: [install],
    property: /a newer one is adopted and written with the snapshot/
  },
  {
    id: "I2a",
    rule: "L6",
    bug: "an installed snapshot is acknowledged before it is durable",
    file: "src/domain/Compaction.ts",
    find: "Turn.promise(turn, from, {",
    replace: "Turn.send(turn, from, {",
    caughtBy: "simulation",
    property: /^AppendEntriesResponse waits for the disk \(L6, V1\)/
  },
  {
    id: "I2b",
    rule: "snapshot",
    bug: "a snapshot is installed and the state machine is never told",
    file: "src/domain/Step.ts",
    find:
      `if (turn.install !== undefined) commands.push({ _tag: "Restore", last: turn.install.snapshot.last })\n  else if`,
    replace: "if (turn.install === undefined)\n    if",
    caughtBy: "simulation",
    property: /^what becomes committed is applied/
  },
  {
    id: "I2c",
    rule: "snapshot",
    bug: "a copy of the snapshot that is being installed takes its file away",
    file: "src/domain/Compaction.ts",
    find: "if (!mayBeInstalling) turn.commands.push",
    replace: "turn.commands.push",
    caughtBy: "tests",
    tests: [install],
    property: /a copy of one that is still being installed is not discarded/
  },
  {
    id: "V10h",
    rule: "V10",
    bug: "the pieces of a snapshot do not put the election off",
    file: "src/domain/Step.ts",
    find: ": followLeader(current, from, turn)",
    replace: ": becomeFollower(current, from, turn)",
    caughtBy: "simulation",
    property: /^(?:term, log and loyalty decide a pre-vote|who hears a leader|term, log and the one vote)/
  },
  {
    id: "V10i",
    rule: "V10",
    bug: "a snapshot that has come in whole puts the election off, however long it took to check",
    file: "src/domain/Step.ts",
    find: "Compaction.onSnapshotReceived(becomeFollower(current, from, turn), from, event.snapshot, turn)",
    replace: "Compaction.onSnapshotReceived(followLeader(current, from, turn), from, event.snapshot, turn)",
    caughtBy: "simulation",
    property: /^only what V10 names puts an election off \(V10\)/
  }
]
