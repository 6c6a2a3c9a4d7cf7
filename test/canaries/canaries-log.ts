/**
 * The log and what is committed of it (rules L1 to L5): bugs that lose or change what was promised to be kept.
 */
import type { Canary } from "./canaries.ts"

const replication = "test/domain/replication.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "L1a",
    rule: "L1",
    bug: "an entry of an older term is committed by counting its copies (Figure 8)",
    file: "src/domain/Replication.ts",
    find: "if (index <= state.commitIndex || Log.termAt(state.log, index) !== state.term) return state",
    replace: "if (index <= state.commitIndex) return state",
    caughtBy: "simulation",
    property: /^a leader commits its own term's entries \(L1\)/
  },
  {
    id: "L1b",
    rule: "L1",
    bug: "a new leader takes its whole log for committed",
    file: "src/domain/RoleChange.ts",
    find: "    ...state,\n    role: {",
    replace: "    ...state,\n    commitIndex: lastIndex,\n    role: {",
    caughtBy: "simulation",
    property: /^a leader commits its own term's entries \(L1\)/
  },
  {
    id: "L2a",
    rule: "L2",
    bug: "a follower commits up to its last entry",
    file: "src/domain/Replication.ts",
    find: "Math.min(message.leaderCommit, lastNewIndex)",
    replace: "Math.min(message.leaderCommit, stored.log.lastIndex)",
    caughtBy: "simulation",
    property: /^(?:State Machine Safety|Leader Completeness|Log Matching)/
  },
  {
    id: "L2b",
    rule: "L2",
    bug: "a follower commits whatever the leader has committed",
    file: "src/domain/Replication.ts",
    find: "Math.min(message.leaderCommit, lastNewIndex)",
    replace: "message.leaderCommit",
    caughtBy: "simulation",
    property: /^commitIndex <= lastLogIndex/
  },
  {
    id: "L2c",
    rule: "L2",
    bug: "a late message takes the commit index back",
    file: "src/domain/Replication.ts",
    find: "Math.max(stored.commitIndex, Math.min(message.leaderCommit, lastNewIndex))",
    replace: "Math.min(message.leaderCommit, lastNewIndex)",
    caughtBy: "simulation",
    property: /^lastApplied <= commitIndex/
  },
  {
    id: "L2d",
    rule: "L2",
    bug: "a message that is rejected commits all the same",
    file: "src/domain/Replication.ts",
    find: "Turn.send(turn, from, rejection(follower, message))\n    return follower",
    replace: `Turn.send(turn, from, rejection(follower, message))
    const known = Math.min(message.leaderCommit, follower.log.lastIndex)
    return { ...follower, commitIndex: Math.max(follower.commitIndex, known) }`,
    caughtBy: "simulation",
    property: /^(?:State Machine Safety|Leader Completeness|Log Matching)/
  },
  {
    id: "L3a",
    rule: "L3",
    bug: "entries that are held already cut the log and are appended again",
    file: "src/domain/Replication.ts",
    find: "const at = entries.findIndex((entry) => Log.termAt(state.log, entry.index) !== entry.term)",
    replace: "const at = entries.findIndex((entry) => entry.index > state.commitIndex)",
    caughtBy: "simulation",
    property: /^(?:Durability|what a leader takes for matched)/
  },
  {
    id: "L3b",
    rule: "L3",
    bug: "the log is cut below the commit index when a leader asks for it",
    file: "src/domain/Replication.ts",
    find: "if (first.index <= state.commitIndex) {",
    replace: "if (first.index < 0) {",
    caughtBy: "tests",
    tests: [replication],
    property: /a conflict at or below the commit index stops the server/
  },
  {
    id: "L3c",
    rule: "L3",
    bug: "the log ends where the message does: a heartbeat shrinks it",
    file: "src/domain/Replication.ts",
    find: "return { ...stored, commitIndex }",
    replace: "return { ...stored, commitIndex, log: Log.truncate(stored.log, Math.max(lastNewIndex, commitIndex)) }",
    caughtBy: "simulation",
    property: /^a changed log is written \(L6\)/
  },
  {
    id: "L3d",
    rule: "L3",
    bug: "an entry that conflicts is kept, since there is one at its index",
    file: "src/domain/Replication.ts",
    find: "const at = entries.findIndex((entry) => Log.termAt(state.log, entry.index) !== entry.term)",
    replace: "const at = entries.findIndex((entry) => entry.index > state.log.lastIndex)",
    caughtBy: "simulation",
    property: /^(?:State Machine Safety|Log Matching|Durability|what a leader takes for matched)/
  },
  {
    id: "L3e",
    rule: "L3",
    bug: "the term of prev is not compared",
    file: "src/domain/Replication.ts",
    find: "if (!Log.matches(follower.log, message.prev)) {",
    replace: "if (message.prev.index > follower.log.lastIndex) {",
    caughtBy: "simulation",
    property: /^(?:Log Matching|State Machine Safety|Durability|what a leader takes for matched)/
  },
  {
    id: "L3f",
    rule: "L3",
    bug: "prev is not looked at: entries are stored wherever they belong",
    file: "src/domain/Replication.ts",
    find: "if (!Log.matches(follower.log, message.prev)) {",
    replace: "if (message.prev.index > follower.log.lastIndex + 1000) {",
    caughtBy: "simulation",
    property: /^(?:a match is durable first|indices are positions|Log Matching)/
  },
  {
    id: "L4a",
    rule: "L4",
    bug: "a follower answers with the end of its log, stale tail included",
    file: "src/domain/Replication.ts",
    find: "acknowledge(stored, from, message, lastNewIndex, turn)",
    replace: "acknowledge(stored, from, message, stored.log.lastIndex, turn)",
    caughtBy: "simulation",
    property: /^(?:what a leader takes for matched|Durability)/
  },
  {
    id: "L4b",
    rule: "L4",
    bug: "a late answer takes matchIndex back",
    file: "src/domain/Progress.ts",
    find: "const match = Math.max(progress.matchIndex, matchIndex)",
    replace: "const match = matchIndex",
    caughtBy: "simulation",
    property: /^matchIndex never falls in a leadership \(L4\)/
  },
  {
    id: "L4c",
    rule: "L4",
    bug: "what was sent ahead counts as matched once the follower answers anything",
    file: "src/domain/Replication.ts",
    find: "Progress.advanceMatchIndex(progress, result.matchIndex)",
    replace: "Progress.advanceMatchIndex(progress, Math.max(result.matchIndex, progress.nextIndex - 1))",
    caughtBy: "simulation",
    property: /^(?:what a leader takes for matched|Durability)/
  },
  {
    id: "L4d",
    rule: "L4",
    bug: "where a rejection sends the leader back to counts as matched",
    file: "src/domain/Replication.ts",
    find: "Pipeline.withProgress(state, from, Progress.becomeProbe(progress, nextIndex))",
    replace: `Pipeline.withProgress(
      state,
      from,
      Progress.becomeProbe({ ...progress, matchIndex: Math.max(progress.matchIndex, nextIndex - 1) }, nextIndex)
    )`,
    caughtBy: "simulation",
    property: /^(?:what a leader takes for matched|Durability)/
  },
  {
    id: "L4e",
    rule: "L4",
    bug: "a match beyond the leader's own log is believed",
    file: "src/domain/Replication.ts",
    find: "if (result.matchIndex > state.log.lastIndex) return state",
    replace: "",
    caughtBy: "tests",
    tests: [replication],
    property: /a match beyond the leader's log is no match/
  },
  {
    id: "L4f",
    rule: "L4",
    bug: "an answer from an earlier leadership counts",
    file: "src/domain/Step.ts",
    find: `    case "RequestPreVoteResponse":
    case "AppendEntriesResponse":
    case "RequestReadIndexResponse":
    case "TimeoutNow":
      return state\n`,
    replace: `    case "RequestPreVoteResponse":
    case "RequestReadIndexResponse":
    case "TimeoutNow":
      return state
    case "AppendEntriesResponse":
      return isLeader(state) ? Replication.onAppendEntriesResponse(state, from, message, turn) : state\n`,
    caughtBy: "simulation",
    property: /^(?:a leader gives up|a read is confirmed)/
  },
  {
    id: "L5a",
    rule: "L5",
    bug: "entries are stored without a look at their indices and terms",
    file: "src/domain/Replication.ts",
    find: "if (!isContiguous(message)) return state",
    replace: "",
    caughtBy: "tests",
    tests: [replication],
    property: /rule L5.* is not acknowledged, nor stored/
  },
  {
    id: "L5b",
    rule: "L5",
    bug: "the terms of entries may fall",
    file: "src/domain/Replication.ts",
    find: "entry.term < term || entry.term > message.term",
    replace: "entry.term > message.term",
    caughtBy: "tests",
    tests: [replication],
    property: /rule L5.* is not acknowledged, nor stored/
  }
]
