/**
 * Votes and terms (rules V1 to V7): bugs that elect two leaders of a term, a stale one, or none.
 */
import type { Canary } from "./canaries.ts"

const votes = "test/domain/votes.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "V1a",
    rule: "V1",
    bug: "a granted vote leaves before it is on disk",
    file: "src/domain/Election.ts",
    find: "Turn.promise(turn, from, response)",
    replace: "Turn.send(turn, from, response)",
    caughtBy: "simulation",
    property: /^RequestVoteResponse waits for the disk \(L6, V1\)/
  },
  {
    id: "V1b",
    rule: "V1",
    bug: "a candidate asks for votes before its own is on disk",
    file: "src/domain/Election.ts",
    find: `Turn.promise(turn, peer, { _tag: "RequestVote"`,
    replace: `Turn.send(turn, peer, { _tag: "RequestVote"`,
    caughtBy: "simulation",
    property: /^RequestVote waits for the disk \(L6, V1\)/
  },
  {
    id: "V1c",
    rule: "V1",
    bug: "a vote in a term that is on disk already is not written",
    file: "src/domain/Step.ts",
    find: "const votes = before.term === after.term && before.votedFor === after.votedFor",
    replace: "const votes = before.term === after.term",
    caughtBy: "simulation",
    property: /^a changed term or vote is written \(V1\)/
  },
  {
    id: "V1d",
    rule: "V1",
    bug: "a server that restarts has forgotten its vote",
    file: "src/domain/NodeState.ts",
    find: "votedFor: hardState.votedFor,",
    replace: "votedFor: undefined,",
    caughtBy: "simulation",
    property: /^(?:a node starts with what its disk holds|one vote a term)/
  },
  {
    id: "V1e",
    rule: "V1",
    bug: "a merged write has the vote only where its last part has one",
    file: "src/domain/Command.ts",
    find: "writes.findLast((write) => write.hardState !== undefined)?.hardState",
    replace: "writes[writes.length - 1]?.hardState",
    caughtBy: "simulation",
    property: /^(?:a (?:vote|term|match) is durable|no entry is of a later term)/
  },
  {
    id: "V1f",
    rule: "V1",
    bug: "a merged write keeps the oldest vote",
    file: "src/domain/Command.ts",
    find: "writes.findLast(",
    replace: "writes.find(",
    caughtBy: "simulation",
    property: /^(?:a (?:vote|term|match) is durable|no entry is of a later term)/
  },
  {
    id: "V1g",
    rule: "V1",
    bug: "a repeated grant overtakes the write that still holds the vote",
    file: "src/domain/Election.ts",
    find: "Turn.promise(turn, from, response)",
    replace: "(repeated ? Turn.send : Turn.promise)(turn, from, response)",
    caughtBy: "simulation",
    property: /^RequestVoteResponse waits for the disk \(L6, V1\)/
  },
  {
    id: "V1h",
    rule: "V1",
    bug: "a failed write is passed over, and what waited for it leaves",
    file: "src/services/Persister.ts",
    find: "yield* storage.persist(write)",
    replace: "yield* Effect.ignore(storage.persist(write))",
    caughtBy: "simulation",
    property: /^a (?:vote|term|match) is durable/
  },
  {
    id: "V2a",
    rule: "V2",
    bug: "a candidate that steps down in its term drops its vote",
    file: "src/domain/RoleChange.ts",
    find: `if (!isLeader(state)) return { ...state, role: { _tag: "Follower", leaderId } }`,
    replace: `if (!isLeader(state)) return { ...state, votedFor: undefined, role: { _tag: "Follower", leaderId } }`,
    caughtBy: "simulation",
    property: /^the vote is cleared only when the term grows \(V2\)/
  },
  {
    id: "V2b",
    rule: "V2",
    bug: "a leader that steps down in its term drops its vote",
    file: "src/domain/RoleChange.ts",
    find: `return withElectionDeadline({ ...state, role: { _tag: "Follower", leaderId } }, turn.nowMs)`,
    replace:
      `return withElectionDeadline({ ...state, votedFor: undefined, role: { _tag: "Follower", leaderId } }, turn.nowMs)`,
    caughtBy: "simulation",
    property: /^the vote is cleared only when the term grows \(V2\)/
  },
  {
    id: "V2c",
    rule: "V2",
    bug: "the vote of an older term counts in a newer one",
    file: "src/domain/RoleChange.ts",
    find: "term,\n  votedFor: undefined\n",
    replace: "term\n",
    caughtBy: "simulation",
    property: /^term, log and the one vote decide a vote, and nothing else \(V3, V4\)/
  },
  {
    id: "V2d",
    rule: "V2",
    bug: "a voter gives its vote to a second candidate of the term",
    file: "src/domain/Election.ts",
    find: "const free = state.votedFor === undefined && leaderIdOf(state) === undefined",
    replace: "const free = leaderIdOf(state) === undefined",
    caughtBy: "simulation",
    property: /^the vote is cleared only when the term grows \(V2\)/
  },
  {
    id: "V3a",
    rule: "V3",
    bug: "logs are compared by index first, then by term",
    file: "src/domain/Entry.ts",
    find: "candidate.term > voter.term || (candidate.term === voter.term && candidate.index >= voter.index)",
    replace: "candidate.index > voter.index || (candidate.index === voter.index && candidate.term >= voter.term)",
    caughtBy: "simulation",
    property: /^Leader Completeness/
  },
  {
    id: "V3b",
    rule: "V3",
    bug: "logs are compared by index alone",
    file: "src/domain/Entry.ts",
    find: "candidate.term > voter.term || (candidate.term === voter.term && candidate.index >= voter.index)",
    replace: "candidate.index >= voter.index",
    caughtBy: "simulation",
    property: /^Leader Completeness/
  },
  {
    id: "V3c",
    rule: "V3",
    bug: "logs are compared by last term alone",
    file: "src/domain/Entry.ts",
    find: "candidate.term === voter.term && candidate.index >= voter.index",
    replace: "candidate.term === voter.term",
    caughtBy: "simulation",
    property: /^Leader Completeness/
  },
  {
    id: "V3d",
    rule: "V3",
    bug: "an equal log is not up to date enough",
    file: "src/domain/Entry.ts",
    find: "candidate.index >= voter.index",
    replace: "candidate.index > voter.index",
    caughtBy: "simulation",
    property: /^Liveness/
  },
  {
    id: "V3e",
    rule: "V3",
    bug: "only the pre-vote compares logs, the vote does not",
    file: "src/domain/Election.ts",
    find: "repeated || (free && isUpToDate(message.last, Log.lastId(state.log)))",
    replace: "repeated || free",
    caughtBy: "simulation",
    property: /^term, log and the one vote decide a vote, and nothing else \(V3, V4\)/
  },
  {
    id: "V7a",
    rule: "V7",
    bug: "grants of the pre-vote count as votes",
    file: "src/domain/Step.ts",
    find: `    case "RequestPreVoteResponse":
      return Election.onRequestPreVoteResponse(state, from, message, turn)`,
    replace: `    case "RequestPreVoteResponse":
      return state.role._tag === "Candidate"
        ? Election.onRequestVoteResponse(state, from, message, turn)
        : Election.onRequestPreVoteResponse(state, from, message, turn)`,
    caughtBy: "simulation",
    property: /^an election is won with the votes of a majority \(V7\)/
  },
  {
    id: "V7b",
    rule: "V7",
    bug: "votes of an earlier term count",
    file: "src/domain/Step.ts",
    find: `    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
    case "AppendEntriesResponse":
    case "RequestReadIndexResponse":
    case "TimeoutNow":
      return state\n`,
    replace: `    case "RequestVoteResponse":
      return Election.onRequestVoteResponse(state, from, message, turn)
    case "RequestPreVoteResponse":
    case "AppendEntriesResponse":
    case "RequestReadIndexResponse":
    case "TimeoutNow":
      return state\n`,
    caughtBy: "simulation",
    property: /^an election is won with the votes of a majority \(V7\)/
  },
  {
    id: "V7c",
    rule: "V7",
    bug: "a vote that arrives twice counts for two voters",
    file: "src/domain/Election.ts",
    find: `  if (state.role._tag !== "Candidate") return state
  const votes = withVote(state.role.votes, from, message.voteGranted)`,
    replace: `  if (state.role._tag !== "Candidate") return state
  const counted = state.role.votes
  const voter = counted.has(from) ? state.configuration.latest.voters.find((id) => !counted.has(id)) : from
  const votes = new Map(counted).set(voter, message.voteGranted)`,
    caughtBy: "simulation",
    property: /^an election is won with the votes of a majority \(V7\)/
  },
  {
    id: "V7i",
    rule: "V7",
    bug: "a late denial, of a request of an older term, takes a granted vote back",
    file: "src/domain/Election.ts",
    find: "voteGranted || votes.get(from) === true",
    replace: "voteGranted",
    caughtBy: "tests",
    tests: [votes],
    property: /a late denial, of a request of an older term/
  },
  {
    id: "V7d",
    rule: "V7",
    bug: "votes of learners count",
    file: "src/domain/Quorum.ts",
    find:
      "export const tally = ({ outgoing, voters }: Configuration, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome => {",
    replace:
      `export const tally = ({ learners, outgoing, voters: only }: Configuration, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome => {
  const voters = [...only, ...learners]`,
    caughtBy: "tests",
    tests: [votes],
    property: /votes of a learner and of a stranger do not count|three votes of five win, and no two/
  },
  {
    id: "V7e",
    rule: "V7",
    bug: "less than half of the voters is a majority",
    file: "src/domain/Quorum.ts",
    find: "Math.floor(size / 2) + 1",
    replace: "Math.max(1, Math.floor(size / 2))",
    caughtBy: "simulation",
    property: /^(?:a pre-vote|an election) is won with the (?:grants|votes) of a majority/
  },
  {
    id: "V7f",
    rule: "V7",
    bug: "half of an even number of voters is a majority",
    file: "src/domain/Quorum.ts",
    find: "Math.floor(size / 2) + 1",
    replace: "Math.ceil(size / 2)",
    caughtBy: "simulation",
    property: /^(?:(?:a pre-vote|an election) is won with the (?:grants|votes) of a majority|Durability)/
  },
  {
    id: "V7g",
    rule: "V7",
    bug: "a majority is one voter more than it needs",
    file: "src/domain/Quorum.ts",
    find: "Math.floor(size / 2) + 1",
    replace: "Math.min(size, Math.floor(size / 2) + 2)",
    caughtBy: "simulation",
    property: /^the votes of a majority win an election \(V7\)/
  },
  {
    id: "V7h",
    rule: "V7",
    bug: "pre-votes for another term than the proposed one count",
    file: "src/domain/Election.ts",
    find: "if (message.voteGranted && message.term !== state.term + 1) return state",
    replace: "",
    caughtBy: "simulation",
    property: /^a pre-vote is won with the grants of a majority, for this term \(V7\)/
  }
]
