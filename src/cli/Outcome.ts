/**
 * How a command ends. Exit codes: 0 done, 1 failed, 2 usage, 3 not found or condition not met, 4 cluster unavailable.
 */
import * as Data from "effect/Data"

export const failed = 1
export const usage = 2
export const notMet = 3
export const unavailable = 4

/** Ends the process with `exitCode` and `message` on stderr; `tag` and `outcome` are for `--json`. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{
  readonly exitCode: number
  readonly message: string
  readonly tag?: string
  readonly outcome?: string
}> {}

/** The flags or settings make no sense; nothing was done. */
export const usageError = (message: string): CommandFailed =>
  new CommandFailed({ exitCode: usage, message, tag: "Usage" })
