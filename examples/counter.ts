import { Console, Context, Effect, Layer, Schedule, Schema } from "effect"
import { Configuration, RaftNode, StateMachine, StorageMemory, TransportMemory } from "titan-raft"

export const Counter = StateMachine.make({
  command: Schema.Struct({ add: Schema.Int }),
  result: Schema.Int,
  query: Schema.Void,
  answer: Schema.Int,
  state: Schema.Int,
  initial: 0,
  apply: (total, { add }) => ({ state: total + add, result: total + add }),
  respond: (total) => total
})

const ids = ["n1", "n2", "n3"]
const network = TransportMemory.makeNetwork({ seed: 1 })

const nodeLayer = (nodeId: string) =>
  RaftNode.layer({ configuration: Configuration.ofVoters(ids) }).pipe(Layer.provide([
    StorageMemory.layer({ disk: StorageMemory.makeDisk({ clusterId: "counter", nodeId }) }),
    TransportMemory.layer({ network, id: nodeId }),
    Counter.layer
  ]))

export const program = Effect.gen(function*() {
  const contexts = yield* Effect.forEach(ids, (id) => Layer.build(nodeLayer(id)))
  const nodes = contexts.map((context) => Context.get(context, RaftNode.RaftNode))
  const leader = yield* Effect.forEach(nodes, (node) => node.status).pipe(
    Effect.map((all) => nodes[all.findIndex((status) => status.role === "Leader")]),
    Effect.filterOrFail((node) => node !== undefined, () => "nobody leads yet"),
    Effect.retry(Schedule.spaced("50 millis"))
  )
  const counter = Counter.on(leader)
  const total = yield* counter.propose({ add: 2 })
  return { total, read: yield* counter.read() }
}).pipe(Effect.scoped)

if (import.meta.main) await Effect.runPromise(Effect.flatMap(program, Console.log))
