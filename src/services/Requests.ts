/**
 * The callers that wait for an answer: who asked what, where their commands went in the log, and until when they wait. A caller is
 * answered exactly once. Everything here is synchronous and per node.
 */
import * as Exit from "effect/Exit"
import type { Refusal } from "../domain/Command.ts"
import type { EntryId, LogIndex, SessionId } from "../domain/Entry.ts"
import type { RequestId } from "../domain/Event.ts"
import type { NodeId } from "../domain/NodeId.ts"
import {
  type ChangeError,
  ChangeRefused,
  NotLeader,
  type OpenError,
  OutcomeUnknown,
  Overloaded,
  type ProposeError,
  type ReadError,
  ReadUnconfirmed,
  SessionExpired,
  Stopped
} from "./RaftErrors.ts"

export type Resume<A, E> = (answer: Exit.Exit<A, E>) => void

/** The answer to a query, and the last entry that the state it came from had applied. */
export interface Answered {
  readonly answer: Uint8Array
  readonly appliedIndex: LogIndex
}

interface WaitingProposal {
  readonly _tag: "Proposal"
  readonly resume: Resume<Uint8Array, ProposeError | SessionExpired>
  readonly deadlineMs: number
  /** The entry the command became; `undefined` until the leader has taken it. */
  entry: EntryId | undefined
}

/** A session that is being opened: its name is the index of the entry that this became. */
interface WaitingOpening {
  readonly _tag: "Opening"
  readonly resume: Resume<SessionId, OpenError>
  readonly deadlineMs: number
  entry: EntryId | undefined
}

/** A change of the cluster: it has happened, or was refused. */
interface WaitingChange {
  readonly _tag: "Change"
  readonly resume: Resume<void, ChangeError>
  readonly deadlineMs: number
  /** Of a transfer: who is to lead; `undefined`: anybody. */
  readonly successor?: NodeId | undefined
}

/** What a committed entry came to: a result, none where it is no command, or a command of a session that is no more. */
export type Outcome = Uint8Array | "SessionExpired" | undefined

interface WaitingRead {
  readonly _tag: "Read"
  readonly resume: Resume<Answered, ReadError>
  readonly deadlineMs: number
  readonly query: Uint8Array
}

type Waiting = WaitingProposal | WaitingOpening | WaitingRead | WaitingChange

const entryOf = (waiting: Waiting): EntryId | undefined =>
  waiting._tag === "Proposal" || waiting._tag === "Opening" ? waiting.entry : undefined

const notLeader = (leader: string | undefined): NotLeader =>
  leader === undefined ? new NotLeader({}) : new NotLeader({ leader })

/** What a caller hears whose request ends without an answer: a command may still take effect. */
const unanswered = (waiting: Waiting): void => {
  if (waiting._tag === "Read") waiting.resume(Exit.fail(new ReadUnconfirmed()))
  else waiting.resume(Exit.fail(new OutcomeUnknown()))
}

const transferred = (leader: NodeId, successor: NodeId | undefined): Exit.Exit<void, ChangeRefused> =>
  successor === undefined || successor === leader ? Exit.void : Exit.fail(
    new ChangeRefused({ reason: "NotReady", message: `${leader} leads now, and ${successor} does not: ask again` })
  )

/** A refusal of the core as its caller meets it. */
export const errorOf = (refusal: Refusal): NotLeader | Overloaded | OutcomeUnknown | ChangeRefused => {
  switch (refusal._tag) {
    case "NotLeader":
      return notLeader(refusal.leaderId)
    case "Overloaded":
      return new Overloaded()
    case "OutcomeUnknown":
      return new OutcomeUnknown()
    case "Impossible":
      return new ChangeRefused({ reason: refusal.reason, message: refusal.message })
    default:
      return refusal satisfies never
  }
}

export class Requests {
  /** Oldest first, and all wait equally long: so also the next to expire first. */
  readonly #waiting = new Map<RequestId, Waiting>()
  readonly #byIndex = new Map<LogIndex, RequestId>()
  readonly #limits: { readonly timeoutMs: number; readonly waitingMax: number }
  readonly #handedOver = new Set<RequestId>()
  #lastId = 0

  constructor(limits: { readonly timeoutMs: number; readonly waitingMax: number }) {
    this.#limits = limits
  }

  get isFull(): boolean {
    return this.#waiting.size >= this.#limits.waitingMax
  }

  proposal(nowMs: number, resume: Resume<Uint8Array, ProposeError | SessionExpired>): RequestId {
    return this.#add({ _tag: "Proposal", resume, deadlineMs: nowMs + this.#limits.timeoutMs, entry: undefined })
  }

  read(nowMs: number, query: Uint8Array, resume: Resume<Answered, ReadError>): RequestId {
    return this.#add({ _tag: "Read", resume, deadlineMs: nowMs + this.#limits.timeoutMs, query })
  }

  opening(nowMs: number, resume: Resume<SessionId, OpenError>): RequestId {
    return this.#add({ _tag: "Opening", resume, deadlineMs: nowMs + this.#limits.timeoutMs, entry: undefined })
  }

  change(nowMs: number, resume: Resume<void, ChangeError>): RequestId {
    return this.#add({ _tag: "Change", resume, deadlineMs: nowMs + this.#limits.timeoutMs })
  }

