/**
 * Durable copies, the progress of followers, and bounds (rules L6 to L10).
 */
import type { Canary } from "./canaries.ts"

const commit = "test/domain/commit.test.ts"
const repair = "test/domain/repair.test.ts"
const pipeline = "test/domain/pipeline.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "L6a",
    rule: "L6",
    bug: "a follower's match leaves before its entries are on disk",
    file: "src/domain/Replication.ts",
    find: "Turn.promise(turn, from, matched(state, message, matchIndex))",
    replace: "Turn.send(turn, from, matched(state, message, matchIndex))",
    caughtBy: "simulation",
    property: /^AppendEntriesResponse waits for the disk \(L6, V1\)/
  },
  {
    id: "L6b",
    rule: "L6",
    bug: "a leader counts its own copy before it is on disk",
    file: "src/domain/Replication.ts",
    find: "(id) => state.role.progress.get(id)?.matchIndex ?? 0",
    replace: "(id) => id === state.id ? state.log.lastIndex : state.role.progress.get(id)?.matchIndex ?? 0",
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "L6c",
    rule: "L6",
    bug: "committed entries are applied before they are on this node's disk",
    file: "src/services/Interpreter.ts",
    find: "return persister.submit(emptyWrite, [command])",
    replace: `return command._tag === "Apply"
        ? Effect.sync(() => parts.applier.apply(command.to))
        : persister.submit(emptyWrite, [command])`,
    caughtBy: "simulation",
    property: /^Durability \(rule L6\)/
  },
  {
    id: "L6d",
    rule: "L6",
    bug: "a write that ends late counts for the entry that replaced the one it wrote (ABA)",
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
      return isLeader(state) && from === state.id
        ? Replication.onAppendEntriesResponse(state, from, message, turn)
        : state\n`,
    caughtBy: "tests",
    tests: [commit],
    property: /a late completion from an older leadership proves nothing/
  },
  {
    id: "L6e",
    rule: "L6",
    bug: "entries that come twice are acknowledged while the first write is under way",
    file: "src/domain/Replication.ts",
    find: "Turn.promise(turn, from, matched(state, message, matchIndex))",
    replace: `const leave = turn.appended.length === 0 ? Turn.send : Turn.promise
  leave(turn, from, matched(state, message, matchIndex))`,
    caughtBy: "simulation",
    property: /^AppendEntriesResponse waits for the disk/
  },
  {
    id: "L6f",
    rule: "L6",
    bug: "a heartbeat is answered with what is not on disk yet",
    file: "src/domain/Replication.ts",
    find: "Turn.send(turn, from, matched(state, message, state.lastApplied))",
    replace: "Turn.send(turn, from, matched(state, message, matchIndex))",
    caughtBy: "simulation",
    property: /^AppendEntriesResponse waits for the disk \(L6, V1\)/
  },
  {
    id: "L6g",
    rule: "L6",
    bug: "what is committed is taken for durable here",
    file: "src/domain/Replication.ts",
    find: "if (matchIndex <= state.lastApplied) {",
    replace: "if (matchIndex <= state.commitIndex) {",
    caughtBy: "simulation",
    property: /^AppendEntriesResponse waits for the disk \(L6, V1\)/
  },
  {
    id: "L6h",
    rule: "L6",
    bug: "the log that a restart finds is taken for applied, hence for committed",
    file: "src/domain/NodeState.ts",
    find: "    commitIndex: Math.max(snapshot.last.index, prev.index),\n    lastApplied: snapshot.last.index,",
    replace: "    commitIndex: log.lastIndex,\n    lastApplied: log.lastIndex,",
    caughtBy: "simulation",
    property: /^(?:State Machine Safety|Leader Completeness|the log's time goes on)/
  },
  {
    id: "L7a",
    rule: "L7",
    bug: "a follower that replicates is never asked again for what it misses",
    file: "src/domain/Replication.ts",
    find: "prevIndex !== progress.nextIndex - 1 : prevIndex >= progress.nextIndex)",
    replace: "prevIndex !== progress.nextIndex - 1 : true)",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "L7b",
    rule: "L7",
    bug: "a heartbeat follows what is matched, so that it finds no loss",
    file: "src/domain/Pipeline.ts",
    find: "sendAppendEntries(state, peer, Math.max(progress.nextIndex, Log.firstIndex(state.log)), [], turn)",
    replace: "sendAppendEntries(state, peer, Math.max(progress.matchIndex + 1, Log.firstIndex(state.log)), [], turn)",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "L7c",
    rule: "L7",
    bug: "a connection that broke changes nothing",
    file: "src/domain/Step.ts",
    find: "return isLeader(state) ? Replication.onPeerLost(state, event.peer) : state",
    replace: "return state",
    caughtBy: "tests",
    tests: [repair],
    property: /after PeerLost one message at a time goes out/
  },
  {
    id: "L7d",
    rule: "L7",
    bug: "a probe that was lost is waited for, whatever heartbeats are answered",
    file: "src/domain/Progress.ts",
    find: "return match >= progress.nextIndex - 1 ? becomeReplicate(known) : known",
    replace: "return match >= progress.nextIndex ? becomeReplicate(known) : known",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "L7e",
    rule: "L7",
    bug: "a probe that was rejected is waited for",
    file: "src/domain/Progress.ts",
    find: `  needsState: progress.needsState,
  awaitingResponse: false`,
    replace: `  needsState: progress.needsState,
  awaitingResponse: progress._tag === "Probe" && progress.awaitingResponse`,
    caughtBy: "tests",
    tests: [repair],
    property: /§5.3: at most one rejection per conflicting term/
  },
  {
    id: "L7f",
    rule: "L7",
    bug: "an answer frees the place of its own message only, not of those before it",
    file: "src/domain/Progress.ts",
    find: "progress.inflight.filter((message) => message.lastIndex > match)",
    replace: "progress.inflight.filter((message) => message.lastIndex !== match)",
    caughtBy: "simulation",
    property: /^nothing acknowledged is in flight/
  },
  {
    id: "L7g",
    rule: "L7",
    bug: "an answer lets nothing further out: a follower far behind waits for the next proposal",
    file: "src/domain/Replication.ts",
    find: "const replicated = from === state.id ? confirmed : Pipeline.replicateTo(confirmed, from, turn)",
    replace: "const replicated = confirmed",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "L8a",
    rule: "L8",
    bug: "a leader goes back one entry for each rejection",
    file: "src/domain/Replication.ts",
    find: "const nextIndex = nextIndexAfter(state.log, conflict, prevIndex)",
    replace: "const nextIndex = prevIndex",
    caughtBy: "simulation",
    property: /^a rejection rules out a whole term \(L8\)/
  },
  {
    id: "L8b",
    rule: "L8",
    bug: "a follower whose log ends early does not say where",
    file: "src/domain/Replication.ts",
    find: "{ term, index: state.log.lastIndex + 1 }",
    replace: "{ term, index: message.prev.index }",
    caughtBy: "simulation",
    property: /^a rejection rules out a whole term \(L8\)/
  },
  {
    id: "L8c",
    rule: "L8",
    bug: "a follower does not say where its conflicting term begins",
    file: "src/domain/Replication.ts",
    find: "Log.firstIndexOfTermAt(state.log, message.prev.index)",
    replace: "message.prev.index",
    caughtBy: "tests",
    tests: [repair],
    property: /rule L8/
  },
  {
    id: "L10a",
    rule: "L10",
    bug: "uncommitted bytes have no bound",
    file: "src/domain/Proposing.ts",
    find: "if (bytes > 0 && bytes + size > state.settings.uncommittedBytesMax) break",
    replace: "",
    caughtBy: "simulation",
    property: /^uncommitted bytes are bounded \(L10\)/
  },
  {
    id: "L10b",
    rule: "L10",
    bug: "the bound keeps a new leader from its no-op",
    file: "src/domain/RoleChange.ts",
    find: "return Pipeline.appendAndReplicate(leader, [start], turn)",
    replace: `return (lastIndex - state.commitIndex) * 24 >= state.settings.uncommittedBytesMax
    ? leader
    : Pipeline.appendAndReplicate(leader, [start], turn)`,
    caughtBy: "simulation",
    property: /^a leader's log ends in its own term \(V10 no-op\)/
  },
  {
    id: "L10c",
    rule: "L10",
    bug: "committed bytes are not given back",
    file: "src/domain/Replication.ts",
    find: "state.role.uncommittedBytes - committedBytes",
    replace: "state.role.uncommittedBytes",
    caughtBy: "simulation",
    property: /^uncommittedBytes adds up \(L10\)/
  },
  {
    id: "L10d",
    rule: "L10",
    bug: "a proposal larger than the bound is refused for ever",
    file: "src/domain/Proposing.ts",
    find: "if (bytes > 0 && bytes + size",
    replace: "if (bytes + size",
    caughtBy: "tests",
    tests: [pipeline],
    property: /an idle leader takes one proposal of any size/
  },
  {
    id: "L10e",
    rule: "L10",
    bug: "bytes that a leader inherited are given back though never counted",
    file: "src/domain/Replication.ts",
    find: "{ from: Math.max(state.commitIndex + 1, state.role.termStartIndex), to: index }",
    replace: "{ from: state.commitIndex + 1, to: index }",
    caughtBy: "simulation",
    property: /^uncommittedBytes adds up \(L10\)/
  }
]
