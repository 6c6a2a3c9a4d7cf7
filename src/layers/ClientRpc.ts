/**
 * What clients and servers say to each other at `/rpc`: Effect RPC over a WebSocket, in SchemaBinary. Commands, results, queries and
 * answers are bytes: only the state machine knows what is in them.
 */
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Schema from "effect/Schema"
import { Redirected } from "../services/RaftClient.ts"
import {
  Behind,
  OutcomeUnknown,
  Overloaded,
  ReadUnconfirmed,
  SnapshotFailed,
  Stopped,
  TooLarge
} from "../services/RaftNode.ts"
import { ServerStatus } from "../services/ServerStatus.ts"
import { SnapshotReport } from "../services/SnapshotReport.ts"

export const path = "/rpc"

/** A larger frame breaks the connection for every call on it (measured), so both ends refuse what could grow into one. */
export const frameBytesMax = 64 << 20

/** The longest command or query that a client sends, in bytes. */
export const requestBytesMax = 32 << 20

export class Propose extends Rpc.make("Propose", {
  payload: { command: Schema.Uint8Array },
  success: Schema.Uint8Array,
  error: Schema.Union([Redirected, Overloaded, TooLarge, OutcomeUnknown, Stopped])
}) {}

export class Read extends Rpc.make("Read", {
  payload: {
    query: Schema.Uint8Array,
    /** Absent: linearizable. */
    consistency: Schema.optionalKey(Schema.Literals(["linearizable", "lease", "follower"]))
  },
  success: Schema.Uint8Array,
  error: Schema.Union([Redirected, Overloaded, ReadUnconfirmed, Stopped])
}) {}

export class ReadStale extends Rpc.make("ReadStale", {
  payload: { query: Schema.Uint8Array, minIndex: Schema.optionalKey(Schema.Int) },
  success: Schema.Struct({
    answer: Schema.Uint8Array,
    appliedIndex: Schema.Int,
    leaderContactAgeMs: Schema.UndefinedOr(Schema.Finite)
  }),
  error: Schema.Union([Overloaded, Behind, Stopped])
}) {}

export class Status extends Rpc.make("Status", { success: ServerStatus }) {}

export class TakeSnapshot extends Rpc.make("TakeSnapshot", {
  success: SnapshotReport,
  error: Schema.Union([SnapshotFailed, Stopped])
}) {}

export const ClientRpcs = RpcGroup.make(Propose, Read, Status, ReadStale, TakeSnapshot)

export const serialization = RpcSerialization.layerSchemaBinary({ maxFrameSize: frameBytesMax })
