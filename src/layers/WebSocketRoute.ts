/**
 * Effect RPC on one path of an HTTP server, over WebSockets, for programs only; and beside it, where there is one, another protocol over the bare
 * connection.
 *
 * A web page may open a WebSocket to any address that its reader's machine reaches, loopback included: browsers do not guard it as they
 * guard other requests. They do send `Origin` with it, which programs do not: so a request with one is refused.
 *
 * Answers that a client does not read wait in this process's memory. While more than `unreadBytesMax` do, nothing more is read from that client's
 * connection, so that it cannot ask for more of them, and whoever writes to it waits.
 */
import * as NodeWS from "@effect/platform-node/NodeWS"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import { RequestId } from "effect/rpc/RpcMessage"
import type * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Socket from "effect/socket/Socket"
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"

const unreadBytesMax = 1 << 20

/** Ends once everything that was written is on its way, or the connection is gone. */
const drained = (stream: Duplex): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const done = (): void => {
      stream.off("drain", done).off("close", done)
      resume(Effect.void)
    }
    stream.on("drain", done).on("close", done)
    return Effect.sync(() => stream.off("drain", done).off("close", done))
  })

/** Has what is written to `stream` until the event loop turns leave together: whoever gets it is woken once. */
const gathering = (stream: Duplex): () => void => {
  let isGathering = false
  return () => {
    if (isGathering) return
    isGathering = true
    stream.cork()
    setImmediate(() => {
      isGathering = false
      stream.uncork()
    })
  }
}

/**
 * The same request, whose WebSocket reads nothing while too much waits to be written, and whose writes wait for that. Answers that are given at the
 * same time leave together. Its headers are left out: RPC would copy them for every call, and no handler asks for them.
 */
const patient = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest => {
  const { socket: stream } = request.source as IncomingMessage
  const isFull = (): boolean => !stream.destroyed && stream.writableLength > unreadBytesMax
  const gather = gathering(stream)
  const room = Effect.suspend(() => isFull() ? drained(stream) : Effect.void)
  const gathered = <E>(written: Effect.Effect<void, E>): Effect.Effect<void, E> =>
    Effect.andThen(Effect.andThen(Effect.sync(gather), written), room)
  const upgrade = Effect.map(request.upgrade, ({ reader, writer }) =>
    Socket.make({
      writer: Effect.map(writer, ({ write, writeAll }) => ({
        write: (chunk) => gathered(write(chunk)),
        writeAll: (chunks) => gathered(writeAll(chunks))
      })),
      reader: Effect.map(reader, ({ pull, upgrade }) => ({
        pull: Effect.andThen(room, pull),
        upgrade
      }))
    }))
  return Object.create(request, { upgrade: { value: upgrade }, headers: { value: Headers.empty } })
}

/** However it ends, whoever called is told by that, and reports it. What is wrong here is told here. */
const serveBare = (request: HttpServerRequest.HttpServerRequest, { serve }: Bare) =>
  Effect.flatMap(request.upgrade, serve).pipe(
    Effect.tapCause((cause) =>
      Cause.hasDies(cause)
        ? Effect.annotateLogs(Effect.logError("a connection has ended with a defect", cause), {
          problem: String(Cause.squash(cause))
        })
        : Effect.void
    ),
    Effect.ignoreCause,
    Effect.as(HttpServerResponse.empty())
  )

/** What to do about a notification, if it is to be done without a handler. */
export type Notified = (
  codecFor: RpcSerialization.CodecFor
) => (tag: string, payload: unknown) => Effect.Effect<void> | undefined

/** Another protocol at the same path, over the bare connection. */
interface Bare {
  readonly protocol: string
  readonly serve: (socket: Socket.Socket) => Effect.Effect<void, unknown>
}

/**
 * The protocol for `RpcServer.layer`, at `path`. A plain request is told `purpose` and that it needs a WebSocket (426); an upgrade with an
 * `Origin` is refused (403); any other becomes a connection.
 */
