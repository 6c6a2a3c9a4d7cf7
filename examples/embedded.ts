import { Context, Effect, Layer, Schedule, Schema } from "effect"
import { Configuration, RaftNode, StateMachine, StorageMemory, TransportMemory } from "titan-raft"

const Counter = StateMachine.make({
  command: Schema.Struct({ add: Schema.Int }),
  result: Schema.Int,
  query: Schema.Void,
  answer: Schema.Int,
  initial: 0,
  apply: (total, { add }) => ({ state: total + add, result: total + add }),
  respond: (total) => total
})

const ids = ["n1", "n2", "n3"]
const network = TransportMemory.makeNetwork({ seed: 1 })

const nodeLayer = (nodeId: string) =>
  RaftNode.RaftNode.layer({ configuration: Configuration.ofVoters(ids) }).pipe(Layer.provide([
    StorageMemory.layer({ disk: StorageMemory.makeDisk({ clusterId: "embedded", nodeId }) }),
    TransportMemory.layer({ network, id: nodeId }),
    Layer.fresh(Counter.layer)
  ]))

export const program = Effect.gen(function*() {
  const contexts = yield* Effect.forEach(ids, (id) => Layer.build(nodeLayer(id)))
  const counters = contexts.map((context) => Counter.on(Context.get(context, RaftNode.RaftNode)))
  // Only the leader takes requests, and the others certainly apply nothing: asking each in turn is safe.
  const untilLed = { while: (error: { _tag: string }) => error._tag === "NotLeader", schedule: Schedule.spaced("50 millis") }
  const total = yield* Effect.firstSuccessOf(counters.map((counter) => counter.propose({ add: 2 }))).pipe(Effect.retry(untilLed))
  const read = yield* Effect.firstSuccessOf(counters.map((counter) => counter.read())).pipe(Effect.retry(untilLed))
  return { total, read }
}).pipe(Effect.scoped)
