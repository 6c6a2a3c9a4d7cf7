/**
 * The key-value store as a program holds it: typed methods over whatever `RaftClient` there is, in another process or in a node's own.
 *
 * ```ts
 * const store = yield* KeyValueClient.KeyValueClient                        // import { KeyValueClient, RaftClientHttp } from "titan-raft"
 * const { revision } = yield* store.put("greeting", "hello")
 * yield* store.put("greeting", "hello again", { ifRevision: revision })     // RevisionMismatch, if somebody else was faster
 * const found = yield* store.get("greeting")                               // Option<{ value, revision, version }>
 *
 * const Live = KeyValueClient.KeyValueClient.layer.pipe(Layer.provide(RaftClientHttp.layer({ endpoints: ["http://127.0.0.1:7101"] })))
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type ProposeError, RaftClient, type ReadError } from "../../services/RaftClient.ts"
import type { Consistency } from "../../services/RaftNode.ts"
import { Malformed } from "../../services/StateMachine.ts"
import * as Protocol from "./Protocol.ts"

/** Nothing changed: the key's revision is `revision`, 0 where there is no such key, and another one was asked for. */
export class RevisionMismatch extends Schema.TaggedError<RevisionMismatch>()("RevisionMismatch", {
  key: Schema.String,
  revision: Protocol.Revision,
  outcome: Schema.tag("not-applied")
}) {
  override get message(): string {
    const is = this.revision === 0 ? "does not exist" : `has revision ${this.revision}`
    return `not applied: ${this.key} ${is}; read it, and decide again`
  }
}

/** Only if the key has this revision; 0: only if it does not exist. */
export interface Condition {
  readonly ifRevision?: number
}

/** `stale`: from any server at once, may be old; with `minIndex`, such as the revision of a write, from one that has applied that much. */
export interface Reading {
  readonly consistency?: Consistency | "stale"
  readonly minIndex?: number
}

/** `revision`: of the key's last write. `version`: its number of writes since it was created, from 1. */
export interface Value {
  readonly value: Uint8Array
  readonly revision: number
  readonly version: number
}

export interface Listing {
  readonly items: ReadonlyArray<Protocol.Item>
  /** Of the store's last mutation. */
  readonly revision: number
  /** Whether keys follow the last item: ask again with `after`, its key. */
  readonly more: boolean
}

export type WriteError = ProposeError | RevisionMismatch | Malformed

export class KeyValueClient extends Context.Service<KeyValueClient, {
  /** Writes a value, bytes or text; gives its revision. */
  readonly put: (
    key: string,
    value: Uint8Array | string,
    condition?: Condition
  ) => Effect.Effect<{ readonly revision: number }, WriteError>
  readonly get: (key: string, reading?: Reading) => Effect.Effect<Option.Option<Value>, ReadError | Malformed>
  /** `deleted`: whether the key was there. */
  readonly delete: (
    key: string,
    condition?: Condition
  ) => Effect.Effect<{ readonly revision: number; readonly deleted: boolean }, WriteError>
  /** The keys that start with `prefix`, in order: at most `limit` of them (1 to 1000, default 100), from the first one past `after`. */
  readonly list: (
    prefix?: string,
    options?: Reading & { readonly limit?: number; readonly after?: string }
  ) => Effect.Effect<Listing, ReadError | Malformed>
}>()("titan/kv/Client") {
  static readonly layer: Layer.Layer<KeyValueClient, never, RaftClient> = Layer.effect(
    KeyValueClient,
    Effect.map(RaftClient, (client) => make(client))
  )
}

const malformed = (message: string): Malformed => new Malformed({ message: `not applied: ${message}` })

const validKey = (key: string): Effect.Effect<string, Malformed> => {
  const problem = Protocol.keyProblem(key)
  return problem === undefined ? Effect.succeed(key) : Effect.fail(malformed(problem))
}

const unexpected = (what: { readonly _tag: string }) => Effect.die(new Error(`the store answered ${what._tag}`))

/** The client of a cluster whose servers run the key-value store. */
export const make = (client: RaftClient["Service"]): KeyValueClient["Service"] => {
  const store = Protocol.wire.on(client)
  const write = Effect.fnUntraced(function*(command: Protocol.Command) {
    yield* validKey(command.key)
    const problem = command._tag === "Put" ? Protocol.valueProblem(command.value) : undefined
    if (problem !== undefined) return yield* malformed(problem)
    const result = yield* store.propose(command)
    if (result._tag === "Invalid") return yield* malformed(result.message)
    if (result._tag !== "RevisionMismatch") return result
    return yield* new RevisionMismatch({ key: command.key, revision: result.revision })
  })
  const read = (query: Protocol.Query, { consistency, minIndex }: Reading) => {
    if (consistency === "stale") {
      return Effect.map(store.readStale(query, minIndex === undefined ? {} : { minIndex }), ({ answer }) => answer)
    }
    return minIndex === undefined
      ? store.read(query, consistency === undefined ? {} : { consistency })
      : Effect.fail(malformed("minIndex is for stale reads alone"))
  }
  return KeyValueClient.of({
    put: (key, value, condition = {}) => {
      const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value
      return Effect.flatMap(
        write({ _tag: "Put", key, value: bytes, ...condition }),
        (result) => result._tag === "Written" ? Effect.succeed({ revision: result.revision }) : unexpected(result)
      )
    },
    get: Effect.fnUntraced(function*(key, reading = {}) {
      yield* validKey(key)
      const answer = yield* read({ _tag: "Get", key }, reading)
      if (answer._tag === "Missing") return Option.none()
      if (answer._tag !== "Found") return yield* unexpected(answer)
      return Option.some({ value: answer.value, revision: answer.revision, version: answer.version })
    }),
    delete: (key, condition = {}) =>
      Effect.flatMap(write({ _tag: "Delete", key, ...condition }), (result) =>
        result._tag === "Deleted"
          ? Effect.succeed({ revision: result.revision, deleted: result.deleted })
          : unexpected(result)),
    list: Effect.fnUntraced(function*(prefix = "", { after, limit = Protocol.listLimitDefault, ...reading } = {}) {
      const answer = yield* read({ _tag: "List", prefix, limit, ...(after === undefined ? {} : { after }) }, reading)
      if (answer._tag !== "Listed") return yield* unexpected(answer)
      return { items: answer.items, revision: answer.revision, more: answer.more }
    })
  })
}