  transfer(nowMs: number, successor: NodeId | undefined, resume: Resume<void, ChangeError>): RequestId {
    return this.#add({ _tag: "Change", resume, deadlineMs: nowMs + this.#limits.timeoutMs, successor })
  }

  #add(waiting: Waiting): RequestId {
    const id = ++this.#lastId
    this.#waiting.set(id, waiting)
    return id
  }

  /** Ends the wait and says who waited, if anybody still does. */
  #take(id: RequestId): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return undefined
    this.#waiting.delete(id)
    const index = entryOf(waiting)?.index
    if (index !== undefined && this.#byIndex.get(index) === id) this.#byIndex.delete(index)
    return waiting
  }

  /** The commands became the entries from `first` on. */
  accept(requestIds: ReadonlyArray<RequestId>, first: EntryId): void {
    for (const [i, id] of requestIds.entries()) {
      const index = first.index + i
      // An older command at this index was cut from this log, yet another server may still hold it: its fate is open.
      const replaced = this.#byIndex.get(index)
      if (replaced !== undefined) this.#expireOne(replaced)
      const waiting = this.#waiting.get(id)
      if (waiting?._tag !== "Proposal" && waiting?._tag !== "Opening") continue
      waiting.entry = { term: first.term, index }
      this.#byIndex.set(index, id)
    }
  }

  refuse(requestIds: ReadonlyArray<RequestId>, refusal: Refusal): void {
    const error = errorOf(refusal)
    for (const id of requestIds) {
      const waiting = this.#take(id)
      if (waiting?._tag === "Change") waiting.resume(Exit.fail(error))
      // The core refuses commands and reads for these two reasons alone.
      else if (error._tag === "NotLeader" || error._tag === "Overloaded") waiting?.resume(Exit.fail(error))
      else if (waiting !== undefined) unanswered(waiting)
    }
  }

  /** The change or transfer has happened. */
  complete(id: RequestId): void {
    const waiting = this.#take(id)
    if (waiting?._tag === "Change") waiting.resume(Exit.void)
  }

  /** A transfer ends with whoever leads next. */
  handedOver(id: RequestId): void {
    this.#handedOver.add(id)
  }

  /** `leader` leads, if anybody is known to: that is what became of transfers. */
  led(leader: NodeId | undefined): void {
    if (leader === undefined) return
    for (const id of this.#handedOver) {
      const waiting = this.#take(id)
      if (waiting?._tag === "Change") waiting.resume(transferred(leader, waiting.successor))
    }
    this.#handedOver.clear()
  }

  /** `entry` was applied. Whoever waited for another entry at its index now knows that theirs never will be (Log Matching). */
  applied(entry: EntryId, result: Outcome): void {
    const id = this.#byIndex.get(entry.index)
    if (id === undefined) return
    const waiting = this.#take(id)
    if (waiting?._tag === "Opening") {
      waiting.resume(
        waiting.entry?.term === entry.term ? Exit.succeed(entry.index) : Exit.fail(notLeader(undefined))
      )
    }
    if (waiting?._tag !== "Proposal") return
    if (waiting.entry?.term !== entry.term || result === undefined) waiting.resume(Exit.fail(notLeader(undefined)))
    else if (result === "SessionExpired") waiting.resume(Exit.fail(new SessionExpired()))
    else waiting.resume(Exit.succeed(result))
  }

  /** The query of a read that still waits. */
  queryOf(id: RequestId): Uint8Array | undefined {
    const waiting = this.#waiting.get(id)
    return waiting?._tag === "Read" ? waiting.query : undefined
  }

  /** Ends a read with its answer, or with the defect that its query met. */
  answer(id: RequestId, answer: Exit.Exit<Uint8Array>, appliedIndex: LogIndex): void {
    const waiting = this.#take(id)
    if (waiting?._tag === "Read") waiting.resume(Exit.map(answer, (bytes) => ({ answer: bytes, appliedIndex })))
  }

  /** A snapshot took the place of everything up to `index`: what became of the commands there it does not say. */
  restored(index: LogIndex): void {
    const replaced = Array.from(this.#byIndex).filter(([at]) => at <= index)
    for (const [, id] of replaced) this.#expireOne(id)
  }

  /** The caller no longer waits. A command it proposed may still be applied. */
  cancel(id: RequestId): void {
    this.#take(id)
  }

  #expireOne(id: RequestId): void {
    const waiting = this.#take(id)
    if (waiting !== undefined) unanswered(waiting)
  }

  expire(nowMs: number): void {
    for (const [id, waiting] of this.#waiting) {
      if (waiting.deadlineMs > nowMs) return
      this.#expireOne(id)
    }
  }

  nextDeadlineMs(): number {
    for (const waiting of this.#waiting.values()) return waiting.deadlineMs
    return Infinity
  }

  /** The turn loop has ended, and nobody is left waiting. What it had not taken yet it never will. */
  close(): void {
    for (const waiting of this.#waiting.values()) {
      const isTaken = waiting._tag === "Change" || waiting._tag === "Read" || waiting.entry !== undefined
      if (isTaken) unanswered(waiting)
      else waiting.resume(Exit.fail(new Stopped()))
    }
    this.#waiting.clear()
    this.#byIndex.clear()
  }
}
