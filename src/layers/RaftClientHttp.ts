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
import * as NodeWS from "@effect/platform-node/NodeWS"
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
import {
  type Connection,
  Lost,
  make as makeClient,
  type Options,
  RaftClient,
  Unreachable
} from "../services/RaftClient.ts"
import { SettingsError, TooLarge } from "../services/RaftNode.ts"
import { ClientRpcs, path, requestBytesMax, serialization } from "./ClientRpc.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

/** How often an idle connection is probed, and how long a silent server counts as alive. */
const pingInterval = Duration.seconds(1)
const pingTimeout = Duration.seconds(2)

/** A connection to one server, being opened or open. */
interface Link {
  readonly scope: Scope.Closeable
  readonly ready: Deferred.Deferred<Connection, Unreachable>
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
          : Deferred.fail(opened, new Unreachable({ reason: reasonOf(exit.cause) }))
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
    yield* Deferred.await(opened)

    const ending = <A, E>(call: Effect.Effect<A, E>): Effect.Effect<A, Exclude<E, RpcClientError> | Lost> =>
      Effect.catchCause(call, (cause): Effect.Effect<never, Exclude<E, RpcClientError> | Lost> => {
        const answer = cause.reasons.find(Cause.isFailReason)
        if (answer !== undefined && !(answer.error instanceof RpcClientError)) {
          return Effect.fail(answer.error as Exclude<E, RpcClientError>)
        }
        return Effect.andThen(broken, Effect.fail(new Lost({ reason: reasonOf(cause) })))
      })
    const connection: Connection = {
      propose: (command) =>
        command.length > requestBytesMax
          ? Effect.fail(new TooLarge({ sizeBytes: command.length, limitBytes: requestBytesMax }))
          : ending(client.Propose({ command })),
      read: (query, consistency) => ending(client.Read(consistency === undefined ? { query } : { query, consistency })),
      readStale: (query, minIndex) =>
        ending(client.ReadStale(minIndex === undefined ? { query } : { query, minIndex })),
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

const make = Effect.fnUntraced(function*(options: Options) {
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
      ready: yield* Deferred.make<Connection, Unreachable>()
    }
    links.set(url, link)
    const broken = discard(url, link)
    yield* open(url, link.scope, options.attemptMs ?? 1000, broken).pipe(
      Effect.onExit((exit) => Exit.isFailure(exit) ? broken : Effect.void),
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
  return makeClient(options, (url) => Effect.provideService(connect(url), Socket.WebSocketConstructor, constructor))
})

/** A client of the cluster behind `options.endpoints`. Building it connects to nothing yet; it fails where an endpoint is no URL. */
export const layer = (options: Options): Layer.Layer<RaftClient, SettingsError> =>
  Layer.effect(RaftClient, make(options)).pipe(Layer.provide(NodeWS.layerWebSocketConstructor))
