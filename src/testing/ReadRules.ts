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
import { isLeader, type NodeState } from "../domain/NodeState.ts"
import { demand } from "./Figure3.ts"
import { decide, groupsOf, reached, votersText } from "./Majorities.ts"
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

  /** By leader and term: until when its lease lasts, and whether it has told another server to stand. */
  readonly #leases = new Map<string, number>()
  readonly #handedOver = new Set<string>()

  started(id: NodeId): void {
    this.#came.set(id, new Map())
  }

  saw(observed: Observed): void {
    const { before: { id }, event } = observed
    const at: Point = { step: ++this.#steps, ms: observed.nowMs }
    if (event._tag === "Read") { for (const request of event.requestIds) this.#came.get(id)?.set(request, at.step) }
    const { before } = observed
    // Who decides alone has a lease at any time, which lasts when it does not any more.
    if (isLeader(before) && decide(before.configuration.latest, (voter) => voter === id)) this.#earn(before, at)
    const received = event._tag === "Received" ? event.message : undefined
    if (event._tag === "Received") this.#received(observed, event.from, event.message, at)
    for (const command of observed.commands) {
      if (command._tag === "ServeRead") {
        for (const requestId of command.requestIds) this.#served(observed, at, requestId)
        continue
      }
      const sends = command._tag === "Send" ? [command] : command._tag === "Persist" ? command.then : []
      for (const { message, to } of sends) this.#sends(observed, to, message, received, at)
    }
  }

  #received(observed: Observed, from: NodeId, message: Message, at: Point): void {
    if (message._tag === "AppendEntriesResponse") this.#heard(observed, at, from, message)
    if (message._tag === "RequestReadIndex") {
      const sent = this.#questions.get(message) ?? Infinity
      const key = `${observed.before.id} ${from} ${message.ask}`
      // It may come twice, and is answered for the first time.
      if (!this.#pending.has(key)) this.#pending.set(key, { came: at.step, sent })
    }
  }

  #sends(
    { after: by, before }: Observed,
    to: NodeId,
    message: Message,
    received: Message | undefined,
    at: Point
  ): void {
    switch (message._tag) {
      case "TimeoutNow":
        this.#handedOver.add(`${before.id} ${message.term}`)
        return
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
        this.#confirmed(before, pending?.came ?? Infinity, `question ${message.ask} of ${to}`)
        if (pending !== undefined) this.#replies.set(message, pending.sent)
        return
      }
      default:
    }
  }

  #heard({ before }: Observed, at: Point, from: NodeId, message: AppendEntriesResponse): void {
    const { id } = before
    const asked = this.#answered.get(message)
    if (asked === undefined || asked.by !== id || message.result._tag === "Stale" || message.term !== asked.term) return
    const key = `${id} ${asked.term} ${from}`
    const known = this.#latest.get(key)
    if (known === undefined || known.step < asked.at.step) this.#latest.set(key, asked.at)
    if (before.term === asked.term) this.#earn(before, at)
  }

  /** When what each voter has answered last was sent; the leader itself is asked and answers now. */
  #askedMs({ id, term }: NodeState, at: Point, voter: NodeId): number {
    return voter === id ? at.ms : this.#latest.get(`${id} ${term} ${voter}`)?.ms ?? -Infinity
  }

  /** A lease lasts from when something was sent that a majority of those in force then has answered, whoever is in force later. */
  #earn(leader: NodeState, at: Point): number {
    const key = `${leader.id} ${leader.term}`
    const askedMs = reached(leader.configuration.latest, (voter) => this.#askedMs(leader, at, voter))
    const untilMs = Math.max(this.#leases.get(key) ?? -Infinity, askedMs + leaseMs(leader))
    this.#leases.set(key, untilMs)
    return untilMs
  }

  #served({ before, event }: Observed, at: Point, request: RequestId): void {
    const came = this.#came.get(before.id)?.get(request) ?? Infinity
    if (event._tag === "Received" && event.message._tag === "RequestReadIndexResponse") {
      const asked = this.#replies.get(event.message) ?? -Infinity
      const property = "a read is confirmed by an answer to a question sent after it came (R2)"
      demand(came <= asked, property, () => `${before.id} serves read ${request}`)
    } else if (event._tag === "Read" && event.by === "Lease") this.#leased(before, at, request)
    else this.#confirmed(before, came, `read ${request}`)
  }

  /** By those in force before the step: what it appends comes after. */
  #confirmed({ configuration: { latest }, id, term }: NodeState, came: number, what: string): void {
    const hasConfirmed = (voter: NodeId): boolean =>
      voter === id || (this.#latest.get(`${id} ${term} ${voter}`)?.step ?? 0) >= came
    demand(
      decide(latest, hasConfirmed),
      "a read is confirmed by a majority that was asked after it came (R2)",
      () => {
        const confirmed = groupsOf(latest).flat().filter(hasConfirmed).join(", ")
        return `${id} confirms ${what} in term ${term} by ${confirmed} only, of ${votersText(latest)}`
      }
    )
  }

  #leased(leader: NodeState, at: Point, request: RequestId): void {
    const { configuration: { latest }, id, settings, term } = leader
    if (decide(latest, (voter) => voter === id)) return
    const isBound = (voter: NodeId): boolean => at.ms - this.#askedMs(leader, at, voter) < leaseMs(leader)
    const detail = () => {
      const bound = groupsOf(latest).flat().filter(isBound).join(", ")
      return `${id} serves read ${request} in term ${term} while only ${bound} of ${votersText(latest)} are bound`
    }
    const property = "a lease counts from when an acknowledged round was sent (R3)"
    demand(settings.leaseReads && at.ms < this.#earn(leader, at), property, detail)
    demand(!decide(latest, (voter) => !isBound(voter)), property, detail)
    demand(
      !this.#handedOver.has(`${id} ${term}`),
      "no lease counts once a successor was told to stand (M7, R3)",
      () => `${id} serves read ${request} in term ${term}`
    )
  }
}

const leaseMs = ({ settings }: NodeState): number =>
  settings.electionTimeoutMsMin * (1 - settings.clockDriftPercentMax / 100)
