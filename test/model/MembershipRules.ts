/**
 * What one server's step may do to the configuration, and because of it: rules M1 to M7, decided from logs, votes and sets of servers alone. That a
 * commit has its majorities is seen between servers, in `History.ts`.
 */
import type { Command } from "../../src/domain/Command.ts"
import type { Configuration } from "../../src/domain/Configuration.ts"
import type { Event } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { TimeoutNow } from "../../src/domain/Message.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import * as NodeState from "../../src/domain/NodeState.ts"
import {
  type Along,
  canDecide,
  codeAt,
  codeOf,
  configurationOf,
  isIn,
  isJoint,
  isVoter,
  latestOf,
  mayFollow,
  setOf,
  shownCode,
  votersOf
} from "./Configurations.ts"
import { configurationsOf, type Disk } from "./Disk.ts"
import { alongLog } from "./Facts.ts"
import { numberOf } from "./numbering.ts"
import { demand, type Tally } from "./Properties.ts"
import type { Rules } from "./Server.ts"

export interface Step {
  readonly before: NodeState.NodeState
  readonly event: Event
  readonly after: NodeState.NodeState
  readonly commands: ReadonlyArray<Command>
}

export const checkMembership = ({ isFixed, tally }: Pick<Rules, "isFixed" | "tally">, step: Step): void => {
  checkBeginning(tally, step)
  checkInForce(tally, step.after)
  // Where it stays, whoever is elected wrongly shows by what its log lacks.
  if (!isFixed) checkElection(tally, step)
  checkChange(tally, step)
  checkRemoved(tally, step)
  checkTransfer(tally, step)
}

const inForce = "the configuration in force is what the log says (rule M2)"

const shownAlong = (along: Along): string =>
  along.map(({ code, index }) => `${shownCode(code)} from ${index}`).join(", ")

/** What the core takes for the configurations along its log, after any step and any start. */
export const checkInForce = (tally: Tally, state: NodeState.NodeState): void => {
  const along = alongLog(state)
  const { index } = latestOf(along)
  const { along: taken, latest, latestIndex } = state.configuration
  const isSame = codeOf(latest) === latestOf(along).code && (along.length === 1 || latestIndex === index)
    && taken.length === along.length
    && taken.every((one, i) =>
      codeOf(one.configuration) === along[i]?.code && (i === 0 || one.index === along[i]?.index)
    )
  demand(tally, inForce, isSame, () => `${state.id} goes by ${shownCode(codeOf(latest))}, of ${shownAlong(along)}`)
  for (const [i, next] of along.entries()) {
    const before = along[i - 1]
    if (before === undefined) continue
    const moves = () => `${state.id} has ${shownCode(next.code)} after ${shownCode(before.code)}`
    demand(tally, "one voter moves at a time, or all jointly (rules M3, M4)", mayFollow(before.code, next.code), moves)
  }
}

/** A log that begins elsewhere begins with what was in force there. */
const checkBeginning = (tally: Tally, { after, before, event }: Step): void => {
  const { prev } = after.log
  if (prev.index === before.log.prev.index) return
  const isInstalled = event._tag === "SnapshotReceived" && !Log.matches(before.log, prev)
  const expected = isInstalled ? codeOf(event.snapshot.configuration) : codeAt(alongLog(before), prev.index)
  const found = codeOf(after.configuration.along[0].configuration)
  demand(
    tally,
    inForce,
    found === expected,
    () => `${after.id} begins after ${prev.index} with ${shownCode(found)}; it was ${shownCode(expected)}`
  )
}

/** What a snapshot that was begun when `index` was applied says, as the core does: it is asked then, and may have installed another one since. */
export const configurationAt = (tally: Tally, state: NodeState.NodeState, disk: Disk, index: number): Configuration => {
  const said = codeAt(configurationsOf(disk), index)
  if (state.log.prev.index > index) return configurationOf(said)
  const configuration = NodeState.configurationAt(state, index)
  const found = codeOf(configuration)
  demand(
    tally,
    inForce,
    found === said,
    () => `${state.id} puts ${shownCode(found)} into a snapshot; at ${index} it was ${shownCode(said)}`
  )
  return configuration
}

/** Those that granted, this answer included. */
const grantedBy = ({ before, event }: Step): ReadonlyArray<NodeId> => {
  const { role } = before
  if (role._tag !== "Candidate" && role._tag !== "PreCandidate") return []
  const granted = [...role.votes].filter(([, isGranted]) => isGranted).map(([id]) => id)
  if (event._tag !== "Received") return granted
  const { message } = event
  const isAnswer = message._tag === "RequestVoteResponse" || message._tag === "RequestPreVoteResponse"
  return isAnswer && message.voteGranted ? [...granted, event.from] : granted
}

