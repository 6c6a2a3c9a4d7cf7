/**
 * Cores whose membership changes, or whose transfer of leadership, are broken on purpose: one for each of rules M1 to M7 at least.
 */
import { emptyWrite } from "../../src/domain/Command.ts"
import * as Configuration from "../../src/domain/Configuration.ts"
import type { LogIndex } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import { configurationsIn, isLeader, type LeaderState, make, type NodeState } from "../../src/domain/NodeState.ts"
import { majority, reachedByQuorum, tally } from "../../src/domain/Quorum.ts"
import { becomeLeader } from "../../src/domain/RoleChange.ts"
import { step, type Stepped } from "../../src/domain/Step.ts"
import * as Turn from "../../src/domain/Turn.ts"
import { after, committing, type Core } from "./planting.ts"

/** A step from a state that is told something else for its time: `tell` says what, and `restore` takes that back. */
const told = (
  tell: (before: NodeState, event: Event) => NodeState | undefined,
  restore: (after: NodeState, before: NodeState, toldState: NodeState) => NodeState
): Core => ({
  step: (before, event, nowMs) => {
    const lied = tell(before, event)
    if (lied === undefined) return step(before, event, nowMs)
    const { commands, state } = step(lied, event, nowMs)
    return { state: restore(state, before, lied), commands }
  }
})

const withStart = (state: LeaderState, termStartIndex: LogIndex): NodeState => {
  const changed: LeaderState = { ...state, role: { ...state.role, termStartIndex } }
  return changed
}

const changeWithoutOwnEntry = told(
  (before, event) => event._tag === "Reconfigure" && isLeader(before) ? withStart(before, 0) : undefined,
  (state, before) => isLeader(state) && isLeader(before) ? withStart(state, before.role.termStartIndex) : state
)

const asIfCommitted = (state: NodeState): NodeState => ({
  ...state,
  configuration: { ...state.configuration, latestIndex: 0 }
})

/** What was not changed is what it was before. */
const withOwnConfiguration = (state: NodeState, before: NodeState): NodeState =>
  state.configuration.latestIndex === 0 ? { ...state, configuration: before.configuration } : state

const secondChangeWhileOneIsPending = told(
  (before, event) =>
    event._tag === "Reconfigure" && !Configuration.isJoint(before.configuration.latest)
      ? asIfCommitted(before)
      : undefined,
  withOwnConfiguration
)

const isAnswer = (event: Event): boolean => event._tag === "Received" && event.message._tag === "AppendEntriesResponse"

const jointIsLeftBeforeItsCommit = told(
  (before, event) =>
    isAnswer(event) && isLeader(before) && Configuration.isJoint(before.configuration.latest)
      ? asIfCommitted(before)
      : undefined,
  withOwnConfiguration
)

const notRolledBack = after((before, _, { commands, state }) => {
  const { latestIndex } = before.configuration
  const held = Log.termAt(before.log, latestIndex)
  const isCut = latestIndex > state.log.prev.index && Log.termAt(state.log, latestIndex) !== held
  return { state: isCut ? { ...state, configuration: before.configuration } : state, commands }
})

const inForceOnceCommitted = after((_, __, { commands, state }) => {
  const { configuration: { along: [first] }, log } = state
  const committed = Log.slice(log, { from: Log.firstIndex(log), to: state.commitIndex })
  const configuration = Configuration.appended(Configuration.beginning(first), configurationsIn(committed))
  return { state: { ...state, configuration }, commands }
})

type IndexOf = (state: LeaderState, matchOf: (id: NodeId) => LogIndex) => LogIndex

/** Whatever `reached` says that enough servers have is committed, as far as it is of the leader's term. */
const counting = (reached: IndexOf): Core =>
  after((_, event, stepped): Stepped => {
    const { state } = stepped
    if (!isAnswer(event) || !isLeader(state)) return stepped
    const index = reached(state, (id) => state.role.progress.get(id)?.matchIndex ?? 0)
    return Log.termAt(state.log, index) === state.term ? committing(stepped, index) : stepped
  })

/** Acknowledgements of `ids`, as many as the voters' majority is. */
const enoughOf = (ids: ReadonlyArray<NodeId>, needed: number, matchOf: (id: NodeId) => LogIndex): LogIndex =>
  ids.map(matchOf).toSorted((a, b) => b - a)[needed - 1] ?? 0

