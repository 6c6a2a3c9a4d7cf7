/**
 * How a core is broken on purpose.
 */
import type { Command, Send, Write } from "../../src/domain/Command.ts"
import type { Event } from "../../src/domain/Event.ts"
import type { Message } from "../../src/domain/Message.ts"
import type { NodeState } from "../../src/domain/NodeState.ts"
import { step, type Stepped } from "../../src/domain/Step.ts"
import type { Options } from "./Search.ts"

/** A core in the place of the one that ships. */
export type Core = Pick<Options, "step" | "start">

/** What `change` makes of each step's outcome. */
export const after = (change: (before: NodeState, event: Event, stepped: Stepped) => Stepped): Core => ({
  step: (before, event, nowMs) => change(before, event, step(before, event, nowMs))
})

/** Each message arrives as `change` makes it. */
export const hearing = (change: (before: NodeState, message: Message) => Message): Core => ({
  step: (before, event, nowMs) =>
    step(
      before,
      event._tag === "Received" ? { ...event, message: change(before, event.message) } : event,
      nowMs
    )
})

/** What `isEarly` picks leaves before the write it depends on. */
export const early = (isEarly: (send: Send, write: Write) => boolean): Core =>
  after((_, __, { commands, state }) => ({
    state,
    commands: commands.flatMap((command): ReadonlyArray<Command> => {
      if (command._tag !== "Persist") return [command]
      const { then, write } = command
      return [
        ...then.filter((send) => isEarly(send, write)),
        { _tag: "Persist", write, then: then.filter((send) => !isEarly(send, write)) }
      ]
    })
  }))

/** A higher commit index, and what follows from it. */
export const committing = ({ commands, state }: Stepped, commitIndex: number): Stepped => {
  if (commitIndex <= state.commitIndex) return { commands, state }
  const from = commands.find((command) => command._tag === "Apply")?.from ?? state.commitIndex + 1
  return {
    state: { ...state, commitIndex },
    commands: [...commands.filter((command) => command._tag !== "Apply"), { _tag: "Apply", from, to: commitIndex }]
  }
}
