/**
 * Effect RPC on one path of an HTTP server, over WebSockets, for programs only.
 *
 * A web page may open a WebSocket to any address that its reader's machine reaches, loopback included: browsers do not guard it as they
 * guard other requests. They do send `Origin` with it, which programs do not: so a request with one is refused.
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as RpcServer from "effect/rpc/RpcServer"

/**
 * The protocol for `RpcServer.layer`, at `path`. A plain request is told `purpose` and that it needs a WebSocket (426); an upgrade with an
 * `Origin` is refused (403); any other becomes a connection.
 */
export const protocol = (options: { readonly path: `/${string}`; readonly purpose: string }) =>
  Layer.effect(RpcServer.Protocol)(Effect.gen(function*() {
    const { httpEffect, protocol } = yield* RpcServer.makeProtocolWithHttpEffectWebsocket
    const router = yield* HttpRouter.HttpRouter
    const upgradeRequired = HttpServerResponse.text(`${options.purpose}, over a WebSocket\n`, {
      status: 426,
      headers: { upgrade: "websocket", connection: "Upgrade" }
    })
    const forbidden = HttpServerResponse.text("programs talk here, not web pages\n", { status: 403 })
    yield* router.add(
      "GET",
      options.path,
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) => {
        if (headers["upgrade"]?.toLowerCase() !== "websocket") return Effect.succeed(upgradeRequired)
        if (headers["origin"] !== undefined) return Effect.succeed(forbidden)
        // A connection that breaks ends its request with a defect; that is an ordinary event here, and the caller reports it.
        return Effect.catchDefect(httpEffect, () => Effect.succeed(HttpServerResponse.empty()))
      })
    )
    return protocol
  }))

/** The WebSocket address of `path` at a server's base URL, such as `http://127.0.0.1:7101`; or what is wrong with that. */
export const address = (base: string, path: string): { readonly url: string } | { readonly problem: string } => {
  if (!URL.canParse(base)) {
    return { problem: `${JSON.stringify(base)} is no address: it must look like http://host:port` }
  }
  const url = new URL(path, base.replace(/^http/, "ws"))
  return url.protocol === "ws:" || url.protocol === "wss:"
    ? { url: url.href }
    : { problem: `${JSON.stringify(base)} must start with http:// or https://` }
}
