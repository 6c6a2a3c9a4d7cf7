/**
 * Reads that others than the leader serve, and reads that rely on clocks (rules R1 to R3): answers that may be stale.
 */
import type { Canary } from "./canaries.ts"

const followerReads = "test/domain/followerreads.test.ts"
const leases = "test/domain/leases.test.ts"

const byRound = /^a read is confirmed by a majority that was asked after it came \(R2\)/
const byQuestion = /^a read is confirmed by an answer to a question sent after it came \(R2\)/
const byLease = /^a lease counts from when an acknowledged round was sent \(R3\)/

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "F1a",
    rule: "R2",
    bug: "a follower answers a read without asking its leader",
    file: "src/domain/FollowerReads.ts",
    find: "  const { askedReads } = state\n  const waiting =",
    replace: `  turn.commands.push({ _tag: "ServeRead", requestIds, index: state.commitIndex })
  if (turn !== undefined) return state
  const { askedReads } = state
  const waiting =`,
    caughtBy: "simulation",
    property: byRound
  },
  {
    id: "F1b",
    rule: "R2",
    bug: "a follower answers with what it has applied, whatever index the leader gave",
    file: "src/domain/FollowerReads.ts",
    find: "requestIds, index: message.readIndex }",
    replace: "requestIds, index: state.lastApplied }",
    caughtBy: "simulation",
    property: /^(?:Linearizability|Revisions rise)/
  },
  {
    id: "F1c",
    rule: "R2",
    bug: "a leader answers a follower's question without a round",
    file: "src/domain/FollowerReads.ts",
    find: "if (isLeader(state)) return ReadIndex.onAsk(state, { from, ask: message.ask }, turn)",
    replace: `if (isLeader(state)) {
    Turn.send(turn, from, {
      _tag: "RequestReadIndexResponse",
      term: state.term,
      ask: message.ask,
      readIndex: Math.max(state.commitIndex, state.role.termStartIndex)
    })
    return state
  }`,
    caughtBy: "simulation",
    property: byRound
  },
  {
    id: "F1d",
    rule: "R2",
    bug: "a follower's question joins the round under way",
    file: "src/domain/ReadIndex.ts",
    find: "  const waitingAsks = [...state.role.waitingAsks, ask]\n",
    replace: `  const last = state.role.pendingReads.at(-1)
  if (last !== undefined) {
    const pendingReads = [...state.role.pendingReads.slice(0, -1), { ...last, asks: [...last.asks, ask] }]
    return { ...state, role: { ...state.role, pendingReads } }
  }
  const waitingAsks = [...state.role.waitingAsks, ask]\n`,
    caughtBy: "simulation",
    property: byRound
  },
  {
    id: "F1f",
    rule: "R2",
    bug: "an answer to a question that this life has not put yet is accepted",
    file: "src/domain/FollowerReads.ts",
    find: "if (from !== leaderIdOf(state) || message.ask > askedReads.ask) return state",
    replace: "if (from !== leaderIdOf(state)) return state",
    caughtBy: "tests",
    tests: ["test/domain/followerreads.test.ts"],
    property: /earlier life/
  },
  {
    id: "F1g",
    rule: "R2",
    bug: "the questions of every life of a server have the same numbers",
    file: "src/domain/NodeState.ts",
    find: "askedReads: { ask: drawn.value * 2 ** 20,",
    replace: "askedReads: { ask: 0,",
    caughtBy: "simulation",
    property: byQuestion
  },
  {
    id: "F1h",
    rule: "R2",
    bug: "an answer serves reads that came after its question was sent",
    file: "src/domain/FollowerReads.ts",
    find: "const requestIds = answered.flatMap((asked) => asked.requestIds)\n  if",
    replace: "const requestIds = [...answered.flatMap((asked) => asked.requestIds), ...askedReads.waiting]\n  if",
    caughtBy: "simulation",
    property: byQuestion
  },
  {
    id: "F1i",
    rule: "R2",
    bug: "an answer serves the reads of later questions, too",
    file: "src/domain/FollowerReads.ts",
    find: "askedReads.asked.filter(({ ask: asked }) => asked <= message.ask)",
    replace: "askedReads.asked.slice()",
    caughtBy: "simulation",
    property: byQuestion
  },
  {
    id: "F1j",
    rule: "L7",
    bug: "a question whose answer was lost is never asked again",
    file: "src/domain/FollowerReads.ts",
    find: "return isOverdue ? ask(state, leaderId, turn) : state",
    replace: "return state",
    caughtBy: "tests",
    tests: [followerReads],
    property: /whose question or answer was lost is asked again by the third heartbeat/
  },
  {
    id: "F1k",
    rule: "L7",
    bug: "readers wait for a leader that is heard and never answers",
    file: "src/domain/FollowerReads.ts",
    find: "if (isInVain) return refuseAll(state, turn)",
    replace: "void isInVain",
    caughtBy: "tests",
    tests: [followerReads],
    property: /is refused where the leader is heard and never answers/
  },
  {
    id: "F1l",
    rule: "R2",
    bug: "a leader that steps down answers the questions that it could not confirm",
    file: "src/domain/ReadIndex.ts",
    find: "term: state.term, ask, readIndex: undefined })",
    replace: "term: state.term, ask, readIndex: state.commitIndex })",
    caughtBy: "simulation",
    property: byRound
  },
  {
    id: "F1m",
    rule: "L7",
    bug: "reads that were put to a deposed leader wait for it",
    file: "src/domain/FollowerReads.ts",
    find:
      "return before.term === after.term && leaderIdOf(before) === leaderIdOf(after) ? after : refuseAll(after, turn)",
    replace: "return after",
    caughtBy: "tests",
    tests: [followerReads],
    property: /is refused once another server leads/
  },
  {
    id: "F1n",
    rule: "L7",
    bug: "reads that came while a question was under way are never asked for",
    file: "src/domain/FollowerReads.ts",
    find: "return asked.length === 0 && askedReads.waiting.length > 0 ? ask(next, from, turn) : next",
    replace: "return next",
    caughtBy: "tests",
    tests: [followerReads],
    property: /that came while a question was under way waits for the next/
  },
  {
    id: "R3a",
    rule: "R3",
    bug: "a lease counts from when the round was answered",
    file: "src/domain/ReadIndex.ts",
    find: "const leased = extendLease(state, confirmed)",
    replace: `const answered = sentRounds.map((sent) => ({ ...sent, sentMs: turn.nowMs }))
  const leased = extendLease({ ...state, role: { ...state.role, sentRounds: answered } }, confirmed)`,
    caughtBy: "simulation",
    property: byLease
  },
  {
    id: "R3b",
    rule: "R3",
    bug: "a lease lasts for the longest election timeout",
    file: "src/domain/ReadIndex.ts",
    find: "acknowledged.sentMs + electionTimeoutMsMin * (",
    replace: "acknowledged.sentMs + state.settings.electionTimeoutMsMax * (",
    caughtBy: "simulation",
    property: byLease
  },
  {
    id: "R3c",
    rule: "R3",
    bug: "a lease is not shorter by what clocks may differ",
    file: "src/domain/ReadIndex.ts",
    find: "electionTimeoutMsMin * (1 - clockDriftPercentMax / 100)",
    replace: "electionTimeoutMsMin",
    caughtBy: "simulation",
    property: byLease
  },
  {
    id: "R3d",
    rule: "R3",
    bug: "a leadership begins with the lease that an earlier one of this server has left",
    file: "src/domain/Step.ts",
    find: "const state = FollowerReads.refuseOutdated(before, dispatch(before, event, turn), turn)",
    replace: `const next = FollowerReads.refuseOutdated(before, dispatch(before, event, turn), turn)
  const carried = isLeader(before) ? before.role.readLeaseUntilMs : before.carried ?? -Infinity
  const isCarried = isLeader(next) && carried > next.role.readLeaseUntilMs
  const state = { ...next, carried, role: isCarried ? { ...next.role, readLeaseUntilMs: carried } : next.role }`,
    caughtBy: "tests",
    tests: ["test/domain/leases.test.ts"],
    property: /void after a step-down/
  },
  {
    id: "R3e",
    rule: "R3",
    bug: "a follower answers by the promise that it gave its leader, as if that were a lease",
    file: "src/domain/ReadIndex.ts",
    find: "if (!isLeader(state) || turn.nowMs >= state.role.readLeaseUntilMs) return onRead(state, requestIds, turn)",
    replace: `if (!isLeader(state) && turn.nowMs < state.leaseUntilMs) {
    turn.commands.push({ _tag: "ServeRead", requestIds, index: state.commitIndex })
    return state
  }
  if (!isLeader(state) || turn.nowMs >= state.role.readLeaseUntilMs) return onRead(state, requestIds, turn)`,
    caughtBy: "simulation",
    property: byLease
  },
  {
    id: "R3f",
    rule: "R3",
    bug: "one follower's answer gives a lease, however many voters there are",
    file: "src/domain/ReadIndex.ts",
    find: "const leased = extendLease(state, confirmed)",
    replace: `const acked = [...progress].map(([id, { ackedRound }]) => id === state.id ? 0 : ackedRound)
  const leased = extendLease(state, Math.max(confirmed, ...acked))`,
    caughtBy: "simulation",
    property: byLease
  },
  {
    id: "R3g",
    rule: "R3",
    bug: "a lease never runs out",
    file: "src/domain/ReadIndex.ts",
    find: "turn.nowMs >= state.role.readLeaseUntilMs) return",
    replace: "state.role.readLeaseUntilMs < 0) return",
    caughtBy: "simulation",
    property: byLease
  },
  {
    id: "R3h",
    rule: "R3",
    bug: "a new leader takes its election for a round: it starts with a lease",
    file: "src/domain/RoleChange.ts",
    find: "readLeaseUntilMs: -Infinity",
    replace:
      "readLeaseUntilMs: state.settings.leaseReads ? turn.nowMs + state.settings.electionTimeoutMsMin : -Infinity",
    caughtBy: "simulation",
    property: byLease
  },
  {
    id: "R3i",
    rule: "R3",
    bug: "leases are extended though they are off",
    file: "src/domain/ReadIndex.ts",
    find: "const sentRounds = leaseReads\n",
    replace: "const sentRounds = turn.nowMs >= 0\n",
    caughtBy: "simulation",
    property: /^leases are off by default \(R3\)/
  },
  {
    id: "R3j",
    rule: "R3",
    bug: "leases are on by default",
    file: "src/domain/Settings.ts",
    find: "leaseReads: false",
    replace: "leaseReads: true",
    caughtBy: "tests",
    tests: [leases],
    property: /is off unless switched on/
  },
  {
    id: "R3k",
    rule: "R3",
    bug: "leases may be on where voters promise nothing",
    file: "src/domain/Settings.ts",
    find: "if (s.leaseReads && !s.leaderStickiness) {",
    replace: "if (s.leaseReads && s.electionTimeoutMsMin < 0) {",
    caughtBy: "tests",
    tests: ["test/domain/settings.test.ts"],
    property: /leader ?[sS]tickiness|lease/
  },
  {
    id: "R3l",
    rule: "R3",
    bug: "a voter's promise ends with the leader's term, when it learns a later one from somebody else",
    file: "src/domain/Election.ts",
    find: "leaderIdOf(state) === undefined && !isLoyal",
    replace: "leaderIdOf(state) === undefined",
    caughtBy: "simulation",
    property: /^term, log and the one vote decide a vote, and nothing else \(V3, V4\)/
  },
  {
    id: "R3m",
    rule: "R3",
    bug: "a voter that lost power before its first term was durable has forgotten its promise",
    file: "src/domain/NodeState.ts",
    find: "hardState.term === 0 && !settings.leaseReads ?",
    replace: "hardState.term === 0 ?",
    caughtBy: "tests",
    tests: [leases],
    property: /nor after a restart, whatever was durable of the term by then/
  },
  {
    id: "R3n",
    rule: "R1",
    bug: "a read by lease is answered at a commit index that may be old",
    file: "src/domain/ReadIndex.ts",
    find: "requestIds, index: readIndexOf(state) })",
    replace: "requestIds, index: state.commitIndex })",
    caughtBy: "tests",
    tests: [leases],
    property: /rule R1: before the own term's no-op is committed, a read by lease waits for it/
  },
  {
    id: "Q1a",
    rule: "reads",
    bug: "a stale answer names an older index than its state has",
    file: "src/services/Applier.ts",
    find: "yield* answerReads(parts, requestIds, last.index)",
    replace: "yield* answerReads(parts, requestIds, last.index - 1)",
    caughtBy: "simulation",
    property: /^a stale answer is of the index it names/
  },
  {
    id: "Q1b",
    rule: "reads",
    bug: "a stale answer names an index that its state has not reached",
    file: "src/services/Applier.ts",
    find: "yield* answerReads(parts, requestIds, last.index)",
    replace: "yield* answerReads(parts, requestIds, last.index + 1)",
    caughtBy: "tests",
    tests: ["test/services/snapshots.test.ts"],
    property: /is answered by any node at once, with what it has applied/
  },
  {
    id: "Q1c",
    rule: "reads",
    bug: "a stale read does not wait for the index that its caller has seen",
    file: "src/services/Entrance.ts",
    find: "const index = Math.max(minIndex, state().log.prev.index)",
    replace: "const index = state().log.prev.index",
    caughtBy: "simulation",
    property: /^a stale answer is as new as its reader asked/
  }
]
