/**
 * What is replicated (paper §2): a deterministic machine that every server feeds the same commands in the same order.
 *
 * ```ts
 * const Counter = StateMachine.make({
 *   command: Schema.Struct({ add: Schema.Int }), result: Schema.Int,
 *   query: Schema.Void, answer: Schema.Int,
 *   state: Schema.Int, initial: 0,
 *   apply: (total, { add }) => ({ state: total + add, result: total + add }),
 *   respond: (total) => total
 * })
 * // Counter.layer provides StateMachine; Counter.on(yield* RaftNode).propose({ add: 1 }) : Effect<number, …>
 * ```
 *
 * `make` needs nothing more for snapshots (paper §7): it keeps the immutable state and encodes that later, in one go. Where the state is
 * large, or lives elsewhere, write the machine yourself, and snapshots in one of two ways.
 *
 * A consistent copy, serialised later. Taking it must be quick, so what is copied is immutable, or copied on write:
 *
 * ```ts
 * snapshot: Effect.sync(() => {
 *   const copy = tree.clone()
 *   return Stream.unfold(copy.entries(), (entries) =>
 *     Effect.map(Effect.yieldNow, () => nextPiece(entries)))   // [64 KiB of bytes, entries], or undefined at the end
 * })
 * ```
 *
 * A view of an outside store, which the store itself keeps as it is while writes go on, read as a stream:
 *
 * ```ts
 * snapshot: Effect.map(database.beginRead, (view) =>
 *   view.rows.pipe(Stream.map(encodeRow), Stream.ensuring(view.close)))
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { LogIndex, Term } from "../domain/Entry.ts"
import type { Consistency, StaleAnswer } from "./RaftNode.ts"

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
  /**
   * A consistent copy of the state as it is now. Nothing is applied until this effect has ended, so it must be quick; the stream it gives is
   * run later, once, while `apply` goes on. So the effect may keep a reference to an immutable or copy-on-write state, which the stream
   * serialises, or open a view of an outside store, which the stream reads. A piece of the stream is best some 64 KiB: between pieces
   * the process does other work.
   */
  readonly snapshot: Effect.Effect<Stream.Stream<Uint8Array>>
  /** Replaces the whole state by what `snapshot` wrote, on this server or on another. Bytes come in pieces of any size; they were checked. */
  readonly restore: <E>(content: Stream.Stream<Uint8Array, E>) => Effect.Effect<void, E>
}>()("titan/StateMachine") {}

/** The bytes were no command or query of the state machine that received them. Nothing was changed. */
export class Malformed extends Schema.TaggedError<Malformed>()("Malformed", {
  message: Schema.String,
  outcome: Schema.tag("not-applied")
}) {}

/** What takes commands and queries as bytes: `RaftNode` in this process, `RaftClient` from another one. */
export interface Target<ProposeError, ReadError> {
  readonly propose: (command: Uint8Array) => Effect.Effect<Uint8Array, ProposeError>
  readonly read: (query: Uint8Array, options?: ReadOptions) => Effect.Effect<Uint8Array, ReadError>
}

export interface ReadOptions {
  readonly consistency?: Consistency
}

/** What also answers queries that need not be linearizable. */
export interface StaleTarget<StaleError> {
  readonly readStale: (query: Uint8Array, options?: StaleOptions) => Effect.Effect<StaleAnswer, StaleError>
}

export interface StaleOptions {
  readonly minIndex?: LogIndex
}

/** The four schemas of what a state machine is asked and answers. None may need a service. */
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
  /** As `StateMachine.snapshot`: run between two commands, quick; its stream is run later, at most once, while commands go on. */
  readonly snapshot: Effect.Effect<Stream.Stream<Uint8Array>>
  /** As `StateMachine.restore`: replaces the whole state. It dies of content that it cannot read, best with the state as it was. */
  readonly restore: <E>(content: Stream.Stream<Uint8Array, E>) => Effect.Effect<void, E>
}

