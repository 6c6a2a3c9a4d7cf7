/**
 * `RaftClient` over Effect RPC and WebSockets, one connection per server, opened when first needed and replaced after any failure.
 *
 * ```ts
 * const Client = RaftClientHttp.layer({ endpoints: ["http://127.0.0.1:7101", "http://127.0.0.1:7102"] })
 * ```
 *
 * A connection is never repaired. A socket that closed, a decoder that met an oversize frame and a server that was shut down all leave
 * calls failing in their own ways (errors, defects, interruption): each of them ends the connection here, and the next call opens a
 * fresh one.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as RpcClient from "effect/rpc/RpcClient"
import { RpcClientError } from "effect/rpc/RpcClientError"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import { type Change, changesMax } from "../domain/Configuration.ts"
import { type ConnectionWith, ofNode } from "../services/Connection.ts"
import {
  type Connect,
  type Connection,
  Lost,
  make as makeClient,
  type Options,
  RaftClient,
  Unreachable
} from "../services/RaftClient.ts"
import { type Asked, ChangeRefused, RaftNode, SettingsError, TooLarge } from "../services/RaftNode.ts"
import type { UrlOf } from "../services/ServerStatus.ts"
import * as ByteLists from "./ByteLists.ts"
import {
  ClientRpcs,
  path,
  Propose,
  questions,
  Read,
  type Reconfigure,
  requestBytesMax,
  serialization,
  unpack
} from "./ClientRpc.ts"
import * as ConfigurationCodec from "./ConfigurationCodec.ts"
import * as DirectCalls from "./DirectCalls.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

/** How often an idle connection is probed, and how long a silent server counts as alive. */
const pingInterval = Duration.seconds(1)
const pingTimeout = Duration.seconds(2)

/** A connection to one server, being opened or open. */
interface Link {
  readonly scope: Scope.Closeable
  readonly ready: Deferred.Deferred<Connection, Unreachable>
  /** As an effect that has ended, once it is open. */
  open: Exit.Exit<Connection, Unreachable> | undefined
}

/** What ended a connection or a call, for a reader: the system's words where there are any, as in `connect ECONNREFUSED 127.0.0.1:7101`. */
const reasonOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.hasInterruptsOnly(cause)) return "the server ended the call without an answer"
  const error = Cause.squash(cause)
  if (!(error instanceof RpcClientError) && !Socket.isSocketError(error)) return String(error)
  const reason: { readonly message: string; readonly code?: number; readonly cause?: unknown } = error.reason
  if (reason.code !== undefined) return `the connection was closed (code ${reason.code})`
  const { message } = (reason.cause ?? {}) as { readonly message?: unknown }
  return typeof message === "string" && message.length > 0 ? message : reason.message
}

/** Whatever stands before the server, or the server itself, has answered, and lets nobody in without leave. */
const isUnauthorized = (reason: string): boolean => /Unexpected server response: 40[13]/.test(reason)

const unreachable = (cause: Cause.Cause<unknown>): Unreachable => {
  const reason = reasonOf(cause)
  return new Unreachable(isUnauthorized(reason) ? { reason, isUnauthorized: true } : { reason })
}

/** Commands as they travel: all of them in the same session, or none. */
const proposed = (asked: ReadonlyArray<Asked>): typeof Propose.payloadSchema.Type => {
  const commands = questions(asked.map(({ command }) => command))
  const places = asked.flatMap(({ sequenced }) => sequenced ?? [])
  const [first] = places
  if (first === undefined) return { commands }
  const session = {
    id: first.session,
    firstUnanswered: first.firstUnanswered,
    sequences: ByteLists.encodeNumbers(places.map(({ sequence }) => sequence))
  }
  return { commands, session }
}

/** A query that would not fit into a message, and would end the connection for all others: that is a mistake of the program. */
const lengthProblem = (query: Uint8Array | undefined): RangeError | undefined =>
  query !== undefined && query.length > requestBytesMax
    ? new RangeError(`a query has at most ${requestBytesMax} bytes, and this one has ${query.length}`)
    : undefined

type Sent = typeof Reconfigure.payloadSchema.Type["changes"]

