/**
 * Rule R2 as a property: a read is served only after a majority has answered something that this leader sent in this term after the read came.
 * Messages are told apart by their identity, which a network in memory keeps, so that the leader's own numbers of rounds are not trusted.
 */
import type { RequestId } from "../domain/Event.ts"
import type { AppendEntries, AppendEntriesResponse } from "../domain/Message.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { demand, majorityOf } from "./Figure3.ts"
import type { Observed } from "./Watch.ts"

interface Asked {
  readonly by: NodeId
  readonly term: number
  /** The number of the step that sent it. */
  readonly step: number
}

export class ReadRules {
  #steps = 0
  readonly #sent = new WeakMap<AppendEntries, Asked>()
  readonly #answered = new WeakMap<AppendEntriesResponse, Asked>()
  /** When reads came to a server, by its id. */
  readonly #came = new Map<NodeId, Map<RequestId, number>>()
  /** The latest of a leader's messages that each server has answered. */
  readonly #latest = new Map<string, number>()

  started(id: NodeId): void {
    this.#came.set(id, new Map())
  }

  saw({ after, before, commands, event }: Observed): void {
    const step = ++this.#steps
    const { id } = before
    if (event._tag === "Read") { for (const request of event.requestIds) this.#came.get(id)?.set(request, step) }
    if (event._tag === "Received" && event.message._tag === "AppendEntriesResponse") {
      this.#heard(id, event.from, event.message)
    }
    const request = event._tag === "Received" && event.message._tag === "AppendEntries" ? event.message : undefined
    const asked = request === undefined ? undefined : this.#sent.get(request)
    for (const command of commands) {
      if (command._tag === "ServeRead") {
        for (const requestId of command.requestIds) this.#served(before.configuration, id, after.term, requestId)
        continue
      }
      const sends = command._tag === "Send" ? [command] : command._tag === "Persist" ? command.then : []
      for (const { message } of sends) {
        if (message._tag === "AppendEntries") this.#sent.set(message, { by: id, term: after.term, step })
        if (message._tag === "AppendEntriesResponse" && asked !== undefined) this.#answered.set(message, asked)
      }
    }
  }

  #heard(id: NodeId, from: NodeId, message: AppendEntriesResponse): void {
    const asked = this.#answered.get(message)
    if (asked === undefined || asked.by !== id || message.result._tag === "Stale" || message.term !== asked.term) return
    const key = `${id} ${asked.term} ${from}`
    this.#latest.set(key, Math.max(this.#latest.get(key) ?? 0, asked.step))
  }

  #served(configuration: Observed["before"]["configuration"], id: NodeId, term: number, request: RequestId): void {
    const came = this.#came.get(id)?.get(request) ?? Infinity
    const confirmed = configuration.voters.filter((voter) =>
      voter === id || (this.#latest.get(`${id} ${term} ${voter}`) ?? 0) >= came
    )
    demand(
      confirmed.length >= majorityOf(configuration.voters),
      "a read is confirmed by a majority that was asked after it came (R2)",
      () => `${id} serves read ${request} in term ${term}, confirmed by ${confirmed.join(", ")} only`
    )
  }
}