/** Commands and queries of one state machine, typed, against a node or a client. */
export interface Access<C, R, Q, A, ProposeError, ReadError> {
  /** Resolves with the result once the command is committed and applied. */
  readonly propose: (command: C) => Effect.Effect<R, ProposeError | Malformed>
  readonly read: (query: Q, options?: ReadOptions) => Effect.Effect<A, ReadError | Malformed>
}

export interface StaleAccess<Q, A, StaleError> {
  readonly readStale: (query: Q, options?: StaleOptions) => Effect.Effect<Stale<A>, StaleError | Malformed>
}

/** A typed answer that may be old. */
export interface Stale<A> extends Omit<StaleAnswer, "answer"> {
  readonly answer: A
}

export interface Protocol<C, R, Q, A> {
  /** Typed access to what takes bytes; stale reads where it has them. */
  readonly on: {
    <E1, E2, E3>(target: Target<E1, E2> & StaleTarget<E3>): Access<C, R, Q, A, E1, E2> & StaleAccess<Q, A, E3>
    <E1, E2>(target: Target<E1, E2>): Access<C, R, Q, A, E1, E2>
  }
  readonly serve: (machine: Typed<C, R, Q, A>) => StateMachine["Service"]
}

/** An answer's first byte: whether the machine understood the request. The encoded value follows `understood`. */
const understood = 0
const malformed = Uint8Array.of(1)

/** Values as bytes. Both functions throw where there is no such value: `Malformed` is what whoever asked is told. */
export interface Codec<T> {
  /** Bytes that nothing else uses. */
  readonly encode: (value: T) => Uint8Array
  /** May give views on the bytes. */
  readonly decode: (bytes: Uint8Array) => T
}

/** SchemaBinary, which tolerates added optional fields. */
export const codec = <T>(schema: Schema.Codec<T, unknown>): Codec<T> => {
  const binary = SchemaBinary.toCodec(schema)
  const encode = Schema.encodeSync(binary)
  // What it gives is a view on an arena that the next call uses again.
  return { encode: (value) => new Uint8Array(encode(value)), decode: Schema.decodeUnknownSync(binary) }
}

const answerWith = (encoded: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(encoded.length + 1)
  bytes[0] = understood
  bytes.set(encoded, 1)
  return bytes
}

const decoded = <V>(reply: Uint8Array, decode: (bytes: Uint8Array) => V): Effect.Effect<V, Malformed> =>
  reply[0] === understood
    ? Effect.sync(() => decode(reply.subarray(1)))
    : Effect.fail(new Malformed({ message: "the servers run a state machine that does not know this request" }))