const learnersCount = counting(({ configuration: { latest: { learners, voters } } }, matchOf) =>
  enoughOf([...voters, ...learners], majority(voters.length), matchOf)
)

const leaverCountsItself = counting(({ configuration: { latest }, id }, matchOf) =>
  Configuration.isJoint(latest) || latest.voters.includes(id)
    ? 0
    : enoughOf([...latest.voters, id], majority(latest.voters.length), matchOf)
)

const onlyNewMajorityCommits = counting(({ configuration: { latest } }, matchOf) =>
  Configuration.isJoint(latest) ? reachedByQuorum(Configuration.left(latest), matchOf) : 0
)

const onlyNewVotersElect: Core = {
  step: (before, event, nowMs) => {
    const { commands, state } = step(before, event, nowMs)
    const { latest } = state.configuration
    if (state.role._tag !== "Candidate" || !Configuration.isJoint(latest)) return { state, commands }
    if (tally(Configuration.left(latest), state.role.votes) !== "won") return { state, commands }
    const turn = Turn.make(nowMs)
    const leader = becomeLeader(state, turn)
    const write = { ...emptyWrite, entries: turn.appended }
    return { state: leader, commands: [...commands, { _tag: "Persist", write, then: turn.promises }, ...turn.commands] }
  }
}

const leaverGoesOn = after((before, _, { commands, state }) => {
  const isGone = isLeader(before) && !isLeader(state) && before.term === state.term
    && !before.configuration.latest.voters.includes(state.id)
  return { state: isGone ? { ...state, role: before.role } : state, commands }
})

const removedStands = told(
  (before, event) => {
    const { latest } = before.configuration
    if (event._tag !== "Ticked" || isLeader(before) || latest.voters.includes(before.id)) return undefined
    const voters = [...latest.voters, before.id]
    const configuration = { ...latest, voters }
    return { ...before, configuration: { ...before.configuration, latest: configuration } }
  },
  (state, before) => ({ ...state, configuration: before.configuration })
)

const proposalsDuringTransfer = told(
  (before, event) => {
    if (event._tag !== "Propose" || !isLeader(before)) return undefined
    const open: LeaderState = { ...before, role: { ...before.role, transfer: undefined } }
    return open
  },
  (state, before) => {
    if (!isLeader(state) || !isLeader(before)) return state
    const handing: LeaderState = { ...state, role: { ...state.role, transfer: before.role.transfer } }
    return handing
  }
)

const successorIsToldAtOnce = after((before, event, { commands, state }) => {
  const isBegun = event._tag === "TransferLeadership" && isLeader(before) && isLeader(state)
    && before.role.transfer === undefined && state.role.transfer?.isSent === false
  if (!isBegun || state.role.transfer === undefined) return { state, commands }
  const { to } = state.role.transfer
  return { state, commands: [...commands, { _tag: "Send", to, message: { _tag: "TimeoutNow", term: state.term } }] }
})

export const membershipBugs = {
  "a change waits for no entry of its leader's term": changeWithoutOwnEntry,
  "a configuration is not rolled back": notRolledBack,
  "a configuration is in force once it is committed": inForceOnceCommitted,
  "a restart forgets the configurations in the log": {
    start: (options: Parameters<typeof make>[0]) => {
      const started = make(options)
      return { ...started, configuration: Configuration.beginning(started.configuration.along[0]) }
    }
  },
  "a change begins while another one is pending": secondChangeWhileOneIsPending,
  "only the new majority commits while two are needed": onlyNewMajorityCommits,
  "only the new voters elect while two majorities are needed": onlyNewVotersElect,
  "a joint configuration is left before its commit": jointIsLeftBeforeItsCommit,
  "a learner's match counts": learnersCount,
  "a leader that removed itself counts itself": leaverCountsItself,
  "a leader that removed itself goes on": leaverGoesOn,
  "a server that was removed stands for election": removedStands,
  "a proposal is taken while leadership is handed over": proposalsDuringTransfer,
  "a successor is told before it has the log": successorIsToldAtOnce
} as const satisfies Record<string, Core>
