/**
 * The callers that wait for an answer: who asked what, where their commands went in the log, and until when they wait. A caller is
 * answered exactly once. Everything here is synchronous and per node.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Refusal } from "../domain/Command.ts"
import type { EntryId, LogIndex } from "../domain/Entry.ts"
import type { RequestId } from "../domain/Event.ts"
import {
  NotLeader,
  OutcomeUnknown,
  Overloaded,
  type ProposeError,
  type ReadError,
  ReadUnconfirmed,
  Stopped
} from "./RaftErrors.ts"

type Resume<A, E> = (answer: Effect.Effect<A, E>) => void

/** The answer to a query, and the last entry that the state it came from had applied. */
export interface Answered {
  readonly answer: Uint8Array
  readonly appliedIndex: LogIndex
}

interface WaitingProposal {
  readonly _tag: "Proposal"
  readonly resume: Resume<Uint8Array, ProposeError>
  readonly deadlineMs: number
  /** The entry the command became; `undefined` until the leader has taken it. */
  entry: EntryId | undefined
}

interface WaitingRead {
  readonly _tag: "Read"
  readonly resume: Resume<Answered, ReadError>
  readonly deadlineMs: number
  readonly query: Uint8Array
}

type Waiting = WaitingProposal | WaitingRead

const notLeader = (leader: string | undefined): NotLeader =>
  leader === undefined ? new NotLeader({}) : new NotLeader({ leader })

/** What a caller hears whose request ends without an answer: a command may still take effect. */
const unanswered = (waiting: Waiting): void => {
  if (waiting._tag === "Read") waiting.resume(Effect.fail(new ReadUnconfirmed()))
  else waiting.resume(Effect.fail(new OutcomeUnknown()))
}

export class Requests {
  /** Oldest first, and all wait equally long: so also the next to expire first. */
  readonly #waiting = new Map<RequestId, Waiting>()
  readonly #byIndex = new Map<LogIndex, RequestId>()
  readonly #limits: { readonly timeoutMs: number; readonly waitingMax: number }
  #lastId = 0

  constructor(limits: { readonly timeoutMs: number; readonly waitingMax: number }) {
    this.#limits = limits
  }

  get isFull(): boolean {
    return this.#waiting.size >= this.#limits.waitingMax
  }

  proposal(nowMs: number, resume: Resume<Uint8Array, ProposeError>): RequestId {
    return this.#add({ _tag: "Proposal", resume, deadlineMs: nowMs + this.#limits.timeoutMs, entry: undefined })
  }

  read(nowMs: number, query: Uint8Array, resume: Resume<Answered, ReadError>): RequestId {
    return this.#add({ _tag: "Read", resume, deadlineMs: nowMs + this.#limits.timeoutMs, query })
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
    if (waiting._tag === "Proposal" && waiting.entry !== undefined && this.#byIndex.get(waiting.entry.index) === id) {
      this.#byIndex.delete(waiting.entry.index)
    }
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
      if (waiting?._tag !== "Proposal") continue
      waiting.entry = { term: first.term, index }
      this.#byIndex.set(index, id)
    }
  }

  refuse(requestIds: ReadonlyArray<RequestId>, refusal: Refusal): void {
    for (const id of requestIds) {
      const waiting = this.#take(id)
      const error = refusal._tag === "NotLeader" ? notLeader(refusal.leaderId) : new Overloaded()
      waiting?.resume(Effect.fail(error))
    }
  }

  /** `entry` was applied. Whoever waited for another entry at its index now knows that theirs never will be (Log Matching). */
  applied(entry: EntryId, result: Uint8Array | undefined): void {
    const id = this.#byIndex.get(entry.index)
    if (id === undefined) return
    const waiting = this.#take(id)
    if (waiting?._tag !== "Proposal") return
    const isTheirs = waiting.entry?.term === entry.term && result !== undefined
    waiting.resume(isTheirs ? Effect.succeed(result) : Effect.fail(notLeader(undefined)))
  }

  /** The query of a read that still waits. */
  queryOf(id: RequestId): Uint8Array | undefined {
    const waiting = this.#waiting.get(id)
    return waiting?._tag === "Read" ? waiting.query : undefined
  }

  /** Ends a read with its answer, or with the defect that its query met. */
  answer(id: RequestId, answer: Exit.Exit<Uint8Array>, appliedIndex: LogIndex): void {
    const waiting = this.#take(id)
    if (waiting?._tag === "Read") waiting.resume(Effect.map(answer, (bytes) => ({ answer: bytes, appliedIndex })))
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
      if (waiting._tag === "Proposal" && waiting.entry === undefined) waiting.resume(Effect.fail(new Stopped()))
      else unanswered(waiting)
    }
    this.#waiting.clear()
    this.#byIndex.clear()
  }
}
