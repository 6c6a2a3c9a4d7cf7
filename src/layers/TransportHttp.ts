/**
 * The transport between processes: Effect RPC over WebSockets to the `/raft` of every other server (`PeerRpc.ts`, `RaftHttp.ts`). How it calls and whom it
 * hears is in `peer/PeerTransport.ts`.
 */
import type * as Layer from "effect/Layer"
import type { Storage } from "../services/Storage.ts"
import type { Transport } from "../services/Transport.ts"
import * as PeerTransport from "./peer/PeerTransport.ts"
import * as PeerClient from "./PeerClient.ts"
import * as PeerRpc from "./PeerRpc.ts"

export type Limits = PeerTransport.Limits
export type Options = PeerTransport.Options
export const { defaults, diskRefused } = PeerTransport

/**
 * The transport of server `id`, and the `PeerInbox` that `RaftHttp.layer` hands incoming messages to. A message to the server itself, or
 * to one without an address, is silence.
 */
export const layer = (options: Options): Layer.Layer<Transport | PeerRpc.PeerInbox, never, Storage> =>
  PeerTransport.layer(PeerClient.connect, options)
