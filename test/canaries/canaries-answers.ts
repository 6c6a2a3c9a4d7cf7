/**
 * What a voter answers, and to whom (rules V4 to V6): bugs that leave a cluster without a leader for good.
 */
import type { Canary } from "./canaries.ts"

const votes = "test/domain/votes.test.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "V4a",
    rule: "V4",
    bug: "a server that does not know it is a voter denies its vote",
    file: "src/domain/Election.ts",
    find: "const voteGranted = repeated || (free",
    replace: "const voteGranted = repeated || (state.configuration.latest.voters.includes(state.id) && free",
    caughtBy: "tests",
    tests: [votes],
    property: /a leader is elected with the vote of a server that/
  },
  {
    id: "V4b",
    rule: "V4",
    bug: "a server that does not know it is a voter denies its pre-vote",
    file: "src/domain/Election.ts",
    find: "const voteGranted = message.term > state.term",
    replace: "const voteGranted = state.configuration.latest.voters.includes(state.id) && message.term > state.term",
    caughtBy: "tests",
    tests: [votes],
    property: /a leader is elected with the vote of a server that/
  },
  {
    id: "V4c",
    rule: "V4",
    bug: "requests of servers that are not known as members are dropped",
    file: "src/domain/Step.ts",
    find: `    case "AppendEntries":
    case "RequestReadIndex":
    case "TimeoutNow":
      return false`,
    replace: `    case "AppendEntries":
    case "RequestReadIndex":
    case "TimeoutNow":
      return !Configuration.isMember(state.configuration.latest, from)`,
    caughtBy: "tests",
    tests: [votes],
    property: /a candidate that it does not know as a member/
  },
  {
    id: "V4d",
    rule: "V4",
    bug: "a candidate or pre-candidate denies pre-votes, because it wants to win itself",
    file: "src/domain/Election.ts",
    find: "const voteGranted = message.term > state.term",
    replace: `const voteGranted = state.role._tag === "Follower" && message.term > state.term`,
    caughtBy: "simulation",
    property: /^term, log and loyalty decide a pre-vote, and nothing else \(V4, V5, V8\)/
  },
  {
    id: "V5a",
    rule: "V5",
    bug: "a granted pre-vote puts the voter's own election off",
    file: "src/domain/Election.ts",
    find: `Turn.send(turn, from, { _tag: "RequestPreVoteResponse", term, voteGranted })\n  return state`,
    replace: `Turn.send(turn, from, { _tag: "RequestPreVoteResponse", term, voteGranted })
  return voteGranted ? withElectionDeadline(state, turn.nowMs) : state`,
    caughtBy: "simulation",
    property: /^a pre-vote changes nothing at the voter \(V5\)/
  },
  {
    id: "V5b",
    rule: "V5",
    bug: "a granted pre-vote raises the voter's term",
    file: "src/domain/Election.ts",
    find: `Turn.send(turn, from, { _tag: "RequestPreVoteResponse", term, voteGranted })\n  return state`,
    replace: `Turn.send(turn, from, { _tag: "RequestPreVoteResponse", term, voteGranted })
  return voteGranted ? { ...state, term: message.term, votedFor: undefined } : state`,
    caughtBy: "simulation",
    property: /^a pre-vote changes nothing at the voter \(V5\)/
  },
  {
    id: "V5c",
    rule: "V5",
    bug: "a granted pre-vote is recorded as the vote of the present term",
    file: "src/domain/Election.ts",
    find: `Turn.send(turn, from, { _tag: "RequestPreVoteResponse", term, voteGranted })\n  return state`,
    replace: `Turn.send(turn, from, { _tag: "RequestPreVoteResponse", term, voteGranted })
  return voteGranted ? { ...state, votedFor: from } : state`,
    caughtBy: "simulation",
    property: /^a pre-vote changes nothing at the voter \(V5\)/
  },
  {
    id: "V5d",
    rule: "V5",
    bug: "a server that has voted in its term grants no pre-vote for the next",
    file: "src/domain/Election.ts",
    find: "const voteGranted = message.term > state.term",
    replace:
      "const voteGranted = (state.votedFor === undefined || state.votedFor === from) && message.term > state.term",
    caughtBy: "simulation",
    property: /^term, log and loyalty decide a pre-vote, and nothing else \(V4, V5, V8\)/
  },
  {
    id: "V6a",
    rule: "V6",
    bug: "a granted pre-vote carries the voter's own term",
    file: "src/domain/Election.ts",
    find: "const term = voteGranted ? message.term : state.term",
    replace: "const term = state.term",
    caughtBy: "simulation",
    property: /^a grant echoes the proposed term, a denial says the voter's \(V6\)/
  },
  {
    id: "V6b",
    rule: "V6",
    bug: "a denied pre-vote echoes the proposed term",
    file: "src/domain/Election.ts",
    find: "const term = voteGranted ? message.term : state.term",
    replace: "const term = message.term",
    caughtBy: "simulation",
    property: /^a grant echoes the proposed term, a denial says the voter's \(V6\)/
  },
  {
    id: "V6c",
    rule: "V6",
    bug: "the term of a denied pre-vote is not adopted",
    file: "src/domain/Step.ts",
    find: `message._tag === "RequestPreVoteResponse" && message.voteGranted`,
    replace: `message._tag === "RequestPreVoteResponse"`,
    caughtBy: "simulation",
    property: /^a higher term is adopted/
  }
]
