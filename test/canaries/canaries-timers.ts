/**
 * Stability (rules V8 to V11): bugs that topple leaders who do their work, keep those in office who do not, or let an election drag on.
 */
import type { Canary } from "./canaries.ts"

const prevote = "test/domain/prevote.test.ts"
const settings = { caughtBy: "tests", tests: [prevote], property: /all three are on unless switched off/ } as const

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "V8a",
    rule: "V8",
    bug: "pre-vote is off by default",
    file: "src/domain/Settings.ts",
    find: "preVote: true",
    replace: "preVote: false",
    ...settings
  },
  {
    id: "V8b",
    rule: "V8",
    bug: "check-quorum is off by default",
    file: "src/domain/Settings.ts",
    find: "checkQuorum: true",
    replace: "checkQuorum: false",
    ...settings
  },
  {
    id: "V8c",
    rule: "V8",
    bug: "leader stickiness is off by default",
    file: "src/domain/Settings.ts",
    find: "leaderStickiness: true",
    replace: "leaderStickiness: false",
    ...settings
  },
  {
    id: "V8d",
    rule: "V8",
    bug: "a request for a vote topples a leader that is heard",
    file: "src/domain/Step.ts",
    find: "if (isUnwanted && Election.believesInLeader(state, turn.nowMs)) return state",
    replace: "",
    caughtBy: "simulation",
    property: /^who hears a leader helps nobody to replace it \(V8\)/
  },
  {
    id: "V8e",
    rule: "V8",
    bug: "a pre-vote is granted although the leader is heard",
    file: "src/domain/Election.ts",
    find: "    && !believesInLeader(state, turn.nowMs)\n",
    replace: "",
    caughtBy: "simulation",
    property: /^term, log and loyalty decide a pre-vote, and nothing else \(V4, V5, V8\)/
  },
  {
    id: "V8f",
    rule: "V8",
    bug: "a server that restarts has forgotten its loyalty",
    file: "src/domain/NodeState.ts",
    find: "? nowMs : nowMs + settings.electionTimeoutMsMin",
    replace: "? nowMs : nowMs",
    caughtBy: "simulation",
    property: /^term, log and loyalty decide a pre-vote, and nothing else \(V4, V5, V8\)/
  },
  {
    id: "V8g",
    rule: "V8",
    bug: "a leader gives way to whoever asks, since it hears no leader",
    file: "src/domain/Election.ts",
    find: "(isLeader(state) || nowMs < state.leaseUntilMs)",
    replace: "nowMs < state.leaseUntilMs",
    caughtBy: "simulation",
    property: /^term, log and loyalty decide a pre-vote, and nothing else \(V4, V5, V8\)/
  },
  {
    id: "V9a",
    rule: "V9",
    bug: "a leader that hears nobody stays in office",
    file: "src/domain/Replication.ts",
    find: "      return becomeFollower(state, undefined, turn)\n",
    replace: "      void 0\n",
    caughtBy: "simulation",
    property: /^a leader gives up once it has heard no majority for an election timeout, and not before \(V9\)/
  },
  {
    id: "V9b",
    rule: "V9",
    bug: "a leader that steps down for want of a majority raises its term",
    file: "src/domain/Replication.ts",
    find: "return becomeFollower(state, undefined, turn)\n",
    replace: "return { ...becomeFollower(state, undefined, turn), term: state.term + 1, votedFor: undefined }\n",
    caughtBy: "simulation",
    property: /^a leader that gives up stays in its term \(V9\)/
  },
  {
    id: "V9c",
    rule: "V9",
    bug: "one follower of many keeps a leader in office",
    file: "src/domain/Replication.ts",
    find: `  Quorum.reachedByQuorum(
    state.configuration.latest,
    (id) => id === state.id ? nowMs : `,
    replace: `  ((_: unknown, valueOf: (id: string) => number) =>
    Math.max(...state.configuration.latest.voters.filter((id) => id !== state.id).map(valueOf)))(
    state.configuration.latest,
    (id) => id === state.id ? nowMs : `,
    caughtBy: "simulation",
    property: /^a leader gives up once it has heard no majority for an election timeout, and not before \(V9\)/
  },
  {
    id: "V9d",
    rule: "V9",
    bug: "a heartbeat that is sent counts as contact",
    file: "src/domain/Replication.ts",
    find: "Pipeline.sendHeartbeats(next, turn)\n  return next",
    replace: `Pipeline.sendHeartbeats(next, turn)
  const progress = [...next.role.progress].map(([id, known]) => [id, { ...known, lastContactMs: turn.nowMs }] as const)
  return { ...next, role: { ...next.role, progress: new Map(progress) } }`,
    caughtBy: "simulation",
    property: /^a leader gives up once it has heard no majority for an election timeout, and not before \(V9\)/
  },
  {
    id: "V10a",
    rule: "V10",
    bug: "an old leader's AppendEntries puts the election off",
    file: "src/domain/Step.ts",
    find: `result: { _tag: "Stale" } })\n      return state`,
    replace: `result: { _tag: "Stale" } })
      return isLeader(state) ? state : { ...state, deadlineMs: turn.nowMs + state.settings.electionTimeoutMsMax }`,
    caughtBy: "simulation",
    property: /^only what V10 names puts an election off \(V10\)/
  },
  {
    id: "V10b",
    rule: "V10",
    bug: "a vote that is denied puts the election off",
    file: "src/domain/Election.ts",
    find: "Turn.send(turn, from, response)\n    return state",
    replace: "Turn.send(turn, from, response)\n    return withElectionDeadline(state, turn.nowMs)",
    caughtBy: "simulation",
    property: /^only what V10 names puts an election off \(V10\)/
  },
  {
    id: "V10c",
    rule: "V10",
    bug: "any message puts the election off",
    file: "src/domain/Step.ts",
    find: "return onReceived(state, event.from, event.message, turn)",
    replace: `return isLeader(state)
        ? onReceived(state, event.from, event.message, turn)
        : onReceived(
          { ...state, deadlineMs: turn.nowMs + state.settings.electionTimeoutMsMin }, event.from, event.message, turn)`,
    caughtBy: "simulation",
    property: /^a pre-vote changes nothing at the voter \(V5\)/
  },
  {
    id: "V10d",
    rule: "V10",
    bug: "the election timeout is drawn once and for all",
    file: "src/domain/NodeState.ts",
    find: "random: drawn.state }",
    replace: "random: state.random }",
    caughtBy: "simulation",
    property: /^every election timeout is drawn anew \(V10\)/
  },
  {
    id: "V10e",
    rule: "V10",
    bug: "the election timeout is the same on every server",
    file: "src/domain/NodeState.ts",
    find: "deadlineMs: nowMs + drawn.value",
    replace: "deadlineMs: nowMs + state.settings.electionTimeoutMsMin",
    caughtBy: "simulation",
    property: /^every election timeout is drawn anew \(V10\)/
  },
  {
    id: "V10f",
    rule: "V10",
    bug: "a vote that is asked for again puts the election off again",
    file: "src/domain/Election.ts",
    find: "if (repeated) return state\n",
    replace: "\n",
    caughtBy: "simulation",
    property: /^only what V10 names puts an election off \(V10\)/
  },
  {
    id: "V10g",
    rule: "V10",
    bug: "a follower that hears its leader stands for election all the same",
    file: "src/domain/RoleChange.ts",
    find: `  withElectionDeadline({
    ...becomeFollower(state, leaderId, turn),`,
    replace: `  ((next: NodeState, _: number): NodeState => next)({
    ...becomeFollower(state, leaderId, turn),`,
    caughtBy: "simulation",
    property: /^a leader that is heard puts the election off \(V10\)/
  },
  {
    id: "V11a",
    rule: "V11",
    bug: "the log's end is read from the chunk that other views share",
    file: "src/domain/Log.ts",
    find: `export const lastId = (log: Log): EntryId => ({
  term: log.terms[log.terms.length - 1]?.term ?? log.prev.term,
  index: log.lastIndex
})`,
    replace: `export const lastId = (log: Log): EntryId => {
  const last = log.chunks[log.chunks.length - 1]?.at(-1) ?? log.prev
  return { term: last.term, index: last.index }
}`,
    caughtBy: "tests",
    tests: ["test/domain/votes.test.ts"],
    property: /a request is judged by the log of the state it meets/
  },
  {
    id: "V11b",
    rule: "V11",
    bug: "an older view of the log appends onto a chunk that a newer one holds",
    file: "src/domain/Log.ts",
    find: "if (chunk === undefined || chunk.length > at) {",
    replace: "if (chunk === undefined) {",
    caughtBy: "simulation",
    property: /^(?:State Machine Safety|Log Matching|indices are positions|a snapshot has the sessions)/
  }
]