/** Changes as they travel: a server that the others do not find could not be added. */
const sendable = (changes: ReadonlyArray<Change>): Effect.Effect<Sent, ChangeRefused> => {
  const sent = changes.flatMap((change): Sent => {
    if (change._tag !== "Add") return [change]
    return change.address === undefined ? [] : [{ ...change, address: change.address }]
  })
  if (sent.length === changes.length && sent.length <= changesMax) return Effect.succeed(sent)
  const message = sent.length < changes.length
    ? "a server that is added needs an address, such as http://127.0.0.1:7104"
    : `at most ${changesMax} changes are made at once, and these are ${changes.length}`
  return Effect.fail(new ChangeRefused({ reason: "Invalid", message }))
}

/** A socket that tells `opened` how opening ended, and `broken` once it is of no more use. */
const watch = (
  socket: Socket.Socket,
  opened: Deferred.Deferred<void, Unreachable>,
  broken: Effect.Effect<void>
): Socket.Socket =>
  Socket.make({
    writer: socket.writer,
    reader: Effect.addFinalizer(() => broken).pipe(
      Effect.andThen(socket.reader),
      Effect.onExit((exit) =>
        Exit.isSuccess(exit)
          ? Deferred.succeed(opened, undefined)
          : Deferred.fail(opened, unreachable(exit.cause))
      )
    )
  })

/** Opens a connection that lives in `scope`. Calls on it fail with `Lost` once it is broken, and `broken` has run by then. */
const open = Effect.fnUntraced(
  function*(url: string, scope: Scope.Closeable, timeoutMs: number, broken: Effect.Effect<void>) {
    const address = WebSocketRoute.address(url, path)
    if ("problem" in address) return yield* new Unreachable({ reason: address.problem })
    const opened = yield* Deferred.make<void, Unreachable>()
    const socket = watch(
      yield* Socket.makeWebSocket(address.url, { openTimeout: Duration.millis(timeoutMs) }),
      opened,
      broken
    )
    const protocol = RpcClient.layerProtocolSocket({ retryPolicy: Schedule.recurs(0), pingInterval, pingTimeout }).pipe(
      Layer.provide([Layer.succeed(Socket.Socket, socket), serialization])
    )
    const context = yield* Layer.buildWithScope(protocol, scope)
    const client = yield* RpcClient.make(ClientRpcs, { disableTracing: true }).pipe(
      Effect.provideContext(Context.add(context, Scope.Scope, scope))
    )
    const call = yield* DirectCalls.make(Context.get(context, RpcClient.Protocol)).pipe(
      Effect.provideService(Scope.Scope, scope)
    )
    const propose = call(Propose)
    const read = call(Read)
    yield* Deferred.await(opened)

    const ending = <A, E>(call: Effect.Effect<A, E>): Effect.Effect<A, Exclude<E, RpcClientError> | Lost> =>
      Effect.catchCause(call, (cause): Effect.Effect<never, Exclude<E, RpcClientError> | Lost> => {
        const answer = cause.reasons.find(Cause.isFailReason)
        if (answer !== undefined && !(answer.error instanceof RpcClientError)) {
          return Effect.fail(answer.error as Exclude<E, RpcClientError>)
        }
        return Effect.andThen(broken, Effect.fail(new Lost({ reason: reasonOf(cause) })))
      })
    const reconfigure = (changes: ReadonlyArray<Change>, preview: boolean) =>
      Effect.flatMap(
        sendable(changes),
        (sent) => Effect.map(ending(client.Reconfigure({ changes: sent, preview })), ConfigurationCodec.fromData)
      )
    const connection: Connection = {
      propose: (asked) => {
        const [first] = asked
        if (first !== undefined && asked.length === 1 && first.command.length > requestBytesMax) {
          const refused = new TooLarge({ sizeBytes: first.command.length, limitBytes: requestBytesMax })
          return Effect.succeed([Exit.fail(refused)])
        }
        return Effect.map(ending(propose(proposed(asked))), unpack)
      },
      read: (queries, consistency) => {
        const tooLong = queries.length === 1 ? lengthProblem(queries[0]) : undefined
        if (tooLong !== undefined) return Effect.succeed([Exit.die(tooLong)])
        return Effect.map(ending(read({ queries: questions(queries), consistency })), unpack)
      },
      readStale: (query, minIndex) => {
        const tooLong = lengthProblem(query)
        if (tooLong !== undefined) return Effect.die(tooLong)
        return ending(client.ReadStale(minIndex === undefined ? { query } : { query, minIndex }))
      },
      openSession: ending(client.OpenSession()),
      reconfigure: (changes) => reconfigure(changes, false),
      previewReconfigure: (changes) => reconfigure(changes, true),
      transferLeadership: (to) => ending(client.TransferLeadership(to === undefined ? {} : { to })),
      status: ending(client.Status()),
      takeSnapshot: ending(client.TakeSnapshot())
    }
    return connection
  }
)

