/**
 * Transfer of leadership (thesis §3.10, rule M7): bugs that lose entries or reads to it, undo it, or never end it.
 */
import type { Canary } from "./canaries.ts"

const transfer = "test/domain/transfer.test.ts"
const core = "src/domain/Transfer.ts"

export const canaries: ReadonlyArray<Canary> = [
  {
    id: "M7a",
    rule: "M7",
    bug: "a successor is told to stand before it has all of the log",
    file: core,
    find: "transfer.isSent || matchOf(state, transfer.to) < state.log.lastIndex) return state",
    replace: "transfer.isSent) return state",
    caughtBy: "simulation",
    property: /^only who has all of the log is told to stand \(M7\)/
  },
  {
    id: "M7b",
    rule: "M7",
    bug: "a successor is told to stand when it has all that is committed",
    file: core,
    find: "matchOf(state, transfer.to) < state.log.lastIndex",
    replace: "matchOf(state, transfer.to) < state.commitIndex",
    caughtBy: "simulation",
    property: /^only who has all of the log is told to stand \(M7\)/
  },
  {
    id: "M7c",
    rule: "M7",
    bug: "who is told to stand asks for pre-votes first",
    file: core,
    find: "return canStand ? becomeCandidate(state, true, turn) : state",
    replace: "return canStand ? { ...state, deadlineMs: turn.nowMs } : state",
    caughtBy: "tests",
    tests: [transfer],
    property: /the successor leads at once/
  },
  {
    id: "M7d",
    rule: "M7",
    bug: "voters are loyal to the leader that hands over",
    file: "src/domain/Step.ts",
    find: `message._tag === "RequestVote" && !message.isTransfer`,
    replace: `message._tag === "RequestVote"`,
    caughtBy: "simulation",
    property: /^a higher term is adopted/
  },
  {
    id: "M7e",
    rule: "M7",
    bug: "voters adopt the successor's term and keep their vote from it",
    file: "src/domain/Election.ts",
    find: "const isLoyal = !message.isTransfer && believesInLeader(state, turn.nowMs)",
    replace: "const isLoyal = believesInLeader(state, turn.nowMs)",
    caughtBy: "simulation",
    property: /^term, log and the one vote decide a vote, and nothing else/
  },
  {
    id: "M7f",
    rule: "M7",
    bug: "a leader takes commands while it hands over",
    file: "src/domain/Proposing.ts",
    find: "if (isEnding(state)) return refuseAtTheEnd(state, proposals.map((one) => one.requestId), turn)",
    replace: "",
    caughtBy: "simulation",
    property: /^nothing is proposed while leadership is handed over \(M7\)/
  },
  {
    id: "M7g",
    rule: "M7",
    bug: "a leader opens sessions while it hands over",
    file: "src/domain/Proposing.ts",
    find: "if (isEnding(state)) return refuseAtTheEnd(state, [requestId], turn)",
    replace: "",
    caughtBy: "simulation",
    property: /^nothing is proposed while leadership is handed over \(M7\)/
  },
  {
    id: "M7h",
    rule: "M7",
    bug: "leadership is handed to a learner",
    file: core,
    find: "  if (!state.configuration.latest.voters.includes(to)) {",
    replace: "  if (!state.role.progress.has(to)) {",
    caughtBy: "tests",
    tests: [transfer],
    property: /is refused to whoever cannot lead/
  },
  {
    id: "M7j",
    rule: "M7",
    bug: "a transfer is never given up",
    file: core,
    find: "if (transfer === undefined || turn.nowMs < transfer.deadlineMs) return state\n  const message",
    replace: "if (transfer === undefined || turn.nowMs < transfer.deadlineMs * 1e6) return state\n  const message",
    caughtBy: "simulation",
    property: /^a transfer is given up after an election timeout \(M7\)/
  },
  {
    id: "M7k",
    rule: "M7",
    bug: "a transfer is given up at the next heartbeat",
    file: core,
    find: "if (transfer === undefined || turn.nowMs < transfer.deadlineMs) return state\n  const message",
    replace: "if (transfer === undefined) return state\n  const message",
    caughtBy: "simulation",
    property: /^a transfer is not given up before an election timeout \(M7\)/
  },
  {
    id: "M7l",
    rule: "M7",
    bug: "the lease goes on when a successor was told to stand",
    file: core,
    find: "hasHandedOver: true, readLeaseUntilMs: -Infinity, sentRounds: [] }",
    replace: "hasHandedOver: true, sentRounds: [] }",
    caughtBy: "tests",
    tests: [transfer],
    property: /voids the lease/
  },
  {
    id: "M7m",
    rule: "M7",
    bug: "a lease is earned again while a successor may still stand up",
    file: core,
    find: "hasHandedOver: true, readLeaseUntilMs",
    replace: "hasHandedOver: false, readLeaseUntilMs",
    caughtBy: "tests",
    tests: ["test/domain/transfer.test.ts"],
    property: /voids the lease, for all of this leadership/
  },
  {
    id: "M7n",
    rule: "M7",
    bug: "every candidate says that the leader has asked it to stand",
    file: "src/domain/Election.ts",
    find: "Turn.promise(turn, peer, { _tag: \"RequestVote\", term, last: Log.lastId(state.log), isTransfer })",
    replace: "Turn.promise(turn, peer, { _tag: \"RequestVote\", term, last: Log.lastId(state.log), isTransfer: true })",
    caughtBy: "simulation",
    property: /^a vote is asked in a leader's name if it said so \(M7\)/
  },
  {
    id: "M7o",
    rule: "M7",
    bug: "a transfer is reported as done when the successor was told",
    file: core,
    find: "  return tell(state, transfer.to, { ...transfer, isSent: true }, turn)",
    replace: `  turn.commands.push({ _tag: "Complete", requestId: transfer.requestId })
  return tell(state, transfer.to, { ...transfer, isSent: true }, turn)`,
    caughtBy: "simulation",
    property: /^a transfer is (?:done when its leader has stepped down|not given up before an election timeout) \(M7\)/
  },
  {
    id: "M7p",
    rule: "M7",
    bug: "who was told to stand by a leader of an older term stands",
    file: "src/domain/Step.ts",
    find: `    case "RequestReadIndexResponse":
    case "TimeoutNow":
      return state
    default:`,
    replace: `    case "RequestReadIndexResponse":
      return state
    case "TimeoutNow":
      return Transfer.onTimeoutNow(state, turn)
    default:`,
    caughtBy: "simulation",
    property: /^a vote is asked in a leader's name if it said so \(M7\)/
  },
  {
    id: "M7q",
    rule: "M7",
    bug: "a second transfer takes the place of the first",
    file: core,
    find: "  if (transfer !== undefined) {\n    return { _tag: \"Impossible\", reason: \"Pending\"",
    replace: "  if (transfer !== undefined && to === \"\") {\n    return { _tag: \"Impossible\", reason: \"Pending\"",
    caughtBy: "tests",
    tests: [transfer],
    property: /is given up after an election timeout/
  },
  {
    id: "M7r",
    rule: "M7",
    bug: "a transfer that was given up is reported as not happened, though its successor may still stand up",
    file: core,
    find: "const refusal: Refusal = transfer.isSent\n    ? { _tag: \"OutcomeUnknown\" }\n    :",
    replace: "const refusal: Refusal =",
    caughtBy: "tests",
    tests: [transfer],
    property: /is given up after an election timeout/
  },
  {
    id: "M7s",
    rule: "M7",
    bug: "the membership is changed while leadership is handed over",
    file: "src/domain/Membership.ts",
    find: "  if (state.role.transfer !== undefined) {\n    return impossible(\"Pending\"",
    replace: "  if (state.role.transfer !== undefined && state.term < 0) {\n    return impossible(\"Pending\"",
    caughtBy: "tests",
    tests: [transfer],
    property: /nothing is changed while it lasts/
  },
  {
    id: "M7t",
    rule: "M7",
    bug: "a server without its state stands when it is told to",
    file: core,
    find: "const canStand = !isLeader(state) && isSelfVoter(state) && !needsSnapshot(state)",
    replace: "const canStand = !isLeader(state) && isSelfVoter(state)",
    caughtBy: "tests",
    tests: [transfer],
    property: /does not make a learner stand, or a server that has lost its state/
  },
  {
    id: "M7u",
    rule: "M7",
    bug: "a learner stands when it is told to",
    file: core,
    find: "const canStand = !isLeader(state) && isSelfVoter(state) && !needsSnapshot(state)",
    replace: "const canStand = !isLeader(state) && !needsSnapshot(state)",
    caughtBy: "tests",
    tests: [transfer],
    property: /does not make a learner stand, or a server that has lost its state/
  },
  {
    id: "M7v",
    rule: "M7",
    bug: "the voter that has least of the log is taken for the best",
    file: core,
    find: "matchOf(state, b) - matchOf(state, a))[0]",
    replace: "matchOf(state, a) - matchOf(state, b))[0]",
    caughtBy: "tests",
    tests: [transfer],
    property: /without a name the voter that has most of the log takes over/
  },
  {
    id: "M7w",
    rule: "M7",
    bug: "leadership is handed to a server that is silent",
    file: core,
    find: "\n    && nowMs - progress.lastContactMs < state.settings.electionTimeoutMsMax",
    replace: "",
    caughtBy: "tests",
    tests: [transfer],
    property: /is refused to whoever cannot lead/
  },
  {
    id: "M7x",
    rule: "M7",
    bug: "a leader that is deposed otherwise forgets whoever waits for its transfer",
    file: "src/domain/RoleChange.ts",
    find: "  else refuse([transfer.requestId])",
    replace: "",
    caughtBy: "simulation",
    property: /^a transfer is given up after an election timeout \(M7\)/
  },
  {
    id: "M7y",
    rule: "M7",
    bug:
      "a joint configuration is left while leadership is handed over: its successor stands without what the others have",
    file: "src/domain/Membership.ts",
    find: "return role.transfer === undefined ? append(current, Configuration.left(latest), turn) : current",
    replace: "return append(current, Configuration.left(latest), turn)",
    caughtBy: "tests",
    tests: ["test/domain/changes.test.ts"],
    property: /leadership is handed to a voter of the new configuration/
  },
  {
    id: "M7z",
    rule: "M7",
    bug: "a transfer is called done whoever leads next",
    file: "src/services/Requests.ts",
    find: "successor === undefined || successor === leader",
    replace: "leader.length > 0",
    caughtBy: "tests",
    tests: ["test/services/requests.test.ts"],
    property: /is answered by whoever leads next/
  },
  {
    id: "M7aa",
    rule: "M7",
    bug: "a leader that is removed while it hands over has a second server stand",
    file: core,
    find: "  if (state.role.transfer?.isSent === true) return state\n",
    replace: "",
    caughtBy: "tests",
    tests: [transfer],
    property: /has nobody else stand against its successor/
  }
]
