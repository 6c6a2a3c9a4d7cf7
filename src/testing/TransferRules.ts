/**
 * Rule M7 as properties of single steps: who is told to stand and when, what that makes of it, and what a leader does and does not do until its
 * successor leads or it has waited for an election timeout.
 */
import type { Command, Send } from "../domain/Command.ts"
import { isVoter } from "../domain/Configuration.ts"
import type { RequestId } from "../domain/Event.ts"
import * as Log from "../domain/Log.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { isLeader, needsSnapshot } from "../domain/NodeState.ts"
import { demand, type DiskOf, holds } from "./Figure3.ts"
import type { Observed } from "./Watch.ts"

/** A transfer that a leader has taken on. */
interface Handing {
  readonly requestId: RequestId
  readonly sinceMs: number
}

const sendsOf = (commands: ReadonlyArray<Command>): ReadonlyArray<Send> =>
  commands.flatMap((command) => command._tag === "Send" ? [command] : command._tag === "Persist" ? command.then : [])

/** How the request ended in this step, if it did. */
const endOf = (commands: ReadonlyArray<Command>, requestId: RequestId): "Completed" | "Refused" | undefined => {
  for (const command of commands) {
    if (command._tag === "Complete" && command.requestId === requestId) return "Completed"
    if (command._tag === "HandedOver" && command.requestId === requestId) return "Completed"
    if (command._tag === "Refuse" && command.requestIds.includes(requestId)) return "Refused"
  }
  return undefined
}

export class TransferRules {
  readonly #diskOf: DiskOf
  readonly #handing = new Map<NodeId, Handing>()

  constructor(diskOf: DiskOf) {
    this.#diskOf = diskOf
  }

  started(id: NodeId): void {
    this.#handing.delete(id)
  }

  saw(observed: Observed): void {
    this.#told(observed)
    this.#stands(observed)
    const handing = this.#handing.get(observed.before.id)
    if (handing === undefined) this.#begins(observed)
    else this.#lasts(observed, handing)
  }

  #told({ after, before, commands }: Observed): void {
    for (const { message, to } of sendsOf(commands)) {
      if (message._tag !== "TimeoutNow") continue
      const detail = () => `${before.id}, ${before.role._tag}, tells ${to} to stand after term ${message.term}`
      const isSuccessor = to !== before.id && before.configuration.latest.voters.includes(to)
      demand(isLeader(before) && message.term === before.term, "only a leader tells another to stand (M7)", detail)
      demand(isSuccessor, "only a voter is told to stand (M7)", detail)
      const disk = this.#diskOf(to)
      // One that leaves has no time to wait for that.
      if (!isLeader(after) || disk === undefined || disk.hardState.term > before.term) continue
      demand(holds(disk, Log.lastId(before.log)), "only who has all of the log is told to stand (M7)", detail)
    }
  }

  /** Who is told to stand does so at once, without a pre-vote; and nobody else says that it was told to. */
  #stands({ after, before, commands, event }: Observed): void {
    const timeoutNow = event._tag === "Received" && event.message._tag === "TimeoutNow" ? event.message : undefined
    const isTold = timeoutNow !== undefined && timeoutNow.term >= before.term
    const detail = () => `${before.id}, ${event._tag} in term ${before.term}: ${after.role._tag} in term ${after.term}`
    if (isTold) {
      const isFit = (!isLeader(before) || timeoutNow.term > before.term) &&
        isVoter(before.configuration.latest, before.id) && !needsSnapshot(before)
      const stands = after.role._tag === "Candidate" && after.role.isTransfer && after.term === timeoutNow.term + 1
      demand(stands === isFit, "who is told to stand does so at once, if it can (M7)", detail)
    }
    for (const { message } of sendsOf(commands)) {
      if (message._tag !== "RequestVote") continue
      const isForLeader = isTold && message.term === timeoutNow.term + 1
      demand(message.isTransfer === isForLeader, "a vote is asked in a leader's name if it said so (M7)", detail)
    }
  }

  #begins({ after, before, commands, event, nowMs }: Observed): void {
    if (event._tag !== "TransferLeadership" || endOf(commands, event.requestId) !== undefined) return
    const { requestId } = event
    demand(isLeader(before) && isLeader(after), "only a leader hands over (M7)", () => before.id)
    this.#handing.set(before.id, { requestId, sinceMs: nowMs })
  }

  #lasts({ after, before, commands, event, nowMs }: Observed, { requestId, sinceMs }: Handing): void {
    const end = endOf(commands, requestId)
    const forMs = nowMs - sinceMs
    const detail = () => `${before.id}, for ${forMs} ms: ${event._tag}, ${end ?? "goes on"}`
    const accepts = commands.some(({ _tag }) => _tag === "Accept")
    demand(!accepts, "nothing is proposed while leadership is handed over (M7)", detail)
    const isFurther = isLeader(after) && end === undefined && after.log.lastIndex > before.log.lastIndex
    demand(!isFurther, "the log ends where the successor was told that it does (M7)", detail)
    const isDue = forMs >= before.settings.electionTimeoutMsMax
    if (end === undefined) {
      const isOverdue = event._tag === "Ticked" && nowMs >= before.deadlineMs && isDue
      demand(isLeader(after) && !isOverdue, "a transfer is given up after an election timeout (M7)", detail)
      return
    }
    this.#handing.delete(before.id)
    const isEarly = isLeader(after) && !isDue
    demand(!isEarly, "a transfer is not given up before an election timeout (M7)", detail)
    const isLed = end === "Completed" && isLeader(after)
    demand(!isLed, "a transfer is done when its leader has stepped down (M7)", detail)
  }
}
