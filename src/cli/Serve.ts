/** `titan serve`: runs one server until a signal stops it. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { valueBytesMax as valueBytesLimit, valueBytesMaxDefault } from "../layers/kv/Protocol.ts"
import { RaftNode } from "../services/RaftNode.ts"
import * as Cluster from "./Cluster.ts"
import * as Logging from "./Logging.ts"
import { CommandFailed, failed, usageError } from "./Outcome.ts"
import * as Server from "./Server.ts"
import { stopGracefully } from "./Signals.ts"
import * as Sources from "./Sources.ts"
import * as Tuning from "./Tuning.ts"

export interface Flags {
  readonly id: string
  readonly listen: Option.Option<string>
  readonly peers: ReadonlyArray<string>
  readonly directory: string
  readonly cluster: string
  readonly tuning: Tuning.Given
  readonly valueBytesMax: number
  readonly logFormat: Logging.Format
  readonly stopWithParent: boolean
}

/** What runs without any arguments: a cluster of one. */
export const single: Flags = {
  id: "n1",
  listen: Option.none(),
  peers: ["n1=http://127.0.0.1:7100"],
  directory: "./titan-data",
  cluster: "titan",
  tuning: Tuning.none,
  valueBytesMax: valueBytesMaxDefault,
  logFormat: "auto",
  stopWithParent: false
}

const parsed = <A>(result: Cluster.Parsed<A>): Effect.Effect<A, CommandFailed> =>
  "problem" in result ? Effect.fail(usageError(result.problem)) : Effect.succeed(result.value)

/** A parent that is gone, however it went, closes its channel to this process. */
const parentGone = Effect.callback<void>((resume) => {
  if (!process.connected) return resume(Effect.void)
  process.once("disconnect", () => resume(Effect.void))
})

const listenProblem = (cluster: Cluster.Cluster, cause: unknown): CommandFailed => {
  const { code, message } = cause as { readonly code?: string; readonly message?: string }
  const place = `${cluster.listen.host}:${cluster.listen.port}`
  const problem = code === "EADDRINUSE"
    ? `the port is in use, by another server perhaps; stop it, or choose another with --listen and --peer`
    : String(message)
  return new CommandFailed({ exitCode: failed, message: `cannot listen on ${place}: ${problem}` })
}

/** Runs a server until it is interrupted, its parent is gone or its storage fails. */
export const serve = Effect.fnUntraced(function*(flags: Flags) {
  const cluster = yield* parsed(Cluster.parse({
    id: flags.id,
    listen: Option.getOrUndefined(flags.listen),
    peers: flags.peers,
    cluster: flags.cluster
  }))
  const settings = yield* Tuning.settingsOf(flags.tuning)
  if (flags.valueBytesMax < 1 || flags.valueBytesMax > valueBytesLimit) {
    return yield* usageError(`--value-bytes-max ${flags.valueBytesMax}: expected 1 to ${valueBytesLimit}`)
  }
  yield* stopGracefully
  const server = Server.layer({ cluster, directory: flags.directory, settings, valueBytesMax: flags.valueBytesMax })
  const { id } = cluster
  const running = Effect.gen(function*() {
    const { halted, status } = yield* RaftNode
    yield* Effect.annotateLogs(Effect.logInfo("listening"), {
      node: id,
      url: cluster.urls.get(id),
      cluster: (yield* status).clusterId,
      directory: flags.directory
    })
    return yield* flags.stopWithParent ? Effect.raceFirst(halted, parentGone) : halted
  })
  yield* running.pipe(
    Effect.provide(Layer.provideMerge(server, Logging.layer(flags.logFormat))),
    Effect.catchTags({
      StorageError: (error) =>
        Effect.fail(new CommandFailed({ exitCode: failed, message: error.message, tag: error._tag })),
      SettingsError: (error) => Effect.fail(usageError(Tuning.inFlags(error.message))),
      ServeError: (error) => Effect.fail(listenProblem(cluster, error.cause))
    })
  )
})

const described = <A>(flag: Flag.Flag<A>, text: string) => Flag.withDescription(flag, text)

export const command = Command.make("serve", {
  id: described(Sources.text("id"), "This server's name, such as n1 (TITAN_ID)"),
  listen: described(
    Sources.text("listen").pipe(Flag.optional),
    "HOST:PORT to listen on; default: where this server's own URL points (TITAN_LISTEN)"
  ),
  peers: described(
    Sources.list("peer", "peers"),
    "ID=URL of a server; once for each server, this one included (TITAN_PEERS, separated by commas)"
  ),
  directory: described(
    Sources.text("data-dir").pipe(Flag.withDefault("./titan-data")),
    "Where this server keeps its state; default ./titan-data (TITAN_DATA_DIR)"
  ),
  cluster: described(
    Sources.text("cluster").pipe(Flag.withDefault("titan")),
    "The cluster's name; with the peers it makes the id of a new cluster; default titan (TITAN_CLUSTER)"
  ),
  tuning: Tuning.flags,
  valueBytesMax: described(
    Sources.int("value-bytes-max").pipe(Flag.withDefault(valueBytesMaxDefault)),
    "The longest value taken, in bytes; default 1048576 (TITAN_VALUE_BYTES_MAX)"
  ),
  logFormat: described(
    Sources.logFormat,
    "auto, logfmt, pretty or json; auto is pretty on a terminal, else logfmt (TITAN_LOG_FORMAT)"
  ),
  stopWithParent: Flag.Boolean("stop-with-parent").pipe(Flag.withDefault(false), Flag.withHidden)
}, serve).pipe(
  Command.withDescription("Run one server of a cluster"),
  Command.withExamples([{
    command:
      "titan serve --id n1 --peer n1=http://127.0.0.1:7101 --peer n2=http://127.0.0.1:7102 --peer n3=http://127.0.0.1:7103",
    description: "The first of three servers"
  }])
)
