/**
 * A process that loads a cluster and prints one JSON line. Started by other benches, with one JSON document of `Options` as its argument.
 *
 * Two shapes: `coalesced` is `RaftClient` as it ships, where calls that are made at the same time travel together and each is acknowledged by
 * itself; `unary` sends one message for each operation, on so many connections, as a client of etcd does.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as References from "effect/References"
import * as RpcClient from "effect/rpc/RpcClient"
import * as Schedule from "effect/Schedule"
import * as Socket from "effect/socket/Socket"
import { randomBytes } from "node:crypto"
import { ClientRpcs, path, serialization, unpack } from "../src/layers/ClientRpc.ts"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../src/layers/RaftClientHttp.ts"
import * as WebSocketRoute from "../src/layers/WebSocketRoute.ts"
import type { Answers } from "../src/services/Connection.ts"
import { RaftClient } from "../src/services/RaftClient.ts"
import { closedLoop } from "./load.ts"

export interface Options {
  readonly shape: "coalesced" | "unary"
  readonly operation: "put" | "get"
  readonly endpoints: ReadonlyArray<string>
  /** Where the leader is: unary clients connect there. */
  readonly leader: string
  readonly connections: number
  readonly inFlight: number
  readonly warmupSeconds: number
  readonly seconds: number
  readonly keys: number
  readonly valueBytes: number
}

const options: Options = JSON.parse(process.argv[2] ?? "")

const values = Array.from({ length: 64 }, () => new Uint8Array(randomBytes(options.valueBytes)))

const keyOf = (n: number): string => `key-${n % options.keys}`

const commandOf = (n: number): Protocol.Command => ({
  _tag: "Put",
  key: keyOf(n),
  value: values[n % values.length] ?? new Uint8Array()
})

const queryOf = (n: number): Protocol.Query => ({ _tag: "Get", key: keyOf(n) })

type Operation = (n: number) => Effect.Effect<unknown, unknown>

interface Store {
  readonly propose: (command: Protocol.Command) => Effect.Effect<unknown, unknown>
  readonly read: (query: Protocol.Query) => Effect.Effect<unknown, unknown>
}

const operationOf = (store: Store): Operation =>
  options.operation === "put" ? (n) => store.propose(commandOf(n)) : (n) => store.read(queryOf(n))

const coalesced = Effect.map(RaftClient, (client) => operationOf(Protocol.wire.on(client)))

const only = <E>(answers: Answers<E>): Exit.Exit<Uint8Array, E> => answers[0] ?? Exit.die("no answer")

/** One connection on which every operation is a message of its own. */
const connection = Effect.gen(function*() {
  const address = WebSocketRoute.address(options.leader, path)
  if ("problem" in address) return yield* Effect.die(address.problem)
  const socket = yield* Socket.makeWebSocket(address.url)
  const protocol = yield* RpcClient.makeProtocolSocket({ retryPolicy: Schedule.recurs(0) }).pipe(
    Effect.provideService(Socket.Socket, socket)
  )
  const client = yield* RpcClient.make(ClientRpcs, { disableTracing: true }).pipe(
    Effect.provideService(RpcClient.Protocol, protocol)
  )
  const store = Protocol.wire.on({
    propose: (command: Uint8Array) =>
      Effect.flatMap(Effect.orDie(client.Propose({ commands: [command] })), (packed) => only(unpack(packed))),
    read: (query: Uint8Array) =>
      Effect.flatMap(
        Effect.orDie(client.Read({ queries: [query], consistency: "linearizable" })),
        (packed) => only(unpack(packed))
      )
  })
  return operationOf(store)
})

const unary = Effect.map(
  Effect.forEach(Array.from({ length: options.connections }), () => connection),
  (all): Operation => (n) => all[n % all.length]?.(n) ?? Effect.die("no connection")
)

const program = Effect.gen(function*() {
  const operation = options.shape === "coalesced" ? yield* coalesced : yield* unary
  const { inFlight, seconds, warmupSeconds } = options
  yield* closedLoop({ inFlight, seconds: warmupSeconds, operation })
  const before = process.cpuUsage()
  const load = yield* closedLoop({ inFlight, seconds, operation })
  const { system, user } = process.cpuUsage(before)
  yield* Console.log(JSON.stringify({ ...load, cpuMs: (system + user) / 1000 }))
})

const client = RaftClientHttp.layer({ endpoints: options.endpoints, deadlineMs: 20_000 })

NodeRuntime.runMain(program.pipe(
  Effect.scoped,
  Effect.provide([client, serialization, NodeSocket.layerWebSocketConstructor]),
  Effect.provideService(References.MinimumLogLevel, "Warn"),
  Effect.tap(Effect.sync(() => setImmediate(() => process.exit(0))))
))
