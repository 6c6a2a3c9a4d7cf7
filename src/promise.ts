/**
 * The key-value store for programs without Effect: `import { connect } from "titan-raft/promise"`.
 *
 * ```ts
 * const titan = connect({ endpoints: ["http://127.0.0.1:7101", "http://127.0.0.1:7102"] })
 * const { revision } = await titan.put("greeting", "hello")
 * const found = await titan.get("greeting")                // { value, revision, version }, or undefined
 * await titan.close()
 * ```
 *
 * A promise is rejected with the error that the Effect would fail with: `_tag` names it (`NoLeader`, `RevisionMismatch`, `OutcomeUnknown`, …),
 * `outcome` says whether a write was "not-applied" or is "unknown", and `message` what to do. An `AbortSignal` ends the wait, not the write.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import { type Condition, KeyValueClient, type Listing, type Reading, type Value } from "./layers/kv/Client.ts"
import * as RaftClientHttp from "./layers/RaftClientHttp.ts"
import type { Options } from "./services/RaftClient.ts"

export interface Abortable {
  readonly signal?: AbortSignal
}

/** The client was closed before there was an answer: of a write nobody knows here what becomes of it. */
export class Closed extends Data.TaggedError("Closed")<{ readonly outcome: "not-applied" | "unknown" }> {
  override get message(): string {
    return this.outcome === "not-applied"
      ? "not applied: this client is closed; connect another one"
      : "unknown: this client was closed before there was an answer; read before you write again"
  }
}

/** A client of the key-value store. It holds connections until it is closed. */
export interface TitanClient extends AsyncDisposable {
  /** Writes a value, bytes or text; gives its revision. */
  readonly put: (
    key: string,
    value: Uint8Array | string,
    options?: Condition & Abortable
  ) => Promise<{ readonly revision: number }>
  /** `undefined`: there is no such key. */
  readonly get: (key: string, options?: Reading & Abortable) => Promise<Value | undefined>
  /** `deleted`: whether the key was there. */
  readonly delete: (
    key: string,
    options?: Condition & Abortable
  ) => Promise<{ readonly revision: number; readonly deleted: boolean }>
  /** The keys that start with `prefix`, in order, from the first one past `after`. */
  readonly list: (
    prefix?: string,
    options?: Reading & Abortable & { readonly limit?: number; readonly after?: string }
  ) => Promise<Listing>
  /** Ends what waits, and closes the connections. */
  readonly close: () => Promise<void>
}

/** A client of the cluster behind `options.endpoints`; see `RaftClient.Options`. Nothing is connected before it is needed. */
export const connect = (options: Options): TitanClient => {
  const runtime = ManagedRuntime.make(
    KeyValueClient.layer.pipe(Layer.provide(RaftClientHttp.layer(options)))
  )
  let isClosed = false
  const run = async <A, E>(
    ask: (store: KeyValueClient["Service"]) => Effect.Effect<A, E>,
    { signal }: Abortable
  ): Promise<A> => {
    if (isClosed) throw new Closed({ outcome: "not-applied" })
    const asking = Effect.flatMap(KeyValueClient, ask)
    const exit = await runtime.runPromiseExit(asking, signal === undefined ? {} : { signal })
    if (Exit.isSuccess(exit)) return exit.value
    if (!Cause.hasInterruptsOnly(exit.cause)) throw Cause.squash(exit.cause)
    throw signal?.aborted === true ? signal.reason : new Closed({ outcome: "unknown" })
  }
  const close = (): Promise<void> => {
    isClosed = true
    return runtime.dispose()
  }
  return {
    put: (key, value, { signal, ...condition }: Condition & Abortable = {}) =>
      run((store) => store.put(key, value, condition), aborted(signal)),
    get: (key, { signal, ...reading }: Reading & Abortable = {}) =>
      run((store) => Effect.map(store.get(key, reading), Option.getOrUndefined), aborted(signal)),
    delete: (key, { signal, ...condition }: Condition & Abortable = {}) =>
      run((store) => store.delete(key, condition), aborted(signal)),
    list: (prefix, { signal, ...reading } = {}) => run((store) => store.list(prefix, reading), aborted(signal)),
    close,
    [Symbol.asyncDispose]: close
  }
}

const aborted = (signal: AbortSignal | undefined): Abortable => signal === undefined ? {} : { signal }
