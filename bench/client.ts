/**
 * A process that loads a cluster. Started by other benches: it takes one JSON document of `Round` for each line that comes in, and answers with one
 * JSON line, a `Load` or why there is none. It stays for all rounds, so that the later ones measure no start of a process.
 *
 * Two shapes: `coalesced` is `RaftClient` as it ships, where calls that are made at the same time travel together and each is acknowledged by
 * itself; `unary` sends one message for each operation, on so many connections, as a client of etcd does.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as RpcClient from "effect/rpc/RpcClient"
import * as Schedule from "effect/Schedule"
import * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import { createInterface } from "node:readline"
import { path, Propose, questions, Read, serialization, unpack } from "../src/layers/ClientRpc.ts"
import * as DirectCalls from "../src/layers/DirectCalls.ts"
import * as Protocol from "../src/layers/kv/Protocol.ts"
import * as RaftClientHttp from "../src/layers/RaftClientHttp.ts"
import * as WebSocketRoute from "../src/layers/WebSocketRoute.ts"
import type { Answers } from "../src/services/Connection.ts"
import { RaftClient } from "../src/services/RaftClient.ts"
import { closedLoop, type Load, openLoop } from "./load.ts"

export interface Round {
  readonly shape: "coalesced" | "unary"
  readonly operation: "put" | "get"
  readonly endpoints: ReadonlyArray<string>
  /** Where the leader is: unary clients connect there. */
  readonly leader: string
  readonly connections: number
  readonly inFlight: number
  /** When to begin to measure, in milliseconds since 1970: the same for all processes. Until then the load warms up. */
  readonly measureAtMs: number
  readonly seconds: number
  /** So many operations a second, whether or not the earlier ones are answered, and latencies from when each was due; absent: a closed loop. */
  readonly rate?: number
  readonly keys: number
  readonly valueBytes: number
}

export type Outcome = Load & { readonly cpuMs: number } | { readonly problem: string }

const random = randomBytes(1 << 20)

const valueOf = (n: number, valueBytes: number): Uint8Array => {
  const from = (n * 7919) % (random.length - valueBytes)
  return random.subarray(from, from + valueBytes)
}

const keyOf = (n: number, keys: number): string => `key-${n % keys}`

type Operation = (n: number) => Effect.Effect<unknown, unknown>

interface Store {
  readonly propose: (command: Protocol.Command) => Effect.Effect<unknown, unknown>
  readonly read: (query: Protocol.Query) => Effect.Effect<unknown, unknown>
}

const operationOf = (store: Store, { keys, operation, valueBytes }: Round): Operation =>
  operation === "put"
    ? (n) => store.propose({ _tag: "Put", key: keyOf(n, keys), value: valueOf(n, valueBytes) })
    : (n) => store.read({ _tag: "Get", key: keyOf(n, keys) })

const coalesced = (round: Round) =>
  Layer.build(RaftClientHttp.layer({ endpoints: round.endpoints, deadlineMs: 20_000 })).pipe(
    Effect.map((context) => operationOf(Protocol.wire.on(Context.get(context, RaftClient)), round))
  )

const only = <E>(answers: Answers<E>): Exit.Exit<Uint8Array, E> => answers[0] ?? Exit.die("no answer")

/** One connection on which every operation is a message of its own. */
const connection = Effect.fnUntraced(function*(round: Round) {
  const address = WebSocketRoute.address(round.leader, path)
  if ("problem" in address) return yield* Effect.die(address.problem)
  const socket = yield* Socket.makeWebSocket(address.url)
  const protocol = yield* RpcClient.makeProtocolSocket({ retryPolicy: Schedule.recurs(0) }).pipe(
    Effect.provideService(Socket.Socket, socket)
  )
  const call = yield* DirectCalls.make(protocol)
  const [propose, ask] = [call(Propose), call(Read)]
  const store = Protocol.wire.on({
    propose: (command: Uint8Array) =>
      Effect.flatMap(propose({ commands: questions([command]) }), (packed) => only(unpack(packed))),
    read: (query: Uint8Array) =>
      Effect.flatMap(
        ask({ queries: questions([query]), consistency: "linearizable" }),
        (packed) => only(unpack(packed))
      )
  })
  return operationOf(store, round)
})

const unary = (round: Round) =>
  Effect.map(
    Effect.forEach(Array.from({ length: round.connections }), () => connection(round)),
    (all): Operation => (n) => all[n % all.length]?.(n) ?? Effect.die("no connection")
  )

const nowSeconds = (): number => Date.now() / 1000

/** Counts on through all rounds, so that all keys have their turn. */
let count = 0

const run = Effect.fnUntraced(function*(round: Round) {
  const operate = yield* (round.shape === "coalesced" ? coalesced(round) : unary(round))
  const operation = () => operate(count++)
  const { inFlight, measureAtMs, rate, seconds } = round
  const loop = (seconds: number) =>
    rate === undefined ? closedLoop({ inFlight, seconds, operation }) : openLoop({ rate, seconds, operation })
  yield* loop(Math.max(0, measureAtMs / 1000 - nowSeconds()))
  const before = process.cpuUsage()
  const load = yield* loop(seconds)
  const { system, user } = process.cpuUsage(before)
  return { ...load, cpuMs: (system + user) / 1000 }
}, Effect.scoped)

const lines = Stream.fromAsyncIterable(createInterface({ input: process.stdin }), (cause) => cause)

const program = Stream.runForEach(lines, (line) =>
  run(JSON.parse(line)).pipe(
    Effect.catchCause((cause) => Effect.succeed({ problem: String(Cause.squash(cause)) })),
    Effect.flatMap((outcome: Outcome) => Console.log(JSON.stringify(outcome)))
  ))

NodeRuntime.runMain(program.pipe(
  Effect.provide([serialization, WebSocketRoute.layerConstructor]),
  Effect.provideService(References.MinimumLogLevel, "Warn")
))
