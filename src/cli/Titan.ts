/** The command line: `titan` and its subcommands, and how each ends. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { version } from "../services/ServerStatus.ts"
import * as Delete from "./Delete.ts"
import * as Dev from "./Dev.ts"
import * as Get from "./Get.ts"
import * as List from "./List.ts"
import * as Member from "./Member.ts"
import { CommandFailed, failed, usage } from "./Outcome.ts"
import * as Put from "./Put.ts"
import * as Recover from "./Recover.ts"
import * as Serve from "./Serve.ts"
import { Stopping } from "./Signals.ts"
import * as Snapshot from "./Snapshot.ts"
import * as Sources from "./Sources.ts"
import * as Status from "./Status.ts"
import * as TransferLeader from "./TransferLeader.ts"

const titan = Command.make("titan", {}, () => Serve.serve(Serve.single)).pipe(
  Command.withSharedFlags({
    config: Flag.String("config").pipe(
      Flag.optional,
      Flag.withDescription(
        "A TOML or JSON file with settings; flags and TITAN_… variables come before it (TITAN_CONFIG)"
      )
    )
  }),
  Command.withDescription(
    "Titan, a linearizable key-value store replicated with Raft. Without arguments: one server on 127.0.0.1:7100 with its data in " +
      "./titan-data. Exit codes: 0 done, 1 failed, 2 usage, 3 not found or condition not met, 4 cluster unavailable."
  ),
  Command.withSubcommands([
    Serve.command,
    Dev.command,
    Put.command,
    Get.command,
    Delete.command,
    List.command,
    Status.command,
    Member.command,
    TransferLeader.command,
    Snapshot.command,
    Recover.command
  ])
)

/** A mistake in the flags gets its one line, not the whole help. */
const presenter = CliOutput.layerPresenter({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Console.error(
        [
          ...event.errors.map(({ message }) => `titan: ${message}`),
          `See ${event.commandPath.join(" ")} --help.`
        ].join("\n")
      )
      : CliOutput.defaultPresenter.present(event)
})

/** What went wrong, on stderr, in JSON where the command was asked for JSON; answers the exit code. */
const reported = (error: CommandFailed, json: boolean): Effect.Effect<number> => {
  const { exitCode, message, outcome, tag } = error
  const line = json ? JSON.stringify({ _tag: tag ?? "Failed", message, outcome, exitCode }) : `titan: ${message}`
  return Effect.as(Console.error(line), exitCode)
}

/** Runs the command that `args` say; answers the exit code. */
export const program = (args: ReadonlyArray<string>): Effect.Effect<number, never> =>
  Effect.gen(function*() {
    const provider = yield* Sources.provider(args)
    yield* Command.runWith(titan, { version })(args).pipe(
      Effect.provideService(ConfigProvider.ConfigProvider, provider)
    )
    return 0
  }).pipe(
    Effect.provide([NodeServices.layer, presenter]),
    // The rest are mistakes in the command line, which the presenter has shown.
    Effect.catch((error) =>
      error instanceof CommandFailed ? reported(error, args.includes("--json")) : Effect.succeed(usage)
    )
  )

/** Runs the command and ends the process. */
export const main = (args: ReadonlyArray<string>): void => {
  const stopping = { exitCode: 130 }
  NodeRuntime.runMain(Effect.provideService(program(args), Stopping, stopping), {
    disableErrorReporting: true,
    teardown: (exit, onExit) => {
      if (Exit.isSuccess(exit)) return onExit(Number(exit.value))
      if (Cause.hasInterruptsOnly(exit.cause)) return onExit(stopping.exitCode)
      process.stderr.write(`titan: a defect, which is a mistake in Titan itself: ${Cause.pretty(exit.cause)}\n`)
      onExit(failed)
    }
  })
}
