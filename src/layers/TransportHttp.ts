/**
 * The transport between processes: Effect RPC over WebSockets to the `/raft` of every other server (`PeerRpc.ts`, `RaftHttp.ts`). How it calls and whom it
 * hears is in `peer/PeerTransport.ts`.
 */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Storage } from "../services/Storage.ts"
import type { Transport } from "../services/Transport.ts"
import * as PeerTransport from "./peer/PeerTransport.ts"
import * as PeerClient from "./PeerClient.ts"
import * as PeerRpc from "./PeerRpc.ts"

export type Limits = PeerTransport.Limits
export type Options = PeerTransport.Options
export const defaults = PeerTransport.defaults

/**
 * Never succeeds: fails when another server knows another disk under this one's name, and this one's was new when the process began. Whoever runs
 * a server races this with `RaftNode.halted`, and ends the process: `message` says what to do.
 */
export const diskRefused: Effect.Effect<never, PeerRpc.DiskRefused, PeerRpc.PeerInbox> = Effect.flatMap(
  PeerRpc.PeerInbox,
  (inbox) => inbox.diskRefused
)

/**
 * The transport of server `id`, and the `PeerInbox` that `RaftHttp.layer` hands incoming messages to. A message to the server itself, or
 * to one without an address, is silence.
 */
export const layer = (options: Options): Layer.Layer<Transport | PeerRpc.PeerInbox, never, Storage> =>
  PeerTransport.layer(PeerClient.connect, options)
