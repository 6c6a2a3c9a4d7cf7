/**
 * Writes as a client sends them: in a session, so that whatever is sent again is applied once (thesis §6.3), or without one, so that what may
 * have been applied is never sent again (rule R4).
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SessionId } from "../domain/Entry.ts"
import { answersMax } from "../domain/Session.ts"
import type { ProposeError } from "./ClientErrors.ts"
import type { Item, Traffic, Verdict } from "./ClientLane.ts"
import { type ProposeFailure, questionsMax } from "./Connection.ts"
import { OutcomeUnknown, SessionExpired } from "./RaftNode.ts"

/** The numbers of one session's commands. */
class Numbers {
  readonly id: SessionId
  #next = 1
  /** Whose caller waits, ascending. */
  readonly #open = new Set<number>()

  constructor(id: SessionId) {
    this.id = id
  }

  get firstUnanswered(): number {
    for (const first of this.#open) return first
    return this.#next
  }

  /** The table keeps only so many answers: a command further on would push out one that somebody waits for. */
  get hasRoom(): boolean {
    return this.#next < this.firstUnanswered + answersMax
  }

  take(): number {
    this.#open.add(this.#next)
    return this.#next++
  }

  end(sequence: number): void {
    this.#open.delete(sequence)
  }
}

/** A command's number, which it keeps however often it is sent. */
interface Place {
  readonly session: Numbers
  readonly sequence: number
}

type Write = Item<ProposeError, Place | undefined>

/** About so many bytes travel as one batch; a larger command alone. */
const batchBytesMax = 1 << 20

/** The longest run from the front that fits into a batch. `admit` ends it early. */
export const takeRun = <I extends { readonly bytes: Uint8Array }>(
  waiting: ReadonlyArray<I>,
  admit: (item: I) => boolean
): ReadonlyArray<I> => {
  const taken: Array<I> = []
  let bytes = 0
  for (const item of waiting) {
    bytes += item.bytes.length
    if ((taken.length > 0 && bytes > batchBytesMax) || taken.length === questionsMax || !admit(item)) break
    taken.push(item)
  }
  return taken
}

const settled = (error: ProposeError): Verdict<ProposeError> => Exit.fail(error)

const unknown = (): Exit.Exit<never, ProposeError> => Exit.fail(new OutcomeUnknown())

/** Nobody knows what became of what was sent, and what was refused so far was not applied. */
const expired = (item: Write, unanswered: () => ProposeError): ProposeError =>
  item.isUnknown || item.isSent ? new OutcomeUnknown() : unanswered()

export type WriteTraffic = Traffic<ProposeError, Place | undefined, ProposeFailure>

/** Commands without a session. */
export const bare: WriteTraffic = {
  first: () => undefined,
  take: (waiting) => takeRun(waiting, () => true),
  send: (connection, items) => connection.propose(items.map(({ bytes }) => ({ command: bytes, sequenced: undefined }))),
  attemptMs: undefined,
  onFailure: (_, failure) => {
    switch (failure._tag) {
      case "NotLeader":
      case "Overloaded":
      case "Stopped":
        return "again"
      case "Lost":
      case "Cut":
        return settled(new OutcomeUnknown())
      case "TooLarge":
      case "OutcomeUnknown":
      case "SessionExpired":
        return settled(failure)
      default:
        return failure satisfies never
    }
  },
  onDefect: unknown,
  onExpired: expired,
  onSettled: () => {}
}

/** A command that is certainly not applied may go into another session; of any other its first session alone could tell. */
const renumbered = (item: Write): Verdict<ProposeError> => {
  if (item.isUnknown) return settled(new SessionExpired())
  item.place?.session.end(item.place.sequence)
  item.place = undefined
  return "again"
}

/** Commands in a session, which is opened before the first one, and again when it has expired. */
export const inSession = (attemptMs: number): WriteTraffic => {
  let session: Numbers | undefined

  const onFailure = (item: Write, failure: ProposeFailure | { readonly _tag: "Lost" }): Verdict<ProposeError> => {
    switch (failure._tag) {
      case "Lost":
      case "Cut":
      case "OutcomeUnknown":
        item.isUnknown = true
        break
      case "NotLeader":
      case "Overloaded":
      case "Stopped":
        break
      case "TooLarge":
        return settled(item.isUnknown ? new OutcomeUnknown() : failure)
      case "SessionExpired":
        if (item.place?.session === session) session = undefined
        return renumbered(item)
      default:
        return failure satisfies never
    }
    // Its session may have been found expired by another command meanwhile.
    return item.place === undefined || item.place.session === session ? "again" : renumbered(item)
  }

  return {
    first: (connection) =>
      session === undefined
        ? Effect.map(connection.openSession, (id) => {
          session = new Numbers(id)
        })
        : undefined,
    take: (waiting) => {
      // All of a batch are in one session. One that has expired meanwhile is asked once more: only it knows what it has executed.
      const current = waiting[0]?.place?.session ?? session
      return takeRun(waiting, (item) => {
        if (item.place !== undefined) return item.place.session === current
        if (current === undefined || current !== session || !current.hasRoom) return false
        item.place = { session: current, sequence: current.take() }
        return true
      })
    },
    send: (connection, items) => {
      const firstUnanswered = items[0]?.place?.session.firstUnanswered ?? 1
      return connection.propose(items.map(({ bytes, place }) => ({
        command: bytes,
        sequenced: place === undefined
          ? undefined
          : { session: place.session.id, sequence: place.sequence, firstUnanswered }
      })))
    },
    attemptMs,
    onFailure,
    onDefect: unknown,
    onExpired: expired,
    onSettled: ({ place }) => place?.session.end(place.sequence)
  }
}
