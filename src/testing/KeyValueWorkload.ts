/**
 * Clients of the key-value store: puts, deletes and gets on few keys, some on condition, with values that are never written twice.
 */
import * as Effect from "effect/Effect"
import * as Protocol from "../layers/kv/Protocol.ts"
import * as Store from "../layers/kv/Store.ts"
import type { Stale } from "../services/StateMachine.ts"
import { type Client, drawMode, type Outcome, type Told } from "./Clients.ts"
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

interface StaleRead extends Stale<Protocol.Answer> {
  readonly key: string
  readonly minIndex: number
}

/** What shows that a stale answer was never so, or is older than its reader asked for. */
const staleProblems = ({ answer, appliedIndex, key, minIndex }: StaleRead): ReadonlyArray<string> => {
  const revision = answer._tag === "Found" || answer._tag === "Missing" ? answer.revision : Infinity
  const said = `${key}, at ${appliedIndex}, asked for ${minIndex}: ${answer._tag} ${revision}`
  return [
    ...(revision > appliedIndex ? [`a stale answer is of the index it names: ${said}`] : []),
    // The store's last mutation, where the key is missing: the write that its reader saw, or a later one.
    ...(revision < minIndex || appliedIndex < minIndex ? [`a stale answer is as new as its reader asked: ${said}`] : [])
  ]
}

/** What a client asks for next. `seen`: the last revision that any client saw of a key, a guess for conditions. */
const drawAsks = (
  { keys, seen, value }: {
    readonly keys: ReadonlyArray<string>
    readonly seen: ReadonlyMap<string, number>
    readonly value: () => string
  },
  client: Client,
  isRead: boolean
): Asks => {
  // Keys that nobody reads: so many writes of unknown outcome would hide what the reads of a key show.
  if (client.isBurst) return { op: "put", key: `burst${client.draws.below(5)}`, value: value(), expected: null }
  const key = client.draws.pick(keys)
  if (isRead) return { op: "get", key, value: null, expected: null }
  const expected = client.draws.happens(0.2) ? seen.get(key) ?? 0 : null
  if (client.draws.happens(0.15)) return { op: "delete", key, value: null, expected }
  return { op: "put", key, value: value(), expected }
}

export const workload: Workload = {
  start: ({ draws, nowNs }): Session => {
    const history: Array<History.Recorded> = []
    const counts = { done: 0, notApplied: 0, unknown: 0 }
    const keys = Array.from({ length: draws.pick([1, 2, 5]) }, (_, i) => `k${i}`)
    const seen = new Map<string, number>()
    let values = 0
    const stale: Array<StaleRead> = []

    const asksOf = (client: Client, isRead: boolean) =>
      drawAsks({ keys, seen, value: () => `v${++values}` }, client, isRead)

    /** A read that may be old is no part of the history: what it shows is judged by itself. */
    const readStale = Effect.fnUntraced(function*(client: Client, key: string) {
      const known = seen.get(key) ?? 0
      const minIndex = client.draws.happens(0.5) ? known : 0
      const outcome = yield* client.ask((asked) =>
        Protocol.wire.on(asked).readStale({ _tag: "Get", key }, { minIndex })
      )
      if (outcome._tag === "Done") stale.push({ key, minIndex, ...outcome.value })
      return outcome
    })

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
      const mode = isRead && !client.isBurst ? drawMode(client.draws) : "linearizable"
      if (mode === "stale") return yield* readStale(client, client.draws.pick(keys))
      const asks = asksOf(client, isRead)
      const call = nowNs()
      const outcome = yield* client.ask((asked) => {
        const store = Protocol.wire.on(asked)
        const answer: Effect.Effect<Protocol.Result | Protocol.Answer, Told> = isRead
          ? store.read({ _tag: "Get", key: asks.key }, { consistency: mode })
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
      findings: () => [...KeyValueModel.check(history), ...stale.flatMap(staleProblems)],
      counts: () => counts,
      history: () => History.toJsonLines(history)
    }
  }
}