export const protocol = (options: {
  readonly path: `/${string}`
  readonly purpose: string
  /** Called when the answer to a request is on its way to its client, or never will be. */
  readonly onSent?: (clientId: number, requestId: RequestId) => void
  readonly notified?: Notified
  readonly bare?: Bare
}) =>
  Layer.effect(RpcServer.Protocol)(Effect.gen(function*() {
    const { httpEffect, protocol } = yield* RpcServer.makeProtocolWithHttpEffectWebsocket
    const router = yield* HttpRouter.HttpRouter
    const orBare = options.bare === undefined ? "" : ` or by ${options.bare.protocol}`
    const upgradeRequired = HttpServerResponse.text(`${options.purpose}, over a WebSocket${orBare}\n`, {
      status: 426,
      headers: { upgrade: "websocket", connection: "Upgrade" }
    })
    const forbidden = HttpServerResponse.text("programs talk here, not web pages\n", { status: 403 })
    yield* router.add(
      "GET",
      options.path,
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
        const { headers } = request
        const asked = headers["upgrade"]?.toLowerCase()
        const isBare = asked !== undefined && asked === options.bare?.protocol
        if (asked !== "websocket" && !isBare) return Effect.succeed(upgradeRequired)
        if (headers["origin"] !== undefined) return Effect.succeed(forbidden)
        if (isBare) return serveBare(request, options.bare)
        // A connection that breaks ends its request with a defect; that is an ordinary event here, and the caller reports it.
        return Effect.catchDefect(httpEffect, () => Effect.succeed(HttpServerResponse.empty())).pipe(
          Effect.updateService(HttpServerRequest.HttpServerRequest, patient)
        )
      })
    )
    const { notified, onSent = () => {} } = options
    const hear = notified?.(protocol.codecFor)
    const run: typeof protocol.run = (f) =>
      protocol.run((clientId, message) => {
        const heard = message._tag === "Request" && message.isNotification === true
          ? hear?.(message.tag, message.payload)
          : undefined
        return heard ?? f(clientId, message)
      })
    const send: typeof protocol.send = (clientId, response, transferables) => {
      const sending = protocol.send(clientId, response, transferables)
      return response._tag === "Exit"
        ? Effect.ensuring(sending, Effect.sync(() => onSent(clientId, RequestId(response.requestId))))
        : sending
    }
    return { ...protocol, run, send }
  }))

/** The largest frame that either side reads, in bytes. A larger one breaks its connection for every call on it (measured), so nothing near it is sent. */
export const frameBytesMax = 64 << 20

/**
 * Node's `ws`: it can pause reading, and the mask can be left zero, which spares both sides a pass over each byte. It is there to protect proxies from
 * scripts in browsers, which choose what they send; this is for programs only.
 */
export const layerConstructor: Layer.Layer<Socket.WebSocketConstructor> = Layer.succeed(Socket.WebSocketConstructor)((
  url
) =>
  new NodeWS.WebSocket(url, {
    maxPayload: frameBytesMax,
    perMessageDeflate: false,
    generateMask: (mask) => void mask.fill(0)
  })
)

export interface Address {
  /** For a WebSocket. */
  readonly url: string
  /** For any other request. */
  readonly httpUrl: string
}

/** The address of `path` at a server's base URL, such as `http://127.0.0.1:7101`; or what is wrong with that. */
export const address = (base: string, path: string): Address | { readonly problem: string } => {
  if (!URL.canParse(base)) {
    return { problem: `${JSON.stringify(base)} is no address: it must look like http://host:port` }
  }
  // Of what is no address of a server, such as `n1:7101`, another path makes none at all.
  const url = URL.parse(path, base.replace(/^http/, "ws"))
  return url?.protocol === "ws:" || url?.protocol === "wss:"
    ? { url: url.href, httpUrl: url.href.replace(/^ws/, "http") }
    : { problem: `${JSON.stringify(base)} must start with http:// or https://` }
}
