/**
 * Which of the sometimes-properties one server's step shows. Those that take more than one server are seen in `History.ts`.
 */
import type { Command, Write } from "../../src/domain/Command.ts"
import { isUpToDate } from "../../src/domain/Entry.ts"
import type { Event } from "../../src/domain/Event.ts"
import * as Log from "../../src/domain/Log.ts"
import type { Message } from "../../src/domain/Message.ts"
import { isLeader, needsSnapshot, type NodeState } from "../../src/domain/NodeState.ts"
import * as Quorum from "../../src/domain/Quorum.ts"
import { seenInMembership } from "./membershipSituations.ts"
import { bitOf, either, type Seen, type Sometimes } from "./Properties.ts"
import { lifeOf } from "./Server.ts"

type See = (property: Sometimes, is: boolean) => void

/** `waiting` is what waited for the disk before. */
export const seenInStep = (
  before: NodeState,
  event: Event,
  after: NodeState,
  commands: ReadonlyArray<Command>,
  waiting: ReadonlyArray<Write>
): Seen => {
  let seen: Seen = 0
  const see: See = (property, is) => {
    if (is) seen = either(seen, bitOf(property))
  }
  const leads = isLeader(after) && !isLeader(before)
  see("a leader is elected", leads)
  see("a server leads whose log was compacted", leads && after.log.prev.index > 0)
  see("an entry is committed", isLeader(after) && after.commitIndex > before.commitIndex)
  const isServed = commands.some((command) => command._tag === "ServeRead")
  see("a read is served", isServed)
  see("a read of a follower is served", isServed && !isLeader(before))
  const isRefused = commands.some((command) => command._tag === "Refuse" && command.refusal._tag === "NotLeader")
  see("a read is refused because its leader stepped down", isRefused && isLeader(before) && !isLeader(after))
  const isUnanswered = sentIn(commands).some((message) =>
    message._tag === "RequestReadIndexResponse" && message.readIndex === undefined
  )
  see("a leader that steps down answers what it was asked", isUnanswered && isLeader(before) && !isLeader(after))
  if (event._tag === "Ticked") {
    const stepsDown = isLeader(before) && !isLeader(after)
    see("a leader steps down for lack of a quorum", stepsDown && before.term === after.term)
  }
  if (event._tag === "SnapshotReceived") seenInInstall(before, after, event.snapshot.last.index, commands, see)
  if (event._tag === "Received") seenInMessage(before, event.from, event.message, after, commands, see)
  const isAppended = commands.some((command) => command._tag === "Persist" && command.write.entries.length > 0)
  see(
    "entries are appended while an install waits for the disk",
    isAppended && waiting.some(({ install }) => install !== undefined)
  )
  seenInMembership(before, event, after, commands, see)
  return seen
}

const sentIn = (commands: ReadonlyArray<Command>): ReadonlyArray<Message> =>
  commands.flatMap((command) => command._tag === "Send" ? [command.message] : [])

const seenInInstall = (
  before: NodeState,
  after: NodeState,
  index: number,
  commands: ReadonlyArray<Command>,
  see: See
): void => {
  const isInstalled = commands.some((command) => command._tag === "Restore")
  const isKept = after.log === before.log
  see("a snapshot is installed and the log stays", isInstalled && isKept)
  see("a snapshot takes the place of a shorter log", isInstalled && !isKept && before.log.lastIndex < index)
  see(
    "a snapshot takes the place of a log that went another way",
    isInstalled && !isKept && before.log.lastIndex >= index
  )
  see("a snapshot is ignored because more is committed", !isInstalled && before.commitIndex > index)
  see("a server gets the state back that it lost", isInstalled && needsSnapshot(before) && !needsSnapshot(after))
}

const seenInMessage = (
  before: NodeState,
  from: string,
  message: Message,
  after: NodeState,
  commands: ReadonlyArray<Command>,
  see: See
): void => {
  const answers = sentIn(commands)
  switch (message._tag) {
    case "RequestVote": {
      const isFree = after.votedFor === undefined && message.term === after.term
      const isOlder = !isUpToDate(message.last, Log.lastId(before.log))
      see("a vote is denied for an older log", isFree && isOlder && answers.length > 0)
      const isIgnored = commands.length === 0 && message.term > before.term && after.term === before.term
      see("a vote request is ignored because a leader is alive", isIgnored)
      return
    }
    case "RequestPreVote": {
      const isDenied = answers.some((answer) => answer._tag === "RequestPreVoteResponse" && !answer.voteGranted)
      see("a pre-vote is denied", isDenied)
      return
    }
    case "RequestPreVoteResponse":
      see("a denial's term is adopted", !message.voteGranted && after.term === message.term && before.term < after.term)
      return
    case "AppendEntries": {
      const isStale = answers.some((answer) =>
        answer._tag === "AppendEntriesResponse" && answer.result._tag === "Stale"
      )
      see("a stale AppendEntries is answered", isStale)
      see("a follower cuts a conflicting entry", !Log.matches(after.log, Log.lastId(before.log)))
      return
    }
    case "AppendEntriesResponse":
      return seenInAnswer(before, from, message.result._tag === "Matched", after, commands, see)
    case "RequestReadIndexResponse":
      see("an answer comes to a later life of its asker", lifeOf(message.ask) !== lifeOf(before.askedReads.ask))
      return
    case "RequestVoteResponse":
    case "RequestReadIndex":
    case "TimeoutNow":
      return
    default:
      return message satisfies never
  }
}

const seenInAnswer = (
  before: NodeState,
  from: string,
  isMatch: boolean,
  after: NodeState,
  commands: ReadonlyArray<Command>,
  see: See
): void => {
  if (!isLeader(before) || !isLeader(after)) return
  const earlier = before.role.progress.get(from)
  const isSent = commands.some((command) => command._tag === "SendSnapshot")
  see("a follower is sent a second snapshot", isSent && earlier?._tag === "Snapshot")
  if (!isMatch) return
  const { progress, termStartIndex } = after.role
  // A probe starts right before the no-op: further back it went because of a rejection.
  const isBack = earlier?._tag === "Probe" && earlier.nextIndex < termStartIndex
  see("a rejection is repaired", isBack && progress.get(from)?._tag === "Replicate")
  const reached = Quorum.reachedByQuorum(after.configuration.latest, (id) => progress.get(id)?.matchIndex ?? 0)
  see(
    "an older term's entry is on a majority and not committed by counting",
    reached > after.commitIndex && (Log.termAt(after.log, reached) ?? after.term) < after.term
  )
}

export const seenInGroup = (writes: ReadonlyArray<Write>): Seen => {
  const withEntries = writes.filter((write) => write.entries.length > 0)
  const isCut = withEntries.some((write, i) => {
    const earlier = withEntries[i - 1]?.entries
    return earlier !== undefined && (write.entries[0]?.index ?? 0) <= (earlier[earlier.length - 1]?.index ?? 0)
  })
  return isCut ? bitOf("a merged write contains a cut") : 0
}
