/** `titan serve`: runs one server until a signal stops it. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { existsSync } from "node:fs"
import * as Configuration from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { valueBytesMax as valueBytesLimit, valueBytesMaxDefault } from "../layers/kv/Protocol.ts"
import * as LostQuorum from "../layers/LostQuorum.ts"
import type { DiskRefused } from "../layers/PeerRpc.ts"
import * as TransportHttp from "../layers/TransportHttp.ts"
import * as Segment from "../layers/wal/Segment.ts"
import { RaftNode } from "../services/RaftNode.ts"
import type { StorageError } from "../services/Storage.ts"
import * as Cluster from "./Cluster.ts"
import * as Join from "./Join.ts"
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
  readonly join: ReadonlyArray<string>
  readonly learner: boolean
  readonly directory: string
  readonly cluster: string
  readonly tuning: Tuning.Given
  readonly valueBytesMax: number
  readonly peerProtocol: Server.PeerProtocol
  readonly logFormat: Logging.Format
  readonly stopWithParent: boolean
}

/** What runs without any arguments: a cluster of one. */
export const single: Flags = {
  id: "n1",
  listen: Option.none(),
  peers: ["n1=http://127.0.0.1:7100"],
  join: [],
  learner: false,
  directory: "./titan-data",
  cluster: "titan",
  tuning: Tuning.none,
  valueBytesMax: valueBytesMaxDefault,
  peerProtocol: "rpc",
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

/** What a server that joins asks for. */
const joiningOf = ({ id, url }: Cluster.Cluster, { servers }: Cluster.Joining, { learner }: Flags): Join.Request => ({
  id,
  url,
  becomes: learner ? "learner" : "voter",
  servers
})

/** Without data it was never one of those that count: who holds that name had the data, and votes with it. */
const lostDisk = (id: NodeId, directory: string): CommandFailed =>
  new CommandFailed({
    exitCode: failed,
    message:
      `${id} is a voter of that cluster already, and there is no data of it in ${directory}. If its disk is lost, it may not come ` +
      `back under the same id, because it would forget what it promised. Run titan member replace ${id} NEW=URL, with a new server under a new id`
  })

/** Its server must not begin anew: the next start would look as if nothing had been there. */
const halfRecovered = (directory: string, found: string): CommandFailed =>
  new CommandFailed({
    exitCode: failed,
    message:
      `a recovery of ${directory} was interrupted, and what it made is in ${found}: run titan recover --data-dir ${directory} --as-single-node ` +
      `--yes again, or move ${found} away`
  })

/** Whose data is in the directory, if any is. */
const identityIn = (directory: string) =>
  Effect.gen(function*() {
    if (!existsSync(directory)) return undefined
    const [first] = (yield* Segment.list(directory)).segments
    return first === undefined ? undefined : (yield* Segment.readHeader(first)).identity
  })

/** Which cluster a server belongs to: what its directory says, else what the flags do, else the cluster that takes it in. */
const clusterIdOf = Effect.fnUntraced(function*(cluster: Cluster.Cluster, flags: Flags) {
  const { begins, id } = cluster
  const interrupted = yield* LostQuorum.interruptedAt(flags.directory)
  if (interrupted !== undefined) return yield* halfRecovered(flags.directory, interrupted)
  const identity = yield* identityIn(flags.directory)
  if (identity !== undefined) return { clusterId: identity.clusterId, isNew: false }
  if (begins._tag === "Bootstrap") return { clusterId: begins.clusterId, isNew: true }
  const { clusterId, members } = yield* Join.ask(joiningOf(cluster, begins, flags))
  if (members.some((member) => member.id === id && member.role === "voter")) return yield* lostDisk(id, flags.directory)
  return { clusterId, isNew: true }
})

/** A server that was stopped between making its directory and hearing of its cluster asks once more. */
const joinIfUnknown = Effect.fnUntraced(function*(cluster: Cluster.Cluster, flags: Flags) {
  const { begins } = cluster
  const { clusterId, configuration } = yield* (yield* RaftNode).status
  if (begins._tag === "Bootstrap" || !Configuration.isUnknown(configuration)) return
  const answer = yield* Join.ask(joiningOf(cluster, begins, flags))
  if (answer.clusterId === clusterId) return
  return yield* new CommandFailed({
    exitCode: failed,
    message: `the data directory belongs to cluster ${clusterId}, and the servers of --join to ${answer.clusterId}`
  })
})

/** How long a server that stops stays for what follows its leadership, in milliseconds. */
const handOverMsMax = 2000

/**
 * Before anything closes: whoever leads lets another server lead, and stays until that one is known and has told what became of the commands that
 * this server took. Whoever waits for one is answered, and others are sent to the new leader.
 */
const leaveWell = Effect.gen(function*() {
  const { handOver, status } = yield* RaftNode
  const { id, lastLogIndex, role } = yield* status
  yield* Effect.annotateLogs(Effect.logInfo("stopping"), { node: id, role })
  if (role !== "Leader") return
  yield* handOver
  yield* Effect.repeat(status, {
    until: ({ lastApplied, leaderId }) => leaderId === id || (leaderId !== undefined && lastApplied >= lastLogIndex),
    schedule: Schedule.spaced(10)
  })
}).pipe(Effect.timeoutOption(handOverMsMax), Effect.asVoid)

/** What a server does while it runs: nothing by itself, its loops are in its layers. */
const running = Effect.fnUntraced(function*(cluster: Cluster.Cluster, flags: Flags, isNew: boolean) {
  const { halted, status } = yield* RaftNode
  yield* Effect.annotateLogs(Effect.logInfo("listening"), {
    node: cluster.id,
    url: cluster.url,
    cluster: (yield* status).clusterId,
    directory: flags.directory
  })
  const joined = isNew ? Effect.void : joinIfUnknown(cluster, flags)
  const untilHalted = Effect.raceAllFirst([halted, TransportHttp.diskRefused, Effect.andThen(joined, Effect.never)])
  return yield* flags.stopWithParent ? Effect.raceFirst(untilHalted, parentGone) : untilHalted
})

/** The process ends: its disk failed, or may not take part. */
const stopped = ({ _tag, message }: StorageError | DiskRefused) =>
  Effect.fail(new CommandFailed({ exitCode: failed, message, tag: _tag }))

/** Runs a server until it is interrupted, its parent is gone, or its disk fails or may not take part. */
export const serve = Effect.fnUntraced(function*(flags: Flags) {
  const cluster = yield* parsed(Cluster.parse({
    id: flags.id,
    listen: Option.getOrUndefined(flags.listen),
    peers: flags.peers,
    cluster: flags.cluster,
    join: flags.join
  }))
  if (flags.learner && cluster.begins._tag !== "Join") {
    return yield* usageError("--learner: only with --join; those that begin a cluster are its voters")
  }
  const settings = yield* Tuning.settingsOf(flags.tuning)
  const { directory, peerProtocol, valueBytesMax } = flags
  if (valueBytesMax < 1 || valueBytesMax > valueBytesLimit) {
    return yield* usageError(`--value-bytes-max ${valueBytesMax}: expected 1 to ${valueBytesLimit}`)
  }
  yield* stopGracefully
  const served = Effect.gen(function*() {
    const { clusterId, isNew } = yield* clusterIdOf(cluster, flags)
    const server = Server.layer({ cluster, clusterId, directory, settings, valueBytesMax, peerProtocol })
    return yield* running(cluster, flags, isNew).pipe(Effect.onInterrupt(() => leaveWell), Effect.provide(server))
  })
  yield* served.pipe(
    Effect.provide(Logging.layer(flags.logFormat)),
    Effect.catchTags({
      StorageError: stopped,
      DiskRefused: stopped,
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
    "ID=URL of a server; once for each server of a new cluster, this one included (TITAN_PEERS, separated by commas)"
  ),
  directory: described(
    Sources.text("data-dir").pipe(Flag.withDefault("./titan-data")),
    "Where this server keeps its state; default ./titan-data (TITAN_DATA_DIR)"
  ),
  join: described(
    Sources.list("join", "join"),
    "URL of a server of a cluster to join; may be repeated; instead of --peer (TITAN_JOIN, separated by commas)"
  ),
  learner: described(
    Sources.boolean("learner").pipe(Flag.withDefault(false)),
    "With --join: stay a learner, which gets the log and never votes (TITAN_LEARNER)"
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
  peerProtocol: described(
    Sources.word("peer-protocol", Server.peerProtocols),
    "How to call the other servers: rpc (Effect RPC over WebSockets) or frames (bare connections, less work for each message); every server takes both; default rpc (TITAN_PEER_PROTOCOL)"
  ),
  logFormat: described(
    Sources.word("log-format", Logging.formats),
    "auto, logfmt, pretty or json; auto is pretty on a terminal, else logfmt (TITAN_LOG_FORMAT)"
  ),
  stopWithParent: Flag.Boolean("stop-with-parent").pipe(Flag.withDefault(false), Flag.withHidden)
}, serve).pipe(
  Command.withDescription("Run one server of a cluster"),
  Command.withExamples([{
    command:
      "titan serve --id n1 --peer n1=http://127.0.0.1:7101 --peer n2=http://127.0.0.1:7102 --peer n3=http://127.0.0.1:7103",
    description: "The first of three servers"
  }, {
    command: "titan serve --id n4 --listen 127.0.0.1:7104 --join http://127.0.0.1:7101 --data-dir ./n4",
    description: "A fourth server, which asks to be added and votes once it has caught up"
  }])
)
