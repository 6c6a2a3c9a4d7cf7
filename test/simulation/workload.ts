/**
 * What the clients of a simulated cluster ask: mostly the key-value store; in some runs they add to a counter, whose every answer says how
 * many additions came before it, so that one that is lost or made twice shows in all later ones.
 */
import * as Schema from "effect/Schema"
import * as StateMachine from "../../src/services/StateMachine.ts"
import * as KeyValueWorkload from "../../src/testing/KeyValueWorkload.ts"
import { workloadOf } from "../../src/testing/ReducerWorkload.ts"
import type { Workload } from "../../src/testing/Workload.ts"

const Counter = StateMachine.make({
  command: Schema.Struct({ add: Schema.Int }),
  result: Schema.Int,
  query: Schema.Void,
  answer: Schema.Int,
  state: Schema.Int,
  initial: 0,
  apply: (total, { add }) => ({ state: total + add, result: total + add }),
  respond: (total) => total
})

export const counter: Workload = workloadOf(Counter, {
  command: (draws) => ({ add: draws.between(1, 9) }),
  query: () => undefined
})

export const workload: Workload = {
  start: (options) => (options.draws.happens(0.2) ? counter : KeyValueWorkload.workload).start(options)
}
