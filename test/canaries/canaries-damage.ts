/**
 * Followers that lack what the log has given up (rule L7): a leader that keeps sending a snapshot, or never does; and servers whose own
 * snapshot is damaged, which have a log and no state.
 */
import type { Canary } from "./canaries.ts"

const damage = "test/domain/damage.test.ts"
const snapshots = "test/domain/snapshots.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "P2a",
    rule: "L7",
    bug: "a follower that has installed a snapshot is never replicated to again",
    file: "src/domain/Replication.ts",
    find: "if (progress.matchIndex >= state.log.prev.index) {",
    replace: "if (progress.matchIndex < 0) {",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "P2b",
    rule: "L7",
    bug: "no snapshot is sent to a follower whose entries are gone",
    file: "src/domain/Pipeline.ts",
    find: "if (progress.nextIndex <= state.log.prev.index) return sendSnapshot(state, peer, progress, turn)",
    replace: "if (progress.nextIndex <= state.log.prev.index) return state",
    caughtBy: "simulation",
    property: /^(?:Liveness|what is to be sent is in the log)/
  },
  {
    id: "P2d",
    rule: "L7",
    bug: "a leader marks a follower as receiving a snapshot and sends none",
    file: "src/domain/Pipeline.ts",
    find: `turn.commands.push({ _tag: "SendSnapshot", to: peer })`,
    replace: "void turn",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "P2e",
    rule: "L7",
    bug: "a follower that receives a snapshot hears no heartbeats",
    file: "src/domain/Pipeline.ts",
    find: "    if (progress !== undefined) {",
    replace: `    if (progress !== undefined && progress._tag !== "Snapshot") {`,
    caughtBy: "tests",
    tests: [snapshots],
    property: /and no entries meanwhile, only heartbeats/
  },
  {
    id: "P2f",
    rule: "L7",
    bug: "a follower that installed a snapshot too old for the log gets no other",
    file: "src/domain/Replication.ts",
    find: "return progress.matchIndex >= progress.snapshotIndex\n",
    replace: "return progress.matchIndex < 0\n",
    caughtBy: "tests",
    tests: [snapshots],
    property: /too old by the time it is installed: the next one follows/
  },
  {
    id: "P2g",
    rule: "L7",
    bug: "a snapshot too old for the log, whose acknowledgement was lost, is the last that its follower gets",
    file: "src/domain/Replication.ts",
    find: "    return isTooOld\n",
    replace: "    return isTooOld && progress.matchIndex < 0\n",
    caughtBy: "tests",
    tests: [snapshots],
    property: /too old, and its acknowledgement lost/
  },
  {
    id: "P2h",
    rule: "L7",
    bug: "a lost connection ends the sending of a snapshot",
    file: "src/domain/Replication.ts",
    find: `  // A snapshot is asked after piece by piece, whatever is lost of it.
  if (progress._tag === "Snapshot") return state\n`,
    replace: "",
    caughtBy: "tests",
    tests: [snapshots],
    property: /PeerLost changes nothing about that/
  },
  {
    id: "N1a",
    rule: "snapshot",
    bug: "a server that has lost its state commits what it cannot apply",
    file: "src/domain/Replication.ts",
    find: "if (hasLostState) return stored",
    replace: "",
    caughtBy: "simulation",
    property: /^(?:commitIndex never falls|Liveness|entries are applied in order)/
  },
  {
    id: "N1l",
    rule: "L7",
    bug: "a server that has lost its state acknowledges no entries, though its majority needs it",
    file: "src/domain/Replication.ts",
    find: "if (hasLostState && message.entries.length === 0) {",
    replace: "if (hasLostState) {",
    caughtBy: "tests",
    tests: [damage],
    property: /commits with it what gives the leader a snapshot for it/
  },
  {
    id: "N1b",
    rule: "snapshot",
    bug: "a server that has lost its state stands for election",
    file: "src/domain/Election.ts",
    find: "if (!mayStand(state) || needsSnapshot(state)) {",
    replace: "if (!mayStand(state)) {",
    caughtBy: "simulation",
    property: /./
  },
  {
    id: "N1c",
    rule: "L7",
    bug: "a server that has lost its state does not say so",
    file: "src/domain/Replication.ts",
    find: `  if (hasLostState && message.entries.length === 0) {
    Turn.send(turn, from, needsSnapshotAnswer(follower, message))`,
    replace: "  if (hasLostState && message.entries.length === 0) {",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "N1d",
    rule: "L7",
    bug: "a leader hears that a follower has lost its state, and sends nothing",
    file: "src/domain/Compaction.ts",
    find: `  turn.commands.push({ _tag: "SendSnapshot", to: from })
  return Pipeline`,
    replace: "  return Pipeline",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "N1e",
    rule: "L7",
    bug: "a leader whose snapshot ends before a follower's log begins sends it that one",
    file: "src/domain/Compaction.ts",
    find: "if (state.snapshot.last.index < Math.max(prevIndex, 1)) return",
    replace: "if (state.snapshot.last.index < 1) return",
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /gets one that the leader takes for it, where the leader's own does not reach so far/
  },
  {
    id: "N1f",
    rule: "L7",
    bug: "a leader whose snapshot ends before a follower's log begins takes no other for it",
    file: "src/domain/Compaction.ts",
    find: `return takeSnapshot(state, turn)
  if (isOnItsWay)`,
    replace: `return state
  if (isOnItsWay)`,
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /gets one that the leader takes for it/
  },
  {
    id: "N1g",
    rule: "snapshot",
    bug: "a server that has lost its state installs a snapshot that ends before its log begins",
    file: "src/domain/Compaction.ts",
    find: "needsSnapshot(follower) ? last.index < follower.log.prev.index :",
    replace: "needsSnapshot(follower) ? last.index < 0 :",
    caughtBy: "tests",
    tests: [damage],
    property: /discards an earlier one, which would leave a gap/
  },
  {
    id: "N1h",
    rule: "V4",
    bug: "a server that has lost its state denies its vote",
    file: "src/domain/Election.ts",
    find: "const voteGranted = repeated || (free",
    replace: "const voteGranted = repeated || (!needsSnapshot(state) && free",
    caughtBy: "simulation",
    property: /^term, log and the one vote decide a vote, and nothing else \(V3, V4\)/
  },
  {
    id: "N1i",
    rule: "R2",
    bug: "a server that has lost its state is not counted as heard: its answers confirm no read",
    file: "src/domain/Replication.ts",
    find: "ReadIndex.confirmReads(Pipeline.withProgress(state, from, progress), turn),\n      from",
    replace: "state,\n      from",
    caughtBy: "tests",
    tests: [damage],
    property: /hears it: it confirms reads, and keeps the leader in office/
  },
  {
    id: "N1j",
    rule: "snapshot",
    bug: "a server that has lost its state, and has nobody to get it from, starts all the same",
    file: "src/services/RaftNode.ts",
    find: "if (NodeState.peersOf(state).length === 0) {",
    replace: "if (state.term < 0) {",
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /says that it cannot start, where there is no other to get it from/
  },
  {
    id: "N1k",
    rule: "snapshot",
    bug: "a server that has lost its state answers stale reads from none",
    file: "src/services/Entrance.ts",
    find: "const index = Math.max(minIndex, state().log.prev.index)",
    replace: "const index = minIndex",
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /answers no stale read/
  },
  {
    id: "N2a",
    rule: "L7",
    bug: "what a server without its state acknowledges is taken for its recovery",
    file: "src/domain/Replication.ts",
    find: `if (progress._tag !== "Snapshot") return Pipeline.withProgress(state, from, progress)`,
    replace: `if (progress._tag !== "Snapshot") {
    return Pipeline.withProgress(state, from, { ...progress, needsState: false })
  }`,
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts", "test/domain/damage.test.ts"],
    property: /entries/
  },
  {
    id: "N2b",
    rule: "L7",
    bug: "a server without its state gets no entries, though there may be no other majority",
    file: "src/domain/Pipeline.ts",
    find: `progress.nextIndex > state.log.lastIndex || progress._tag === "Snapshot") return state`,
    replace:
      `progress.nextIndex > state.log.lastIndex || progress._tag === "Snapshot" || progress.needsState) return state`,
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts", "test/domain/damage.test.ts"],
    property: /entries/
  },
  {
    id: "N2c",
    rule: "L7",
    bug: "a piece of an absurd term keeps a server from receiving anything else",
    file: "src/services/SnapshotReceiver.ts",
    find: "      if (!isBelievable(parts.state(), request.term)) return\n",
    replace: "",
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /of a term that no cluster reaches/
  }
]
