/**
 * What one `step` gathers while its handlers run. It never escapes `step`, which makes one list of commands of it.
 */
import type { Command, Install, Send } from "./Command.ts"
import type { Entry } from "./Entry.ts"
import type { Message } from "./Message.ts"
import type { NodeId } from "./NodeId.ts"

export interface Turn {
  readonly nowMs: number
  readonly commands: Array<Command>
  /** What promises durability: it leaves once this step's write, and all earlier ones, are durable. */
  readonly promises: Array<Send>
  /** What this step put on the log. At most one handler of a step appends. */
  appended: ReadonlyArray<Entry>
  /** The snapshot that this step puts in the place of what was applied. */
  install: Install | undefined
}

export const make = (nowMs: number): Turn => ({ nowMs, commands: [], promises: [], appended: [], install: undefined })

/** A message that promises nothing: it may leave at once. */
export const send = (turn: Turn, to: NodeId, message: Message): void => {
  turn.commands.push({ _tag: "Send", to, message })
}

export const promise = (turn: Turn, to: NodeId, message: Message): void => {
  turn.promises.push({ _tag: "Send", to, message })
}
