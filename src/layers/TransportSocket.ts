/**
 * The transport of `TransportHttp.ts` over bare connections: frames (`PeerFrames.ts`) in the place of Effect RPC over WebSockets. Everything else is the
 * same, at the same path of the same HTTP server, which takes both: servers of one cluster may call each other either way.
 *
 * It spares each message what RPC, Schema and WebSockets do for it (`bench/README.md` has figures). What it costs: no tool but Titan reads it.
 *
 * ```ts
 * TransportSocket.layer({ id: "n1", urls })
 * ```
 */
import type * as Layer from "effect/Layer"
import type { Storage } from "../services/Storage.ts"
import type { Transport } from "../services/Transport.ts"
import * as PeerTransport from "./peer/PeerTransport.ts"
import type { PeerInbox } from "./PeerRpc.ts"
import * as PeerSocket from "./PeerSocket.ts"

export type Limits = PeerTransport.Limits
export type Options = PeerTransport.Options
export const { defaults, diskRefused } = PeerTransport

/** Takes the options of `TransportHttp.layer`. */
export const layer = (options: Options): Layer.Layer<Transport | PeerInbox, never, Storage> =>
  PeerTransport.layer(PeerSocket.connect, options)
