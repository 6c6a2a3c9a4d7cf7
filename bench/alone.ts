/**
 * A cluster of one in this process, with the key-value store and its data on disk.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { randomBytes } from "node:crypto"
import { ofVoters } from "../src/domain/Configuration.ts"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as Store from "../src/layers/kv/Store.ts"
import * as StorageFile from "../src/layers/StorageFile.ts"
import * as TransportMemory from "../src/layers/TransportMemory.ts"
import * as RaftNode from "../src/services/RaftNode.ts"

export const nodeId = "n1"

/** A node that leads, with default settings. It stops when the scope closes. */
export const start = Effect.fnUntraced(function*(directory: string) {
  const layer = RaftNode.layer({ configuration: ofVoters([nodeId]) }).pipe(Layer.provide([
    StorageFile.layer({ directory, clusterId: "bench", nodeId }),
    TransportMemory.layer({ network: TransportMemory.makeNetwork({ seed: 1 }), id: nodeId }),
    Store.layer
  ]))
  const node = Context.get(yield* Layer.build(layer), RaftNode.RaftNode)
  yield* node.status.pipe(
    Effect.filterOrFail(({ role }) => role === "Leader", () => "not yet"),
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.orDie
  )
  return node
})

/** Long enough to give millions of values that differ. */
const random = new Uint8Array(randomBytes(1 << 20))

/** The `n`th of many commands that put `valueBytes` random bytes. */
export const put = (key: string, n: number, valueBytes: number): Protocol.Command => {
  const from = (n * 7919) % (random.length - valueBytes)
  return { _tag: "Put", key, value: random.subarray(from, from + valueBytes) }
}

const inFlight = 512

/** Puts `commandOf(from)` … `commandOf(to - 1)` as fast as they are taken. A put that fails ends the bench. */
export const putAll = (
  node: RaftNode.RaftNode["Service"],
  options: { readonly from: number; readonly to: number; readonly commandOf: (n: number) => Protocol.Command }
): Effect.Effect<void> => {
  const store = Protocol.wire.on(node)
  let n = options.from
  const caller = Effect.gen(function*() {
    while (n < options.to) yield* store.propose(options.commandOf(n++))
  })
  return Effect.all(Array.from({ length: inFlight }, () => caller), { concurrency: "unbounded", discard: true }).pipe(
    Effect.orDie
  )
}

export const memory = () => {
  const { external, heapUsed, rss } = process.memoryUsage()
  return { heapBytes: heapUsed, externalBytes: external, rssBytes: rss }
}

export const mib = (bytes: number): string => (bytes / (1 << 20)).toFixed(0)
