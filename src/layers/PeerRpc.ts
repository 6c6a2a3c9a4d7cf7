/**
 * What two servers of a cluster say when they connect: the protocol that `TransportHttp.ts` (the caller) and
 * `RaftHttp.ts` (the called) share. Effect RPC over a WebSocket at `path`, one connection per direction, SchemaBinary
 * frames.
 *
 * ```
 * caller                                        called
 *   Hello { protocolVersion, clusterId, from, to } →
 *                                     ← { token }  or  Refused { reason }
 *   Deliver { token, messages } →
 *   Deliver { token, messages } →     ← (nothing)  or  Refused { reason: "UnknownToken" }
 * ```
 *
 * `Hello` must stay readable for every version: its fields may only grow by optional ones. Everything else may change
 * together with `protocolVersion`.
 */
import * as Context from "effect/Context"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Schema from "effect/Schema"
import type { NodeId } from "../domain/NodeId.ts"
import type { Inbound } from "../services/Transport.ts"
import { WireMessage } from "./MessageCodec.ts"

export const protocolVersion = 1

export const path = "/raft"

/**
 * Largest frame either side reads, in bytes. The transport sends nothing near it: a larger frame would end the
 * connection.
 */
export const frameBytesMax = 64 << 20

/** Why a server does not talk to another. `message` says it in words, with both sides' values. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  reason: Schema.Literals(["ProtocolVersion", "ClusterId", "Target", "Self", "UnknownPeer", "UnknownToken"]),
  message: Schema.String
}) {}

/** Opens a conversation. The token stands for it in every `Deliver`; a later `Hello` from the same server voids it. */
export class Hello extends Rpc.make("Hello", {
  payload: {
    protocolVersion: Schema.Int,
    clusterId: Schema.String,
    from: Schema.String,
    to: Schema.String
  },
  success: Schema.Struct({ token: Schema.String }),
  error: Refused
}) {}

/** Messages in the order they were sent. */
export class Deliver extends Rpc.make("Deliver", {
  payload: { token: Schema.String, messages: Schema.Array(WireMessage) },
  error: Refused
}) {}

export const PeerRpcs = RpcGroup.make(Hello, Deliver)

export const layerSerialization = RpcSerialization.layerSchemaBinary({ maxFrameSize: frameBytesMax })

/**
 * Where the server side hands over what came in, and what it checks callers against. Provided by
 * `TransportHttp.layer`.
 */
export class PeerInbox extends Context.Service<PeerInbox, {
  readonly id: NodeId
  readonly clusterId: string
  readonly isPeer: (id: NodeId) => boolean
  /** Whether this server was refused at `id`'s address when it last reached it: then nobody should be sent there. */
  readonly isRefusedBy: (id: NodeId) => boolean
  /** Hands `event` to the node's receiver, synchronously. Without a receiver it is lost. */
  readonly deliver: (event: Inbound) => void
}>()("titan/layers/PeerRpc/PeerInbox") {}

const repeatAfterMs = 60_000
const gateKeysMax = 64

/**
 * Decides whether a log line about `key` is news: its text has changed, or a minute has passed. Remembers at most 64
 * keys.
 */
export const makeLogGate = (): (key: string, text: string, nowMs: number) => boolean => {
  const last = new Map<string, { readonly text: string; readonly atMs: number }>()
  return (key, text, nowMs) => {
    const before = last.get(key)
    if (before !== undefined && before.text === text && nowMs - before.atMs < repeatAfterMs) return false
    last.delete(key)
    last.set(key, { text, atMs: nowMs })
    for (const oldest of last.keys()) {
      if (last.size <= gateKeysMax) break
      last.delete(oldest)
    }
    return true
  }
}
