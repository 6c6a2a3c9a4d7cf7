import { Console, Context, Effect, Layer, Schedule } from "effect"
import { Configuration, KeyValueProtocol, KeyValueStore, RaftNode, StorageMemory, TransportMemory } from "titan-raft"

const ids = ["n1", "n2", "n3"]
const network = TransportMemory.makeNetwork({ seed: 1 })

const nodeLayer = (nodeId: string) =>
  RaftNode.layer({ configuration: Configuration.ofVoters(ids) }).pipe(Layer.provide([
    StorageMemory.layer({ disk: StorageMemory.makeDisk({ clusterId: "embedded", nodeId }) }),
    TransportMemory.layer({ network, id: nodeId }),
    KeyValueStore.layer
  ]))

export const program = Effect.gen(function*() {
  const contexts = yield* Effect.forEach(ids, (id) => Layer.build(nodeLayer(id)))
  const nodes = contexts.map((context) => Context.get(context, RaftNode.RaftNode))
  const leader = yield* Effect.forEach(nodes, (node) => node.status).pipe(
    Effect.map((all) => nodes[all.findIndex((status) => status.role === "Leader")]),
    Effect.filterOrFail((node) => node !== undefined, () => "nobody leads yet"),
    Effect.retry(Schedule.spaced("50 millis"))
  )
  const store = KeyValueProtocol.wire.on(leader)
  yield* store.propose({ _tag: "Put", key: "greeting", value: new TextEncoder().encode("hello") })
  const answer = yield* store.read({ _tag: "Get", key: "greeting" })
  return answer._tag === "Found" ? new TextDecoder().decode(answer.value) : answer._tag
}).pipe(Effect.scoped)

if (import.meta.main) await Effect.runPromise(Effect.flatMap(program, Console.log))
