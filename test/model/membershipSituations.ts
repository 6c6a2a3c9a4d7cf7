/**
 * Which of the sometimes-properties about membership and the transfer of leadership one server's step shows.
 */
import type { Command } from "../../src/domain/Command.ts"
import type { Event } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import { isLeader, type LeaderState, type NodeState } from "../../src/domain/NodeState.ts"
import {
  canDecide,
  codeOf,
  isIn,
  isJoint,
  latestOf,
  learnersOf,
  membersOf,
  outgoingOf,
  type Servers,
  unknown,
  votersOf
} from "./Configurations.ts"
import { alongLog } from "./Facts.ts"
import { numberOf } from "./numbering.ts"
import type { Sometimes } from "./Properties.ts"

type See = (property: Sometimes, is: boolean) => void

export const seenInMembership = (
  before: NodeState,
  event: Event,
  after: NodeState,
  commands: ReadonlyArray<Command>,
  see: See
): void => {
  const [last, next] = [latestOf(alongLog(before)), latestOf(alongLog(after))]
  const node = numberOf(after.id)
  see(
    "a configuration is rolled back",
    last.index > after.log.prev.index && !Log.matches(after.log, idAt(before, last.index))
  )
  see("a newcomer learns of its cluster", last.code === unknown && next.code !== unknown)
  const isAppended = next.index > before.log.lastIndex && next.index > last.index
  const isPromoted = (learnersOf(last.code) & votersOf(next.code)) !== 0
  see("a learner is promoted", isAppended && isPromoted && isLeader(after))
  const isOlder = (Log.termAt(after.log, last.index) ?? 0) < after.term
  see(
    "a learner is promoted by a later leader",
    isAppended && isPromoted && isLeader(after) && isOlder && event._tag === "Received"
  )
  see("a joint configuration is left by another leader", isAppended && isLeader(after) && isJoint(last.code) && isOlder)
  const isOut = !isIn(votersOf(next.code), node)
  see(
    "a leader that removed itself steps down",
    isLeader(before) && !isLeader(after) && isOut && before.term === after.term
  )
  const stands = after.role._tag !== "Follower" && !isLeader(after) && after.role._tag !== before.role._tag
  see("a server that removed itself stands once more", stands && !isIn(membersOf(next.code), node))
  const heard = next.index > before.commitIndex && next.index <= after.commitIndex
  see("a server hears that it was removed", heard && !isLeader(before) && !isIn(membersOf(next.code), node))
  seenInRefusals(before, event, commands, see)
  seenInTransfer(before, after, commands, see)
  if (isLeader(after)) seenInCounting(after, see)
}

const idAt = ({ log }: NodeState, index: number) => ({ term: Log.termAt(log, index) ?? 0, index })

const seenInRefusals = (before: NodeState, event: Event, commands: ReadonlyArray<Command>, see: See): void => {
  const refusals = commands.flatMap((command) => command._tag === "Refuse" ? [command.refusal] : [])
  const isChange = event._tag === "Reconfigure"
  const isFor = (reason: string) =>
    refusals.some((refusal) => refusal._tag === "Impossible" && refusal.reason === reason)
  see("a change waits for an entry of its leader's term", isChange && isFor("NotReady"))
  see("a change waits for the one before it", isChange && isFor("Pending"))
  const isHandingOver = isLeader(before) && before.role.transfer !== undefined
  see(
    "a proposal is refused while leadership is handed over",
    event._tag === "Propose" && isHandingOver && refusals.length > 0
  )
}

const seenInTransfer = (before: NodeState, after: NodeState, commands: ReadonlyArray<Command>, see: See): void => {
  const isWon = isLeader(after) && before.role._tag === "Candidate" && before.role.isTransfer
  see("an election is won by transfer", isWon)
  const isOver = isLeader(before) && before.role.transfer !== undefined && isLeader(after)
    && after.role.transfer === undefined && commands.length > 0
  see("a transfer is given up", isOver)
  const along = alongLog(before)
  const { code, index } = latestOf(along)
  // What its leader appended last is that somebody leaves, who can only be that leader: it committed this before it told anybody to stand.
  const voters = votersOf(along[along.length - 2]?.code ?? code) & ~votersOf(code)
  const isLast = index === before.log.lastIndex
  see("a leader that removed itself is followed by whom it told to stand", isWon && isLast && voters !== 0)
}

const holdersOf = (state: LeaderState, index: number): Servers => {
  let servers = 0
  for (const [id, { matchIndex }] of state.role.progress) if (matchIndex >= index) servers |= 1 << numberOf(id)
  return servers
}

const seenInCounting = (state: LeaderState, see: See): void => {
  const { lastIndex } = state.log
  if (lastIndex <= state.commitIndex) return
  const code = codeOf(state.configuration.latest)
  const holders = holdersOf(state, lastIndex)
  const everybody = votersOf(code) | learnersOf(code)
  see(
    "a learner has what is not committed without it",
    (holders & learnersOf(code)) !== 0 && !canDecide(code, holders) && canDecide(everybody, holders)
  )
  see(
    "one of two majorities has what is not committed",
    isJoint(code) && !canDecide(code, holders)
      && (canDecide(votersOf(code), holders) || canDecide(outgoingOf(code), holders))
  )
}