/** Why these endpoints are none, if they are. What a server's hint says is checked only when it is used. */
const endpointsProblem = (endpoints: ReadonlyArray<string>): string | undefined => {
  if (endpoints.length === 0) return "a client needs at least one endpoint"
  for (const endpoint of endpoints) {
    const address = WebSocketRoute.address(endpoint, path)
    if ("problem" in address) return address.problem
  }
  return undefined
}

const makeConnect = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<
  Connect,
  SettingsError,
  Scope.Scope | Socket.WebSocketConstructor
> {
  const problem = endpointsProblem(options.endpoints)
  if (problem !== undefined) return yield* new SettingsError({ message: problem })
  const layerScope = yield* Effect.scope
  const links = new Map<string, Link>()

  /** Takes a link out of use and closes it aside: closing ends the calls that still wait on it. */
  const discard = (url: string, link: Link): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (links.get(url) !== link) return Effect.void
      links.delete(url)
      return Effect.asVoid(Effect.forkIn(Scope.close(link.scope, Exit.void), layerScope))
    })

  const start = Effect.fnUntraced(function*(url: string) {
    const link: Link = {
      scope: yield* Scope.fork(layerScope),
      ready: yield* Deferred.make<Connection, Unreachable>(),
      open: undefined
    }
    links.set(url, link)
    const broken = discard(url, link)
    yield* open(url, link.scope, options.attemptMs ?? 1000, broken).pipe(
      Effect.onExit((exit) => Exit.isFailure(exit) ? broken : Effect.sync(() => void (link.open = exit))),
      Deferred.into(link.ready),
      // Not in the caller: others wait for the same connection, and outlive it.
      Effect.forkIn(layerScope)
    )
    return link
  }, Effect.uninterruptible)

  const connect = (url: string): Effect.Effect<Connection, Unreachable, Socket.WebSocketConstructor> =>
    Effect.suspend(() => {
      const link = links.get(url)
      return link === undefined ? start(url) : Effect.succeed(link)
    }).pipe(Effect.flatMap((link) => Deferred.await(link.ready)))

  const constructor = yield* Socket.WebSocketConstructor
  return (url) => links.get(url)?.open ?? Effect.provideService(connect(url), Socket.WebSocketConstructor, constructor)
})

/** A client of the cluster behind `options.endpoints`. Building it connects to nothing yet; it fails where an endpoint is no URL. */
export const layer = (options: Options): Layer.Layer<RaftClient, SettingsError> =>
  Layer.effect(
    RaftClient,
    Effect.flatMap(makeConnect(options), (connect) => makeClient(options, connect))
  ).pipe(Layer.provide(WebSocketRoute.layerConstructor))

export interface EmbeddedOptions extends Omit<Options, "endpoints"> {
  /** Base URL of this process's own node: what others redirect to it with. */
  readonly url: string
  /** Finds the base URL of the other servers. */
  readonly urlOf: UrlOf
  /** Base URLs of other servers, to be asked where this node knows no leader. */
  readonly endpoints?: ReadonlyArray<string>
}

/**
 * The same in the process of a node: while that leads, requests go to it directly and cross no network; otherwise they follow its hints.
 *
 * ```ts
 * const Client = RaftClientHttp.layerEmbedded({ url, urlOf: (id) => urls[id] }).pipe(Layer.provide(raftNode))
 * ```
 */
export const layerEmbedded = (
  { url, urlOf, ...given }: EmbeddedOptions
): Layer.Layer<RaftClient, SettingsError, RaftNode> =>
  Layer.effect(
    RaftClient,
    Effect.gen(function*() {
      const here: ConnectionWith<never> = ofNode(yield* RaftNode, urlOf)
      const others = (given.endpoints ?? []).filter((endpoint) => endpoint !== url)
      const options = { ...given, endpoints: [url, ...others] }
      const connect = yield* makeConnect(options)
      return yield* makeClient(options, (to) => to === url ? Effect.succeed(here) : connect(to))
    })
  ).pipe(Layer.provide(WebSocketRoute.layerConstructor))
