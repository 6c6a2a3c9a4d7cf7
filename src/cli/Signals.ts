/**
 * What signals do. The first one interrupts whatever runs. A command that does one thing is cut short by it; a server is asked to stop,
 * and has stopped well when its finalizers have run.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { failed } from "./Outcome.ts"

/** The exit code of an interrupted command. */
export class Stopping extends Context.Reference<{ exitCode: number }>("titan/cli/Stopping", {
  defaultValue: () => ({ exitCode: 130 })
}) {}

/** Finalizers may wait for a disk or a client, but not longer than this. */
const stopMsMax = 10_000

/** One Ctrl-C can arrive twice: from the terminal, and again from `npm` or `timeout`, which pass it on. */
const sameSignalMs = 500

/** From here on a signal asks this process to stop with exit code 0. Another one, or ten seconds, end it at once with 1. */
export const stopGracefully: Effect.Effect<void> = Effect.gen(function*() {
  const stopping = yield* Stopping
  stopping.exitCode = 0
  let firstMs: number | undefined
  const onSignal = (): void => {
    if (firstMs === undefined) {
      firstMs = performance.now()
      setTimeout(() => process.exit(failed), stopMsMax).unref()
    } else if (performance.now() - firstMs > sameSignalMs) process.exit(failed)
  }
  process.on("SIGINT", onSignal)
  process.on("SIGTERM", onSignal)
})
