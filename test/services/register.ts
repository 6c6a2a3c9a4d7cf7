/**
 * The smallest state machine that shows order: a list of what was appended.
 */
import * as Schema from "effect/Schema"
import * as StateMachine from "../../src/services/StateMachine.ts"

export const Register = StateMachine.make({
  command: Schema.String,
  /** How many there are now. */
  result: Schema.Int,
  query: Schema.Void,
  answer: Schema.Array(Schema.String),
  state: Schema.Array(Schema.String),
  initial: [],
  apply: (all, text) => ({ state: [...all, text], result: all.length + 1 }),
  respond: (all) => all
})
