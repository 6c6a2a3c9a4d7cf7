/**
 * What two servers of a cluster say when they connect: the protocol that `PeerClient.ts` (the caller) and
 * `RaftHttp.ts` (the called) share. Effect RPC over a WebSocket at `path`, one connection per direction, SchemaBinary
 * frames.
 *
 * ```
 * caller                                        called
 *   Hello { protocolVersion, clusterId, from, to, url, diskId, disks } →
 *                                     ← { token, diskId, disks, isMember }  or  Refused { reason }
 *   Deliver { token, messages } →
 *   Deliver { token, messages } →     ← (nothing)  or  Refused { reason: "UnknownToken" }
 * ```
 *
 * Each says which disk it has and which disks it knows of the others, the one that it calls included: so whichever of the two has met the other
 * with another disk, both learn of it. The called also says whether it counts the caller among the members of the cluster. It lets it in
 * all the same: a server answers whoever asks (rule V4).
 *
 * `Hello` must stay readable for every version: its fields may only grow by optional ones. Everything else may change
 * together with `protocolVersion`.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Schema from "effect/Schema"
import type { NodeId } from "../domain/NodeId.ts"
import type { DiskId } from "../services/Storage.ts"
import type { Inbound } from "../services/Transport.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

export const protocolVersion = 3

export const path = "/raft"

/** Why a server does not talk to another. `message` says it in words, with both sides' values. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  reason: Schema.Literals([
    "ProtocolVersion",
    "ClusterId",
    "Target",
    "Self",
    "Malformed",
    "CallerDisk",
    "CalledDisk",
    "NotRemembered",
    "UnknownToken"
  ]),
  message: Schema.String
}) {}

/** Another disk is known under this server's name: it may not take part. `message` says why, and what to do. */
export class DiskRefused extends Data.TaggedError("DiskRefused")<{ readonly message: string }> {}

const Disks = Schema.Array(Schema.Tuple([Schema.String, Schema.String]))

/** What a caller is told that may be heard. */
export const Welcome = Schema.Struct({
  /** The called's. */
  diskId: Schema.optionalKey(Schema.String),
  disks: Schema.optionalKey(Disks),
  /** Absent where the called knows no configuration yet. */
  isMember: Schema.optionalKey(Schema.Boolean)
})
export type Welcome = typeof Welcome.Type

/** Opens a conversation. The token stands for it in every `Deliver`; a later `Hello` from the same server voids it. */
export class Hello extends Rpc.make("Hello", {
  payload: {
    protocolVersion: Schema.Int,
    clusterId: Schema.String,
    from: Schema.String,
    to: Schema.String,
    /** Where the caller is reached. */
    url: Schema.optionalKey(Schema.String),
    /** The caller's. */
    diskId: Schema.optionalKey(Schema.String),
    /** Which disk the caller has met under the name of each server. */
    disks: Schema.optionalKey(Disks)
  },
  success: Schema.Struct({ token: Schema.String, ...Welcome.fields }),
  error: Refused
}) {}

/** Messages in the order they were sent, as one frame of `MessageFrame.ts`. */
export class Deliver extends Rpc.make("Deliver", {
  payload: { token: Schema.String, messages: Schema.Uint8Array },
  error: Refused
}) {}

export const PeerRpcs = RpcGroup.make(Hello, Deliver)

export type Greeting = typeof Hello.payloadSchema.Type

/** How many servers that are no members are kept in mind, the latest: with an address, or a conversation. */
export const strangersMax = 16

export const layerSerialization = RpcSerialization.layerSchemaBinary({ maxFrameSize: WebSocketRoute.frameBytesMax })

/**
 * Where the server side hands over who calls and what came in. Provided by the transport's layer.
 */
export class PeerInbox extends Context.Service<PeerInbox, {
  readonly id: NodeId
  readonly clusterId: string
  /** Whether `id` is neither a member nor a server that this process was started with. */
  readonly isStranger: (id: NodeId) => boolean
  /** A server of this cluster calls this one. Ends once the caller may be heard; `diskId` is what its `Hello` says. */
  readonly greet: (hello: Greeting, diskId: DiskId) => Effect.Effect<Welcome, Refused>
  /**
   * What has to be done before messages of `from` on that disk count: nothing, unless it became a member after it called, or another disk of it was
   * met since.
   */
  readonly beforeHearing: (from: NodeId, diskId: DiskId) => Effect.Effect<void, Refused> | undefined
  /** Whether this server was refused at `id`'s address when it last reached it: then nobody should be sent there. */
  readonly isRefusedBy: (id: NodeId) => boolean
  /** Hands `event` to the node's receiver, synchronously. Without a receiver it is lost. */
  readonly deliver: (event: Inbound) => void
  /**
   * Never succeeds: fails when a server knows another disk under this one's name, and this one's was new when this process began. Then the
   * process is to stop. Later on it is only a warning, said again each minute.
   */
  readonly diskRefused: Effect.Effect<never, DiskRefused>
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