const checkElection = (tally: Tally, step: Step): void => {
  const { after, before } = step
  const isWon = NodeState.isLeader(after) && !NodeState.isLeader(before)
  const isPreWon = before.role._tag === "PreCandidate" && after.role._tag === "Candidate" && !after.role.isTransfer
  if (!isWon && !isPreWon) return
  const { code } = latestOf(alongLog(before))
  const voters = grantedBy(step)
  demand(
    tally,
    "an election is won by the majorities of the configuration in force (rules V7, M4, M5)",
    canDecide(code, setOf(voters)),
    () => `${after.id} has the votes of ${voters.join(", ")}, of ${shownCode(code)}`
  )
}

const hasOwnCommitted = ({ commitIndex, log, term }: NodeState.NodeState): boolean =>
  Log.termAt(log, commitIndex) === term

const checkChange = (tally: Tally, { after, before, commands, event }: Step): void => {
  if (!NodeState.isLeader(before) || !NodeState.isLeader(after)) return
  const last = latestOf(alongLog(before))
  const next = latestOf(alongLog(after))
  if (next.index > before.log.lastIndex) {
    const isReady = hasOwnCommitted(after) && last.index <= after.commitIndex
    demand(
      tally,
      "the configuration changes when what came before is committed (rules M1, M3)",
      isReady,
      () =>
        `${after.id} appends ${shownCode(next.code)} in term ${after.term}, with ${after.commitIndex} committed and ${
          shownCode(last.code)
        } at ${last.index}`
    )
  }
  const isReported = event._tag !== "TransferLeadership" && commands.some(({ _tag }) => _tag === "Complete")
  if (!isReported) return
  const isDone = last.index <= after.commitIndex && !isJoint(last.code)
  demand(tally, "a change that is reported is committed", isDone, () => `${after.id} reports ${shownCode(last.code)}`)
}

/**
 * A leader is a voter, or the entry that removes it is not committed. Who stands is a voter of a configuration that may still be the committed one:
 * only it may hold the entry that removes it.
 */
const checkRemoved = (tally: Tally, { after, before }: Step): void => {
  const node = numberOf(after.id)
  const property = "who was removed neither leads nor stands (rule M6)"
  const along = alongLog(after)
  const { code, index } = latestOf(along)
  if (NodeState.isLeader(after)) {
    const isOut = index <= after.commitIndex && hasOwnCommitted(after) && !isIn(votersOf(code), node) && !isJoint(code)
    demand(tally, property, !isOut, () => `${after.id} leads ${shownCode(code)}, which is committed`)
    return
  }
  const stands = after.role._tag !== "Follower"
    && (before.role._tag !== after.role._tag || before.term !== after.term)
  if (!stands) return
  const committed = codeAt(along, after.commitIndex)
  const open = along.filter((placed) => placed.index > after.commitIndex)
  const mayVote = isVoter(committed, node) || open.some((placed) => isVoter(placed.code, node))
  demand(
    tally,
    property,
    mayVote,
    () => `${after.id} stands in ${shownAlong(along)}, with ${after.commitIndex} committed`
  )
}

const toldIn = (commands: ReadonlyArray<Command>): ReadonlyArray<{ to: NodeId; message: TimeoutNow }> =>
  commands.flatMap((command) => {
    if (command._tag !== "Send" || command.message._tag !== "TimeoutNow") return []
    return [{ to: command.to, message: command.message }]
  })

const checkTransfer = (tally: Tally, { after, before, commands, event }: Step): void => {
  const property = "a successor is told by its leader, and has its log (rule M7)"
  for (const { message, to } of toldIn(commands)) {
    const isTold = NodeState.isLeader(before) && message.term === before.term && canSucceed(before, after, to)
    demand(tally, property, isTold, () => `${before.id} tells ${to} to stand after term ${message.term}`)
  }
  const isNew = before.role._tag !== "Candidate" || before.term !== after.term
  if (after.role._tag === "Candidate" && after.role.isTransfer && isNew) {
    const isTold = event._tag === "Received" && event.message._tag === "TimeoutNow"
      && event.message.term === after.term - 1
    demand(tally, property, isTold, () => `${after.id} stands in term ${after.term} as if it had been told to`)
  }
  if (event._tag !== "Propose" || !NodeState.isLeader(before) || before.role.transfer === undefined) return
  demand(
    tally,
    "nothing is proposed while leadership is handed over (rule M7)",
    after.log.lastIndex === before.log.lastIndex,
    () => before.id
  )
}

/** A leader that leaves has no time to wait until its successor has all of its log. */
const canSucceed = (before: NodeState.LeaderState, after: NodeState.NodeState, to: NodeId): boolean => {
  const { code } = latestOf(alongLog(after))
  if (!isIn(votersOf(code), numberOf(to)) || to === before.id) return false
  return !NodeState.isLeader(after) || (after.role.progress.get(to)?.matchIndex ?? 0) >= before.log.lastIndex
}
