/**
 * Cores that are broken on purpose, each in one way that a shipped Raft once was, to see that the search finds it.
 */
import { emptyWrite, type Send } from "../../src/domain/Command.ts"
import { type EntryId, isUpToDate } from "../../src/domain/Entry.ts"
import * as Log from "../../src/domain/Log.ts"
import { isLeader, make, type NodeState } from "../../src/domain/NodeState.ts"
import * as Quorum from "../../src/domain/Quorum.ts"
import { step } from "../../src/domain/Step.ts"
import { membershipBugs } from "./plantedMembershipBugs.ts"
import { snapshotBugs } from "./plantedSnapshotBugs.ts"
import { after, committing, type Core, early, hearing } from "./planting.ts"

const commitOldTermsByCounting = after((_, event, stepped) => {
  const { state } = stepped
  if (event._tag !== "Received" || !isLeader(state)) return stepped
  return committing(
    stepped,
    Quorum.reachedByQuorum(state.configuration.latest, (id) => state.role.progress.get(id)?.matchIndex ?? 0)
  )
})

const sameTermStepDownClearsTheVote = after((before, _, { commands, state }) => {
  const stepsDown = before.role._tag !== "Follower" && state.role._tag === "Follower" && before.term === state.term
  if (!stepsDown || state.votedFor === undefined) return { commands, state }
  const hardState = { term: state.term, votedFor: undefined }
  return {
    state: { ...state, votedFor: undefined },
    commands: [...commands, { _tag: "Persist", write: { ...emptyWrite, hardState }, then: [] }]
  }
})

/** A `last` that the voter judges as it would if the longer log won whatever its term. */
const byIndexFirst = (last: EntryId, own: EntryId): EntryId =>
  last.index > own.index ? { term: Math.max(last.term, own.term), index: last.index } : last.index < own.index
    ? { term: 0, index: 0 }
    : last

const indexComparedBeforeTerm = hearing((before, message) =>
  message._tag === "RequestVote" && isUpToDate(message.last, { term: 0, index: 0 })
    ? { ...message, last: byIndexFirst(message.last, Log.lastId(before.log)) }
    : message
)

const followerCommitsToItsLastIndex = after((_, event, stepped) => {
  const { state } = stepped
  if (event._tag !== "Received" || event.message._tag !== "AppendEntries" || event.message.term < state.term) {
    return stepped
  }
  if (!Log.matches(state.log, event.message.prev)) return stepped
  return committing(stepped, Math.min(event.message.leaderCommit, state.log.lastIndex))
})

const truncateWithoutConflict = after((before, event, { commands, state }) => {
  if (event._tag !== "Received" || event.message._tag !== "AppendEntries") return { commands, state }
  const { entries, prev, term } = event.message
  const lastIndex = prev.index + entries.length
  if (term < before.term || entries.length === 0 || !Log.matches(state.log, prev) || lastIndex >= state.log.lastIndex) {
    return { commands, state }
  }
  const persist = commands.find((command) => command._tag === "Persist")
  const write = { ...emptyWrite, hardState: persist?.write.hardState, entries }
  return {
    state: { ...state, log: Log.truncate(state.log, lastIndex) },
    commands: [{ _tag: "Persist", write, then: persist?.then ?? [] }, ...commands.filter((other) => other !== persist)]
  }
})

/** The leader hears of its own match in the step that appends. */
const ownMatchCountedAtOnce: Core = {
  step: (before, event, nowMs) => {
    const first = step(before, event, nowMs)
    const persist = first.commands.find((command) => command._tag === "Persist")
    const own = persist?.then.find((send) => send.to === before.id && send.message._tag === "AppendEntriesResponse")
    if (own === undefined) return first
    const second = step(first.state, { _tag: "Received", from: before.id, message: own.message }, nowMs)
    return { state: second.state, commands: [...first.commands, ...second.commands] }
  }
}

