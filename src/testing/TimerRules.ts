/**
 * Rules V9 and V10 as properties of single steps: when a leader must give up, and what puts an election off.
 */
import type { NodeId } from "../domain/NodeId.ts"
import { isLeader, type NodeState } from "../domain/NodeState.ts"
import { demand } from "./Figure3.ts"
import { reached } from "./Majorities.ts"
import type { Observed } from "./Watch.ts"

interface Timing {
  /** When this leader last had an answer of its own term from each server, or began to send to it. */
  heardMs: Map<NodeId, number>
  ledSinceMs: number
  /** The last election timeouts that were drawn since the server started. */
  drawn: ReadonlyArray<number>
}

/** So many equal draws in a row do not happen where there are fifty values to draw from. */
const equalDrawsMax = 12

export class TimerRules {
  readonly #timing = new Map<NodeId, Timing>()

  started(id: NodeId): void {
    this.#timing.set(id, { heardMs: new Map(), ledSinceMs: 0, drawn: [] })
  }

  saw(observed: Observed): void {
    const timing = this.#timing.get(observed.before.id)
    if (timing === undefined) return
    this.#leads(observed, timing)
    this.#waits(observed, timing)
  }

  #leads({ after, before, event, nowMs }: Observed, timing: Timing): void {
    if (isLeader(after) && !isLeader(before)) {
      timing.heardMs = new Map()
      timing.ledSinceMs = nowMs
    }
    if (!isLeader(before)) return
    if (event._tag === "Received" && event.message._tag === "AppendEntriesResponse") {
      const { message } = event
      if (message.term === before.term && message.result._tag !== "Stale") timing.heardMs.set(event.from, nowMs)
    }
    // Who has just been added has its time to answer.
    if (isLeader(after) && after.role.progress.size > before.role.progress.size) {
      for (const id of after.role.progress.keys()) if (!before.role.progress.has(id)) timing.heardMs.set(id, nowMs)
    }
    if (event._tag !== "Ticked" || nowMs < before.deadlineMs) return
    demand(after.term === before.term, "a leader that gives up stays in its term (V9)", () => before.id)
    if (!before.settings.checkQuorum) return
    const heardMs = reached(
      before.configuration.latest,
      (id) => id === before.id ? nowMs : timing.heardMs.get(id) ?? timing.ledSinceMs
    )
    const isCutOff = nowMs - heardMs >= before.settings.electionTimeoutMsMax
    demand(
      isCutOff !== isLeader(after),
      "a leader gives up once it has heard no majority for an election timeout, and not before (V9)",
      () =>
        `${before.id} last heard a majority ${nowMs - heardMs} ms ago and ${isLeader(after) ? "leads on" : "gives up"}`
    )
  }

  #waits({ after, before, event, nowMs }: Observed, timing: Timing): void {
    const isMoved = after.deadlineMs !== before.deadlineMs
    if (isMoved) {
      const detail = () => `${before.id}, ${event._tag === "Received" ? event.message._tag : event._tag}`
      demand(mayMove({ after, before, event, nowMs }), "only what V10 names puts an election off (V10)", detail)
    }
    if (isLeader(after)) return
    if (event._tag === "Received" && event.message._tag === "AppendEntries" && event.message.term >= before.term) {
      const isOff = after.deadlineMs >= nowMs + before.settings.electionTimeoutMsMin || after === before
      demand(isOff, "a leader that is heard puts the election off (V10)", () => before.id)
    }
    if (!isMoved) return
    timing.drawn = [...timing.drawn, Math.round(after.deadlineMs - nowMs)].slice(-equalDrawsMax)
    demand(
      timing.drawn.length < equalDrawsMax || new Set(timing.drawn).size > 1,
      "every election timeout is drawn anew (V10)",
      () => `${before.id} waits ${timing.drawn[0]} ms for the ${equalDrawsMax}th time in a row`
    )
  }
}

const stoodUp = (before: NodeState, after: NodeState): boolean =>
  after.role._tag === "Candidate" && (before.role._tag !== "Candidate" || after.term > before.term)

const mayMove = ({ after, before, event, nowMs }: Pick<Observed, "after" | "before" | "event" | "nowMs">): boolean => {
  if (event._tag === "Ticked") return nowMs >= before.deadlineMs
  if (isLeader(before) !== isLeader(after) || stoodUp(before, after)) return true
  if (event._tag === "SnapshotPieceReceived") return event.term >= before.term
  if (event._tag !== "Received") return false
  const { from, message } = event
  if (message._tag === "AppendEntries") return message.term >= before.term
  const hasVoted = after.votedFor === from && (before.votedFor !== from || after.term > before.term)
  return message._tag === "RequestVote" && hasVoted
}
