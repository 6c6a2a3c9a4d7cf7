/** `titan dev`: a whole cluster on this machine, one process per server. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createServer } from "node:net"
import { join } from "node:path"
import * as RaftClientHttp from "../layers/RaftClientHttp.ts"
import { RaftClient } from "../services/RaftClient.ts"
import * as Children from "./Children.ts"
import { CommandFailed, failed, usageError } from "./Outcome.ts"
import { type PeerProtocol, peerProtocols } from "./Server.ts"
import { stopGracefully } from "./Signals.ts"
import * as Sources from "./Sources.ts"
import * as Tuning from "./Tuning.ts"

interface Member {
  readonly id: string
  readonly port: number
  readonly url: string
}

const host = "127.0.0.1"
const nodesMax = 9

const portProblem = (port: number): Effect.Effect<void, CommandFailed> =>
  Effect.callback((resume) => {
    const server = createServer()
    server.once("error", (error) =>
      resume(Effect.fail(
        new CommandFailed({
          exitCode: failed,
          message:
            `port ${port} cannot be used (${error.message}); stop what listens there, or choose others with --port`
        })
      )))
    server.listen(port, host, () => server.close(() => resume(Effect.void)))
  })

/** Hidden from help: only a parent that watches its servers has a use for it. */
const stopWithParent = "--stop-with-parent"

interface Shared {
  readonly members: ReadonlyArray<Member>
  readonly directory: string
  readonly semiSpace: boolean
  readonly peerProtocol: PeerProtocol
  readonly tuning: Tuning.Given
}

const argsOf = (member: Member, { directory, members, peerProtocol, semiSpace, tuning }: Shared) => [
  ...(semiSpace ? ["--max-semi-space-size=8"] : []),
  process.argv[1] ?? "",
  "serve",
  "--id",
  member.id,
  "--listen",
  `${host}:${member.port}`,
  ...members.flatMap(({ id, url }) => ["--peer", `${id}=${url}`]),
  "--data-dir",
  join(directory, member.id),
  "--cluster",
  "dev",
  "--log-format",
  "logfmt",
  "--peer-protocol",
  peerProtocol,
  ...Tuning.argsOf(tuning),
  stopWithParent
]

/** Asks until every server knows the leader, so that any of them can be used. Servers that are still starting are not an error. */
const leader = (members: ReadonlyArray<Member>) =>
  Effect.gen(function*() {
    const client = yield* RaftClient
    for (;;) {
      const leaders = (yield* client.status).map((one) => one._tag === "Up" ? one.status.leader?.id : undefined)
      const [first] = leaders
      if (first !== undefined && leaders.every((id) => id === first)) return first
      yield* Effect.sleep("50 millis")
    }
  }).pipe(Effect.provide(Layer.orDie(RaftClientHttp.layer({ endpoints: members.map(({ url }) => url) }))))

const welcome = (members: ReadonlyArray<Member>, leaderId: string): string => {
  const example = `${members[0]?.url}/v1/kv/greeting`
  return [
    "",
    `${
      members.length === 1 ? "One server runs" : `${members.length} servers run`
    }; ${leaderId} leads. Ctrl-C stops all.`,
    ...members.map(({ id, url }) => `  ${id}  ${url}`),
    "Try:",
    `  curl -L -X PUT --data-binary hello ${example}`,
    `  curl -L ${example}`,
    `  curl -L -X DELETE ${example}`,
    ""
  ].join("\n")
}

const restart = (args: ReadonlyArray<string>): string =>
  ["npx node", ...args.filter((arg) => arg !== stopWithParent)].join(" ")

/** Says which server is gone and goes on with the others; fails once none is left. */
const watch = (children: ReadonlyArray<Children.Child>) =>
  Effect.forEach(
    children,
    ({ args, gone, id }) =>
      Effect.flatMap(
        gone,
        (how) =>
          Console.error(
            `${id} ${how}; the others go on. To start it again, by itself:\n  ${
              restart(args)
            }\n(Ctrl-C here does not stop it then.)`
          )
      ),
    { concurrency: "unbounded", discard: true }
  ).pipe(
    Effect.andThen(
      Effect.fail(new CommandFailed({ exitCode: failed, message: "every server that was started here is gone" }))
    )
  )

export const command = Command.make("dev", {
  nodes: Flag.Int("nodes").pipe(
    Flag.withDefault(3),
    Flag.withDescription(`How many servers, 1 to ${nodesMax}; default 3`)
  ),
  port: Flag.Int("port").pipe(
    Flag.withDefault(7101),
    Flag.withDescription("Port of the first server, the others follow; default 7101")
  ),
  directory: Flag.String("data-dir").pipe(
    Flag.withDefault(".titan"),
    Flag.withDescription("Where the servers keep their state, one directory each; default .titan")
  ),
  semiSpace: Flag.Boolean("semi-space").pipe(
    Flag.withDefault(true),
    Flag.withDescription(
      "Run servers with --max-semi-space-size=8: shorter pauses under load; --no-semi-space leaves it to Node"
    )
  ),
  peerProtocol: Sources.word("peer-protocol", peerProtocols).pipe(
    Flag.withDescription("How servers call each other, rpc or frames, as of serve; default rpc (TITAN_PEER_PROTOCOL)")
  ),
  tuning: Tuning.flags
}, ({ directory, nodes, peerProtocol, port, semiSpace, tuning }) =>
  Effect.gen(function*() {
    if (nodes < 1 || nodes > nodesMax) return yield* usageError(`--nodes ${nodes}: expected 1 to ${nodesMax}`)
    if (port < 1 || port + nodes - 1 > 65_535) {
      return yield* usageError(`--port ${port}: expected 1 to ${65_536 - nodes}`)
    }
    yield* Tuning.settingsOf(tuning)
    yield* stopGracefully
    const members = Array.from({ length: nodes }, (_, i): Member => ({
      id: `n${i + 1}`,
      port: port + i,
      url: `http://${host}:${port + i}`
    }))
    yield* Effect.forEach(members, (member) => portProblem(member.port), { discard: true })
    const servers = members.map((member) => ({
      id: member.id,
      args: argsOf(member, { directory, members, peerProtocol, semiSpace, tuning })
    }))
    const children = yield* Children.start(servers)
    const announce = Effect.flatMap(leader(members), (id) => Console.log(welcome(members, id)))
    return yield* Effect.raceFirst(watch(children), Effect.andThen(announce, Effect.never))
  }).pipe(Effect.scoped)).pipe(
    Command.withDescription("Run a whole cluster on this machine, one process per server, until Ctrl-C")
  )