const readWithoutOwnEntry: Core = {
  step: (before, event, nowMs) => {
    if (event._tag !== "Read" || !isLeader(before)) return step(before, event, nowMs)
    const { commands, state } = step(before, event, nowMs)
    if (!isLeader(state)) return { commands, state }
    const pendingReads = state.role.pendingReads.map((read) => ({ ...read, readIndex: state.commitIndex }))
    const lax: NodeState = { ...state, role: { ...state.role, pendingReads } }
    return { state: lax, commands }
  }
}

const anyAnswerConfirmsReads = hearing((before, message) =>
  message._tag === "AppendEntriesResponse" && isLeader(before) ? { ...message, round: before.role.round } : message
)

const preVoteRecordsTheVote = after((_, event, { commands, state }) => {
  const granted = commands.some((command) =>
    command._tag === "Send" && command.message._tag === "RequestPreVoteResponse" && command.message.voteGranted
  )
  if (!granted || event._tag !== "Received") return { commands, state }
  const hardState = { term: event.message.term, votedFor: event.from }
  return {
    state: { ...state, ...hardState, role: { _tag: "Follower", leaderId: undefined } },
    commands: [{ _tag: "Persist", write: { ...emptyWrite, hardState }, then: [] }, ...commands]
  }
})

const preVoteCountsAsVote = hearing((before, message) =>
  message._tag === "RequestPreVoteResponse" && message.voteGranted && before.role._tag === "Candidate"
    ? { _tag: "RequestVoteResponse", term: before.term, voteGranted: true }
    : message
)

const staleVoteCounts = hearing((before, message) =>
  message._tag === "RequestVoteResponse" && message.voteGranted
    ? { ...message, term: Math.max(message.term, before.term) }
    : message
)

const denialNotAdopted: Core = {
  step: (before, event, nowMs) => {
    const isDenial = event._tag === "Received" && event.message._tag === "RequestPreVoteResponse"
      && !event.message.voteGranted && event.message.term > before.term
    return isDenial ? { state: before, commands: [] } : step(before, event, nowMs)
  }
}

const rejectionIsIgnored: Core = {
  step: (before, event, nowMs) => {
    const isRejection = event._tag === "Received" && event.message._tag === "AppendEntriesResponse"
      && event.message.result._tag === "Rejected"
    return isRejection ? { state: before, commands: [] } : step(before, event, nowMs)
  }
}

const isVote = ({ message }: Send) => message._tag === "RequestVoteResponse" && message.voteGranted

export const plantedBugs = {
  "commit old terms by counting": commitOldTermsByCounting,
  "a vote leaves before it is written": early((send) => isVote(send)),
  "RequestVote leaves before the own vote is written": early(({ message }) => message._tag === "RequestVote"),
  "a match leaves before it is written": early(({ message }) => message._tag === "AppendEntriesResponse"),
  "the own match counts at once": ownMatchCountedAtOnce,
  "a restart forgets the vote": {
    start: (options: Parameters<typeof make>[0]) =>
      make({ ...options, hardState: { term: options.hardState.term, votedFor: undefined } })
  },
  "a restart forgets the term": {
    start: (options: Parameters<typeof make>[0]) =>
      make({
        ...options,
        hardState: { term: options.entries[options.entries.length - 1]?.term ?? 0, votedFor: undefined }
      })
  },
  "a step-down in the same term clears the vote": sameTermStepDownClearsTheVote,
  "logs are compared by index before term": indexComparedBeforeTerm,
  "a follower commits to its last index": followerCommitsToItsLastIndex,
  "a log is cut without a conflict": truncateWithoutConflict,
  "a read does not wait for an entry of the own term": readWithoutOwnEntry,
  "any answer confirms reads": anyAnswerConfirmsReads,
  "a pre-vote records the vote": preVoteRecordsTheVote,
  "a pre-vote counts as a vote": preVoteCountsAsVote,
  "a vote of an older term counts": staleVoteCounts,
  "a denial's term is not adopted": denialNotAdopted,
  "a rejection is ignored": rejectionIsIgnored,
  ...snapshotBugs,
  ...membershipBugs
} as const satisfies Record<string, Core>

export type PlantedBug = keyof typeof plantedBugs
