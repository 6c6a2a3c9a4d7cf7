/**
 * Rules R2 and R3 as properties: a read is served only after a majority has answered something that the leader sent in this term after the
 * read came, or, by lease, so lately that none of that majority can have helped elect another leader. Messages are told apart by their
 * identity, which a network in memory keeps, so that the leader's own numbers of rounds and questions are not trusted.
 */
import type { RequestId } from "../domain/Event.ts"
import type {
  AppendEntries,
  AppendEntriesResponse,
  Message,
  RequestReadIndex,
  RequestReadIndexResponse
} from "../domain/Message.ts"
import type { NodeId } from "../domain/NodeId.ts"
import type { NodeState } from "../domain/NodeState.ts"
import { demand, majorityOf } from "./Figure3.ts"
import type { Observed } from "./Watch.ts"

/** A point in the life of a cluster: the number of a step, and the time of the node that took it. */
interface Point {
  readonly step: number
  readonly ms: number
}

interface Asked {
  readonly by: NodeId
  readonly term: number
  readonly at: Point
}

export class ReadRules {
  #steps = 0
  readonly #sent = new WeakMap<AppendEntries, Asked>()
  readonly #answered = new WeakMap<AppendEntriesResponse, Asked>()
  /** When reads came to a server, by its id. */
  readonly #came = new Map<NodeId, Map<RequestId, number>>()
  /** The latest of a leader's messages that each server has answered. */
  readonly #latest = new Map<string, Point>()
  /** The step that sent a question of a follower, and by leader, follower and number when it came there. */
  readonly #questions = new WeakMap<RequestReadIndex, number>()
  readonly #pending = new Map<string, { readonly came: number; readonly sent: number }>()
  /** The step that sent the question that this answers. */
  readonly #replies = new WeakMap<RequestReadIndexResponse, number>()

  started(id: NodeId): void {
    this.#came.set(id, new Map())
  }

  saw(observed: Observed): void {
    const { before: { id }, event } = observed
    const at: Point = { step: ++this.#steps, ms: observed.nowMs }
    if (event._tag === "Read") { for (const request of event.requestIds) this.#came.get(id)?.set(request, at.step) }
    const received = event._tag === "Received" ? event.message : undefined
    if (event._tag === "Received") this.#received(id, event.from, event.message, at.step)
    for (const command of observed.commands) {
      if (command._tag === "ServeRead") {
        for (const requestId of command.requestIds) this.#served(observed, at, requestId)
        continue
      }
      const sends = command._tag === "Send" ? [command] : command._tag === "Persist" ? command.then : []
      for (const { message, to } of sends) this.#sends(observed.after, to, message, received, at)
    }
  }

  #received(id: NodeId, from: NodeId, message: Message, step: number): void {
    if (message._tag === "AppendEntriesResponse") this.#heard(id, from, message)
    if (message._tag === "RequestReadIndex") {
      const sent = this.#questions.get(message) ?? Infinity
      const key = `${id} ${from} ${message.ask}`
      // It may come twice, and is answered for the first time.
      if (!this.#pending.has(key)) this.#pending.set(key, { came: step, sent })
    }
  }

  #sends(by: NodeState, to: NodeId, message: Message, received: Message | undefined, at: Point): void {
    switch (message._tag) {
      case "AppendEntries":
        this.#sent.set(message, { by: by.id, term: by.term, at })
        return
      case "AppendEntriesResponse": {
        const asked = received?._tag === "AppendEntries" ? this.#sent.get(received) : undefined
        if (asked !== undefined) this.#answered.set(message, asked)
        return
      }
      case "RequestReadIndex":
        this.#questions.set(message, at.step)
        return
      case "RequestReadIndexResponse": {
        if (message.readIndex === undefined) return
        const pending = this.#pending.get(`${by.id} ${to} ${message.ask}`)
        this.#confirmed(by, pending?.came ?? Infinity, `question ${message.ask} of ${to}`)
        if (pending !== undefined) this.#replies.set(message, pending.sent)
        return
      }
      default:
    }
  }

  #heard(id: NodeId, from: NodeId, message: AppendEntriesResponse): void {
    const asked = this.#answered.get(message)
    if (asked === undefined || asked.by !== id || message.result._tag === "Stale" || message.term !== asked.term) return
    const key = `${id} ${asked.term} ${from}`
    const known = this.#latest.get(key)
    if (known === undefined || known.step < asked.at.step) this.#latest.set(key, asked.at)
  }

  #served({ after, event }: Observed, at: Point, request: RequestId): void {
    const came = this.#came.get(after.id)?.get(request) ?? Infinity
    if (event._tag === "Received" && event.message._tag === "RequestReadIndexResponse") {
      const asked = this.#replies.get(event.message) ?? -Infinity
      const property = "a read is confirmed by an answer to a question sent after it came (R2)"
      demand(came <= asked, property, () => `${after.id} serves read ${request}`)
    } else if (event._tag === "Read" && event.by === "Lease") this.#leased(after, at, request)
    else this.#confirmed(after, came, `read ${request}`)
  }

  #confirmed(leader: NodeState, came: number, what: string): void {
    const { configuration: { voters }, id, term } = leader
    const confirmed = voters.filter((voter) =>
      voter === id || (this.#latest.get(`${id} ${term} ${voter}`)?.step ?? 0) >= came
    )
    demand(
      confirmed.length >= majorityOf(voters),
      "a read is confirmed by a majority that was asked after it came (R2)",
      () => `${id} confirms ${what} in term ${term} by ${confirmed.join(", ")} only`
    )
  }

  #leased(leader: NodeState, at: Point, request: RequestId): void {
    const { configuration: { voters }, id, settings, term } = leader
    const leaseMs = settings.electionTimeoutMsMin * (1 - settings.clockDriftPercentMax / 100)
    const bound = voters.filter((voter) =>
      voter === id || at.ms - (this.#latest.get(`${id} ${term} ${voter}`)?.ms ?? -Infinity) < leaseMs
    )
    demand(
      (settings.leaseReads || majorityOf(voters) === 1) && bound.length >= majorityOf(voters),
      "a lease counts from when an acknowledged round was sent (R3)",
      () => `${id} serves read ${request} in term ${term} while only ${bound.join(", ")} are bound`
    )
  }
}
