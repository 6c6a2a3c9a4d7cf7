/**
 * Clients of the key-value store: puts, deletes and gets on few keys, some on condition, with values that are never written twice.
 */
import * as Effect from "effect/Effect"
import * as Protocol from "../layers/kv/Protocol.ts"
import * as Store from "../layers/kv/Store.ts"
import type { Client, Outcome, Told } from "./Clients.ts"
import * as History from "./History.ts"
import * as KeyValueModel from "./KeyValueModel.ts"
import type { Session, Workload } from "./Workload.ts"

const encoder = new TextEncoder()
const decoder = new TextDecoder()

type Asks = Pick<History.Recorded, "op" | "key" | "value" | "expected">

const commandOf = ({ expected, key, op, value }: Asks): Protocol.Command => {
  const condition = expected === null ? {} : { ifRevision: expected }
  return op === "delete"
    ? { _tag: "Delete", key, ...condition }
    : { _tag: "Put", key, value: encoder.encode(value ?? ""), ...condition }
}

/** The answer as the history holds it. This workload asks nothing that the others answer. */
const outputOf = (answer: Protocol.Result | Protocol.Answer): History.Output => {
  switch (answer._tag) {
    case "Found":
      return { ...answer, value: decoder.decode(answer.value) }
    case "Written":
    case "Deleted":
    case "RevisionMismatch":
    case "Missing":
      return answer
    case "Invalid":
    case "Listed":
      throw new Error(`a put, a delete or a get was answered ${answer._tag}`)
    default:
      return answer satisfies never
  }
}

export const workload: Workload = {
  start: ({ draws, nowNs }): Session => {
    const history: Array<History.Recorded> = []
    const counts = { done: 0, notApplied: 0, unknown: 0 }
    const keys = Array.from({ length: draws.pick([1, 2, 5]) }, (_, i) => `k${i}`)
    /** The last revision that any client saw of a key: a guess for conditions. */
    const seen = new Map<string, number>()
    let values = 0

    const drawAsks = (client: Client, isRead: boolean): Asks => {
      // Keys that nobody reads: so many writes of unknown outcome would hide what the reads of a key show.
      if (client.isBurst) return { op: "put", key: `burst${draws.below(5)}`, value: `v${++values}`, expected: null }
      const key = client.draws.pick(keys)
      if (isRead) return { op: "get", key, value: null, expected: null }
      const expected = client.draws.happens(0.2) ? seen.get(key) ?? 0 : null
      if (client.draws.happens(0.15)) return { op: "delete", key, value: null, expected }
      return { op: "put", key, value: `v${++values}`, expected }
    }

    const record = (client: Client, asks: Asks, call: number, outcome: Outcome<History.Output>): void => {
      const output = outcome._tag === "Done" ? outcome.value : null
      if (outcome._tag === "Done") counts.done++
      else if (outcome._tag === "Unknown") counts.unknown++
      else counts.notApplied++
      if (output?._tag === "Written" || output?._tag === "Found") seen.set(asks.key, output.revision)
      else if (output?._tag === "Deleted" || output?._tag === "Missing") seen.set(asks.key, 0)
      history.push({
        client: client.number,
        ...asks,
        ok: outcome._tag === "Done" ? true : outcome._tag === "Unknown" ? null : false,
        output,
        call,
        return: outcome._tag === "Unknown" ? null : nowNs()
      })
    }

    const request = Effect.fnUntraced(function*(client: Client, isRead: boolean) {
      const asks = drawAsks(client, isRead)
      const call = nowNs()
      const outcome = yield* client.ask((asked) => {
        const store = Protocol.wire.on(asked)
        const answer: Effect.Effect<Protocol.Result | Protocol.Answer, Told> = isRead
          ? store.read({ _tag: "Get", key: asks.key })
          : store.propose(commandOf(asks))
        return Effect.map(answer, outputOf)
      })
      record(client, asks, call, outcome)
      return outcome
    })

    return {
      stateMachine: Store.layer,
      request,
      contents: (machine) =>
        Protocol.wire.on({ propose: () => Effect.never, read: machine.query })
          .read({ _tag: "List", prefix: "", limit: Protocol.listLimitMax })
          .pipe(Effect.map((answer) => JSON.stringify(answer)), Effect.orDie),
      findings: () => KeyValueModel.check(history),
      counts: () => counts,
      history: () => History.toJsonLines(history)
    }
  }
}
