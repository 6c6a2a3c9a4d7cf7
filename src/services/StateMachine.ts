/**
 * What is replicated (paper §2): a deterministic machine that every server feeds the same commands in the same order.
 *
 * ```ts
 * const Counter = StateMachine.make({
 *   command: Schema.Struct({ add: Schema.Int }), result: Schema.Int,
 *   query: Schema.Void, answer: Schema.Int,
 *   initial: 0,
 *   apply: (total, { add }) => ({ state: total + add, result: total + add }),
 *   respond: (total) => total
 * })
 * // Counter.layer provides StateMachine; Counter.on(yield* RaftNode).propose({ add: 1 }) : Effect<number, …>
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type { LogIndex, Term } from "../domain/Entry.ts"

/** A committed command, as the log holds it. */
export interface Committed {
  readonly index: LogIndex
  readonly term: Term
  readonly command: Uint8Array
}

/**
 * Both methods are deterministic and never fail: what goes wrong is a result like any other. Bytes that are no command of this machine
 * must change nothing and have a result that says so, the same on every server.
 */
export class StateMachine extends Context.Service<StateMachine, {
  /** Applies committed commands in order, each exactly once; answers one result per command. */
  readonly apply: (commands: ReadonlyArray<Committed>) => Effect.Effect<ReadonlyArray<Uint8Array>>
  /** Answers a query from the state as it is now, changing nothing. */
  readonly query: (query: Uint8Array) => Effect.Effect<Uint8Array>
}>()("titan/StateMachine") {}

/** The bytes were no command or query of the state machine that received them. Nothing was changed. */
export class Malformed extends Schema.TaggedError<Malformed>()("Malformed", {
  message: Schema.String,
  outcome: Schema.tag("not-applied")
}) {}

/** What takes commands and queries as bytes: `RaftNode` in this process, `RaftClient` from another one. */
export interface Target<ProposeError, ReadError> {
  readonly propose: (command: Uint8Array) => Effect.Effect<Uint8Array, ProposeError>
  readonly read: (query: Uint8Array) => Effect.Effect<Uint8Array, ReadError>
}

/** The four schemas of a state machine. None may need a service. */
export interface Schemas<C, R, Q, A> {
  readonly command: Schema.Codec<C, unknown>
  readonly result: Schema.Codec<R, unknown>
  readonly query: Schema.Codec<Q, unknown>
  readonly answer: Schema.Codec<A, unknown>
}

/** A state machine over typed values; `serve` turns it into the one over bytes. */
export interface Typed<C, R, Q, A> {
  readonly apply: (command: C, at: { readonly index: LogIndex; readonly term: Term }) => R
  readonly respond: (query: Q) => A
}

/** Commands and queries of one state machine, typed, against a node or a client. */
export interface Access<C, R, Q, A, ProposeError, ReadError> {
  /** Resolves with the result once the command is committed and applied. */
  readonly propose: (command: C) => Effect.Effect<R, ProposeError | Malformed>
  readonly read: (query: Q) => Effect.Effect<A, ReadError | Malformed>
}

export interface Protocol<C, R, Q, A> {
  readonly on: <E1, E2>(target: Target<E1, E2>) => Access<C, R, Q, A, E1, E2>
  readonly serve: (machine: Typed<C, R, Q, A>) => StateMachine["Service"]
}

/** An answer's first byte: whether the machine understood the request. The encoded value follows `understood`. */
const understood = 0
const malformed = Uint8Array.of(1)

const codec = <T>(schema: Schema.Codec<T, unknown>) => {
  const binary = SchemaBinary.toCodec(schema)
  return { encode: Schema.encodeSync(binary), decode: Schema.decodeUnknownSync(binary) }
}

const answerWith = (encoded: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(encoded.length + 1)
  bytes[0] = understood
  bytes.set(encoded, 1)
  return bytes
}

const ask = <T, V, E>(
  value: T,
  encode: (value: T) => Uint8Array,
  send: (bytes: Uint8Array) => Effect.Effect<Uint8Array, E>,
  decode: (bytes: Uint8Array) => V
): Effect.Effect<V, E | Malformed> =>
  Effect.suspend(() => {
    let bytes: Uint8Array
    try {
      // Encoded bytes are a view on an arena that the next call reuses.
      bytes = new Uint8Array(encode(value))
    } catch (cause) {
      return Effect.fail(new Malformed({ message: `not a value of this state machine: ${String(cause)}` }))
    }
    return Effect.flatMap(send(bytes), (reply) =>
      reply[0] === understood
        ? Effect.sync(() => decode(reply.subarray(1)))
        : Effect.fail(new Malformed({ message: "the servers run a state machine that does not know this request" })))
  })

const attempt = <T, V>(
  bytes: Uint8Array,
  decode: (bytes: Uint8Array) => T,
  then: (value: T) => V,
  encode: (v: V) => Uint8Array
) => {
  let value: T
  try {
    value = decode(bytes)
  } catch {
    return malformed
  }
  return answerWith(encode(then(value)))
}

/** The wire protocol of a state machine: commands, results, queries and answers in SchemaBinary, which tolerates added optional fields. */
export const protocol = <C, R, Q, A>(schemas: Schemas<C, R, Q, A>): Protocol<C, R, Q, A> => {
  const command = codec(schemas.command)
  const result = codec(schemas.result)
  const query = codec(schemas.query)
  const answer = codec(schemas.answer)

  return {
    on: (target) => ({
      propose: (value) => ask(value, command.encode, target.propose, result.decode),
      read: (value) => ask(value, query.encode, target.read, answer.decode)
    }),
    serve: (machine) => ({
      apply: (commands) =>
        Effect.sync(() =>
          commands.map((committed) =>
            attempt(committed.command, command.decode, (value) => machine.apply(value, committed), result.encode)
          )
        ),
      query: (bytes) => Effect.sync(() => attempt(bytes, query.decode, machine.respond, answer.encode))
    })
  }
}

/** A state machine as a pure function of its state. */
export interface Reducer<S, C, R, Q, A> {
  readonly initial: S
  /** Must be a function of its arguments alone: no clock, no randomness. */
  readonly apply: (
    state: S,
    command: C,
    at: { readonly index: LogIndex; readonly term: Term }
  ) => { readonly state: S; readonly result: R }
  readonly respond: (state: S, query: Q) => A
}

/** What `make` makes: the protocol for callers, the layer for nodes, and the reducer itself, which tests compare with. */
export interface Machine<S, C, R, Q, A> extends Protocol<C, R, Q, A> {
  /** A new machine each time it is built: two nodes must never share one. */
  readonly layer: Layer.Layer<StateMachine>
  readonly reducer: Reducer<S, C, R, Q, A>
}

/** A whole state machine as a pure reducer over immutable state. See the example at the top of this file. */
export const make = <S, C, R, Q, A>(
  options: Schemas<C, R, Q, A> & Reducer<S, C, R, Q, A>
): Machine<S, C, R, Q, A> => {
  const wire = protocol(options)
  const reducer: Reducer<S, C, R, Q, A> = {
    initial: options.initial,
    apply: options.apply,
    respond: options.respond
  }
  return {
    ...wire,
    reducer,
    layer: Layer.fresh(Layer.sync(StateMachine, () => {
      let state = reducer.initial
      return StateMachine.of(wire.serve({
        apply: (command, at) => {
          const next = reducer.apply(state, command, at)
          state = next.state
          return next.result
        },
        respond: (query) => reducer.respond(state, query)
      }))
    }))
  }
}
