/**
 * A run as text, one line per event in fixed columns:
 *
 * ```
 *     time ms node role         term event                                               commit last
 *     152.000 n1   Candidate       1 Ticked                                                   0    0
 *     154.000 n2   Follower        1 RequestVote from n1, last 0.0                            0    0
 * ```
 *
 * Role, term, commit and last are those after the event. `5.17` is entry 17 of term 5.
 */
import type { EntryId } from "../domain/Entry.ts"
import type { Event } from "../domain/Event.ts"
import type { Message } from "../domain/Message.ts"
import * as Operator from "./Operator.ts"
import type { Observed } from "./Watch.ts"

const idText = (id: EntryId): string => `${id.term}.${id.index}`

const grantText = (voteGranted: boolean): string => voteGranted ? "granted" : "denied"

/** What a message says beyond its term and its sender. */
export const messageText = (message: Message): string => {
  switch (message._tag) {
    case "RequestVote":
      return `last ${idText(message.last)}${message.isTransfer ? ", asked to stand by the leader" : ""}`
    case "RequestPreVote":
      return `last ${idText(message.last)}`
    case "RequestVoteResponse":
    case "RequestPreVoteResponse":
      return grantText(message.voteGranted)
    case "AppendEntries":
      return `prev ${
        idText(message.prev)
      } +${message.entries.length} commit ${message.leaderCommit} round ${message.round}`
    case "AppendEntriesResponse": {
      const { result, round } = message
      if (result._tag === "Stale") return "stale"
      if (result._tag === "NeedsSnapshot") return `needs a snapshot from ${result.prevIndex} round ${round}`
      if (result._tag === "Matched") return `matched ${result.matchIndex} round ${round}`
      const { conflict, prevIndex } = result
      return `rejected ${prevIndex}, holds ${conflict.term ?? "nothing"} from ${conflict.index} round ${round}`
    }
    case "RequestReadIndex":
      return `ask ${message.ask}`
    case "RequestReadIndexResponse":
      return `ask ${message.ask} index ${message.readIndex ?? "none"}`
    case "TimeoutNow":
      return "stand for election now"
    default:
      return message satisfies never
  }
}

export const eventText = (event: Event): string => {
  switch (event._tag) {
    case "Ticked":
      return "Ticked"
    case "Received":
      return `${event.message._tag} from ${event.from}, term ${event.message.term}, ${messageText(event.message)}`
    case "Applied":
      return `Applied ${event.index}`
    case "PeerLost":
      return `PeerLost ${event.peer}`
    case "Propose":
      return `Propose ${event.proposals.length}`
    case "Read":
      return `Read ${event.requestIds.length} by ${event.by}`
    case "OpenSession":
      return "OpenSession"
    case "Reconfigure":
      return `Reconfigure ${event.changes.map(({ _tag, id }) => `${_tag} ${id}`).join(", ")}`
    case "TransferLeadership":
      return `TransferLeadership to ${event.to ?? "the best"}`
    case "SnapshotTaken":
      return `SnapshotTaken ${idText(event.snapshot.last)}`
    case "SnapshotFailed":
      return "SnapshotFailed"
    case "SnapshotSent":
      return `SnapshotSent to ${event.peer}`
    case "SnapshotPieceReceived":
      return `SnapshotPieceReceived from ${event.from}, term ${event.term}`
    case "SnapshotReceived":
      return `SnapshotReceived ${idText(event.snapshot.last)} from ${event.from}, term ${event.term}`
    default:
      return event satisfies never
  }
}

/** What the server goes by since this step, if that is another configuration than before. */
export const configurationText = ({ after, before }: Observed): string | undefined => {
  const { latest, latestIndex } = after.configuration
  return latest === before.configuration.latest
    ? undefined
    : `${after.id} goes by ${Operator.configurationText(latest)}, from ${latestIndex}`
}

/** Longer events are cut. */
const eventWidth = 84

const columns = (
  nowMs: number,
  node: string,
  role: string,
  term: string,
  event: string,
  commit: string,
  last: string
): string =>
  `${nowMs.toFixed(3).padStart(11)} ${node.padEnd(4)} ${role.padEnd(12)} ${term.padStart(4)} ${
    event.slice(0, eventWidth).padEnd(eventWidth)
  } ${commit.padStart(6)} ${last.padStart(5)}`

export const header = `${"time ms".padStart(11)} node role         term ${"event".padEnd(eventWidth)} commit  last`

/** The line of one step. */
export const stepText = (nowMs: number, { after, event }: Observed): string =>
  columns(
    nowMs,
    after.id,
    after.role._tag,
    String(after.term),
    eventText(event),
    String(after.commitIndex),
    String(after.log.lastIndex)
  )

/** The line of something that is no step: a fault, or what a client was told. */
export const noteText = (nowMs: number, text: string): string => columns(nowMs, "", "", "", text, "", "").trimEnd()
