/** A server at which tests call as they like, and the disks that servers of such a test have. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { ofVoters } from "../../src/domain/Configuration.ts"
import * as MessageCodec from "../../src/layers/MessageCodec.ts"
import * as MessageFrame from "../../src/layers/MessageFrame.ts"
import * as PeerRpc from "../../src/layers/PeerRpc.ts"
import * as StorageMemory from "../../src/layers/StorageMemory.ts"
import { heartbeat, listen } from "../contracts/transport.ts"
import { rawClient, startNode } from "./peerNode.ts"

export const newDisk = (nodeId: string) => StorageMemory.makeDisk({ clusterId: "c1", nodeId })

export const disk = (digit: string): string => digit.repeat(32)

/** `use` on a server that ends before this returns. */
export const life = <A, E>(use: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E> => Effect.scoped(use)

export const three = ofVoters(["n1", "n2", "n3"])

/** n2, of three members, at which a test calls as it likes. */
export const startCalled = Effect.fnUntraced(function*(of: StorageMemory.Disk, configuration = three) {
  const n2 = yield* startNode({ id: "n2", urls: new Map(), disk: of })
  const events = yield* listen(n2)
  yield* n2.reconfigure(configuration)
  const client = yield* rawClient(n2.url, PeerRpc.PeerRpcs)
  const deliver = (token: string, round: number) =>
    client.Deliver({ token, messages: MessageFrame.encode([MessageCodec.toWire(heartbeat(round))]) })
  return { ...n2, events, hello: client.Hello, deliver }
})

export const refusal = <A>(effect: Effect.Effect<A, unknown>) =>
  Effect.map(Effect.flip(effect), (error) => error instanceof PeerRpc.Refused ? error : assert.fail(String(error)))
