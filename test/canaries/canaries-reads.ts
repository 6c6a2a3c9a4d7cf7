/**
 * Reads and what callers are told (rules R1, R2, R4): bugs that answer stale, or say of a command what is not so.
 */
import type { Canary } from "./canaries.ts"

const requests = "test/services/requests.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "R1a",
    rule: "R1",
    bug: "a new leader serves reads at a commit index that may be old",
    file: "src/domain/ReadIndex.ts",
    find: "Math.max(state.commitIndex, state.role.termStartIndex)",
    replace: "state.commitIndex",
    caughtBy: "simulation",
    property: /^reads see the own term's no-op \(R1\)/
  },
  {
    id: "R2a",
    rule: "R2",
    bug: "any answer confirms the latest round",
    file: "src/domain/Replication.ts",
    find: "Progress.heard(known, Math.min(message.round, state.role.round), turn.nowMs)",
    replace: "Progress.heard(known, state.role.round, turn.nowMs)",
    caughtBy: "simulation",
    property: /^a read is confirmed by a majority that was asked after it came \(R2\)/
  },
  {
    id: "R2b",
    rule: "R2",
    bug: "a read joins the round under way, and what it must see is not looked at again",
    file: "src/domain/ReadIndex.ts",
    find: "return startRoundIfIdle({ ...state, role: { ...state.role, waitingReads } }, turn)",
    replace: `const running = state.role.pendingReads
  if (running.length === 0) return startRound({ ...state, role: { ...state.role, waitingReads } }, turn)
  const joined = running.map((read, i) => i > 0 ? read : { ...read, requestIds: [...read.requestIds, ...requestIds] })
  return { ...state, role: { ...state.role, pendingReads: joined } }`,
    caughtBy: "simulation",
    property: /^a read is confirmed by a majority that was asked after it came \(R2\)/
  },
  {
    id: "R2c",
    rule: "R2",
    bug: "a read joins the round under way, at its own index: an acknowledgement sent before it came confirms it",
    file: "src/domain/ReadIndex.ts",
    find: "return startRoundIfIdle({ ...state, role: { ...state.role, waitingReads } }, turn)",
    replace: `const { pendingReads, round } = state.role
  if (pendingReads.length === 0) return startRound({ ...state, role: { ...state.role, waitingReads } }, turn)
  const read = { requestIds, asks: [], round, readIndex: readIndexOf(state) }
  return { ...state, role: { ...state.role, pendingReads: [...pendingReads, read] } }`,
    caughtBy: "simulation",
    property: /^a read is confirmed by a majority that was asked after it came \(R2\)/
  },
  {
    id: "R2d",
    rule: "R2",
    bug: "the answer to an old leader's message echoes its round, so that it confirms that of a later leadership",
    file: "src/domain/Step.ts",
    find: `round: 0, result: { _tag: "Stale" } })`,
    replace: `round: message.round,
        result: { _tag: "Rejected", prevIndex: message.prev.index, conflict: { term: undefined, index: message.prev.index } } })`,
    caughtBy: "tests",
    tests: ["test/domain/reads.test.ts"],
    property: /an answer to a leader of an older term echoes none of its rounds/
  },
  {
    id: "R2e",
    rule: "R2",
    bug: "an answer from an earlier leadership confirms a round of this one",
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
      if (!isLeader(state) || message.result._tag === "Stale") return state
      return Replication.onAppendEntriesResponse(
        state, from, { ...message, result: { _tag: "Matched", matchIndex: 0 } }, turn)\n`,
    caughtBy: "simulation",
    property: /^(?:a leader gives up|a read is confirmed)/
  },
  {
    id: "R2f",
    rule: "R2",
    bug: "a leader serves reads without asking anybody",
    file: "src/domain/ReadIndex.ts",
    find: "return startRoundIfIdle({ ...state, role: { ...state.role, waitingReads } }, turn)",
    replace: `turn.commands.push({ _tag: "ServeRead", requestIds, index: readIndexOf(state) })
  return state`,
    caughtBy: "simulation",
    property: /^(?:a read is confirmed by a majority that was asked after it came|a lease counts from when)/
  },
  {
    id: "R2g",
    rule: "R2",
    bug: "one follower's answer confirms, however many voters there are",
    file: "src/domain/ReadIndex.ts",
    find: `const confirmed = Quorum.reachedByQuorum(
    state.configuration.latest,
    (id) => id === state.id ? round : progress.get(id)?.ackedRound ?? 0
  )`,
    replace: `const followers = state.configuration.latest.voters.filter((id) => id !== state.id)
  const confirmed = followers.length === 0
    ? round
    : Math.max(...followers.map((id) => progress.get(id)?.ackedRound ?? 0))`,
    caughtBy: "simulation",
    property: /^a read is confirmed by a majority that was asked after it came \(R2\)/
  },
  {
    id: "R2h",
    rule: "R2",
    bug: "a leader that steps down serves the reads it could not confirm",
    file: "src/domain/ReadIndex.ts",
    find: `turn.commands.push({ _tag: "Refuse", requestIds, refusal: { _tag: "NotLeader", leaderId } })
  }`,
    replace: `turn.commands.push({ _tag: "ServeRead", requestIds, index: state.commitIndex })
  }`,
    caughtBy: "simulation",
    property: /^a read is confirmed by a majority that was asked after it came \(R2\)/
  },
  {
    id: "R4a",
    rule: "R4",
    bug: "a command whose fate is unknown is reported as not applied",
    file: "src/services/Requests.ts",
    find: "waiting.resume(Exit.fail(new OutcomeUnknown()))",
    replace: "waiting.resume(Exit.fail(notLeader(undefined)))",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise)/
  },
  {
    id: "R4b",
    rule: "R4",
    bug: "a command that was certainly not applied is reported as unknown",
    file: "src/services/Requests.ts",
    find: "return notLeader(refusal.leaderId)",
    replace: "return new OutcomeUnknown()",
    caughtBy: "tests",
    tests: [requests],
    property: /to a follower is not applied, and is told the leader/
  },
  {
    id: "R4c",
    rule: "R4",
    bug: "a command that was cut from this log is reported as not applied, though another server may hold it",
    file: "src/services/Requests.ts",
    find: "if (replaced !== undefined) this.#expireOne(replaced)",
    replace: `if (replaced !== undefined) this.refuse([replaced], { _tag: "NotLeader", leaderId: undefined })`,
    caughtBy: "tests",
    tests: [requests],
    property: /a command that was cut from this log/
  },
  {
    id: "R4d",
    rule: "R4",
    bug: "a node that stops says of accepted commands that they were not applied",
    file: "src/services/Requests.ts",
    find: `waiting._tag === "Change" || waiting._tag === "Read" || waiting.entry !== undefined`,
    replace: `waiting._tag === "Change" || waiting._tag === "Read"`,
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise)/
  },
  {
    id: "R4e",
    rule: "R4",
    bug: "a caller whose entry gave way to another one's is told that it was applied",
    file: "src/services/Requests.ts",
    find: "if (waiting.entry?.term !== entry.term || result === undefined) waiting",
    replace: "if (result === undefined) waiting",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise|a retry gets the first answer)/
  },
  {
    id: "R4f",
    rule: "R4",
    bug: "a client without a session sends a write again whose answer was lost",
    file: "src/services/ClientSession.ts",
    find: `      case "Cut":
        return settled(new OutcomeUnknown())`,
    replace: `      case "Cut":
        return "again"`,
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise)/
  }
]