const ask = <T, Reply, V, E>(
  value: T,
  encode: (value: T) => Uint8Array,
  send: (bytes: Uint8Array) => Effect.Effect<Reply, E>,
  onReply: (reply: Reply) => Effect.Effect<V, Malformed>
): Effect.Effect<V, E | Malformed> =>
  Effect.suspend(() => {
    let bytes: Uint8Array
    try {
      bytes = encode(value)
    } catch (cause) {
      return Effect.fail(new Malformed({ message: `not a value of this state machine: ${String(cause)}` }))
    }
    return Effect.flatMap(send(bytes), onReply)
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
export const protocol = <C, R, Q, A>(schemas: Schemas<C, R, Q, A>): Protocol<C, R, Q, A> =>
  protocolOf({
    command: codec(schemas.command),
    result: codec(schemas.result),
    query: codec(schemas.query),
    answer: codec(schemas.answer)
  })

/** The four kinds of bytes that a state machine's protocol is made of. */
export interface Codecs<C, R, Q, A> {
  readonly command: Codec<C>
  readonly result: Codec<R>
  readonly query: Codec<Q>
  readonly answer: Codec<A>
}

/** The same with bytes of your own: for a machine that is so busy that Schema's way shows. The key-value store's is an example (`layers/kv/Wire.ts`). */
export const protocolOf = <C, R, Q, A>(codecs: Codecs<C, R, Q, A>): Protocol<C, R, Q, A> => {
  const { answer, command, query, result } = codecs

  const onResult = (reply: Uint8Array) => decoded(reply, result.decode)
  const onAnswer = (reply: Uint8Array) => decoded(reply, answer.decode)
  const onStaleAnswer = (stale: StaleAnswer) =>
    Effect.map(onAnswer(stale.answer), (value): Stale<A> => ({ ...stale, answer: value }))

  return {
    on: <E1, E2, E3>({ propose, read, readStale }: Target<E1, E2> & Partial<StaleTarget<E3>>) => {
      const access: Access<C, R, Q, A, E1, E2> = {
        propose: (value) => ask(value, command.encode, propose, onResult),
        read: (value, options) => ask(value, query.encode, (bytes) => read(bytes, options), onAnswer)
      }
      return {
        ...access,
        readStale: (value: Q, options?: StaleOptions) =>
          readStale === undefined
            ? Effect.die(new Error("this target has no stale reads"))
            : ask(value, query.encode, (bytes) => readStale(bytes, options), onStaleAnswer)
      }
    },
    serve: (machine) => ({
      apply: (commands) =>
        Effect.sync(() =>
          commands.map((committed) =>
            attempt(committed.command, command.decode, (value) => machine.apply(value, committed), result.encode)
          )
        ),
      query: (bytes) => Effect.sync(() => attempt(bytes, query.decode, machine.respond, answer.encode)),
      snapshot: machine.snapshot,
      restore: machine.restore
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

/** The whole state as bytes, and back. `SchemaBinary` tolerates fields that were added as optional ones. */
const stateContent = <S>(schema: Schema.Codec<S, unknown>) => {
  const { decode, encode } = codec(schema)
  return {
    write: (state: S): Stream.Stream<Uint8Array> =>
      Stream.suspend(() => {
        const bytes = encode(state)
        const count = Math.ceil(bytes.length / pieceBytes)
        return Stream.fromArray(
          Array.from({ length: count }, (_, i) => bytes.subarray(i * pieceBytes, (i + 1) * pieceBytes))
        )
      }),
    read: <E>(content: Stream.Stream<Uint8Array, E>): Effect.Effect<S, E> =>
      Effect.map(Stream.mkUint8Array(content), (bytes) => {
        try {
          return decode(bytes)
        } catch (cause) {
          const problem = "the snapshot holds no state of this state machine; was it taken by another version of it?"
          throw new Error(`${problem} ${String(cause)}`, { cause })
        }
      })
  }
}

const pieceBytes = 64 << 10

/** What `make` makes: the protocol for callers, the layer for nodes, and the reducer itself, which tests compare with. */
export interface Machine<S, C, R, Q, A> extends Protocol<C, R, Q, A> {
  /** A new machine each time it is built: two nodes must never share one. */
  readonly layer: Layer.Layer<StateMachine>
  readonly reducer: Reducer<S, C, R, Q, A>
}

/**
 * A whole state machine as a pure reducer over immutable state. See the example at the top of this file.
 *
 * `state` says what a snapshot holds. A snapshot keeps the reference of the state, so `apply` must never change a state, only give another.
 * Encoding and decoding hold up everything else, for some 20 to 40 ms and 50 to 170 ms for each MiB of small values: a state of more than that is
 * better off with one of the other two ways. Servers of several versions read each other's snapshots as long as they differ in optional fields only; what cannot be read is
 * a defect, which ends the node.
 */
export const make = <S, C, R, Q, A>(
  options: Schemas<C, R, Q, A> & Reducer<S, C, R, Q, A> & { readonly state: Schema.Codec<S, unknown> }
): Machine<S, C, R, Q, A> => {
  const wire = protocol(options)
  const content = stateContent(options.state)
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
        respond: (query) => reducer.respond(state, query),
        snapshot: Effect.sync(() => content.write(state)),
        restore: (bytes) =>
          Effect.map(content.read(bytes), (restored) => {
            state = restored
          })
      }))
    }))
  }
}
