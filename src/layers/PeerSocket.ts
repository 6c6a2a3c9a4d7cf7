/**
 * Both ends of a bare connection between two servers (`PeerFrames.ts`): an HTTP request for `/raft` that asks for another protocol, and frames from
 * then on.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import type { Callers } from "./peer/Callers.ts"
import { AddressError, type Connect, type Conversation } from "./peer/Conversation.ts"
import * as PeerFrames from "./PeerFrames.ts"
import * as PeerRpc from "./PeerRpc.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

const { kinds } = PeerFrames

/** A value of `schema` as the JSON that is the body of a frame. */
const bodies = <S extends Schema.Codec<unknown, unknown>>(schema: S) => {
  const json = Schema.fromJsonString(Schema.toCodecJson(schema))
  const encode = Schema.encodeSync(json)
  const decode = Schema.decodeUnknownEffect(json)
  return {
    encode: (value: S["Type"]) => new TextEncoder().encode(encode(value)),
    decode: (body: Uint8Array) => Effect.suspend(() => decode(new TextDecoder().decode(body)))
  }
}

const hellos = bodies(PeerRpc.Hello.payloadSchema)
const welcomes = bodies(PeerRpc.Welcome)
const refusals = bodies(PeerRpc.Refused)

/** The connection as frames. Lasts as long as the scope. */
const framed = Effect.fnUntraced(function*(socket: Socket.Socket) {
  const pull = yield* Socket.readerBytes(socket)
  const writer = yield* socket.writer
  const reader = new PeerFrames.Reader()
  const waiting: Array<PeerFrames.Frame> = []
  const more = Effect.flatMap(pull, (chunks): Effect.Effect<void, PeerFrames.FrameError> => {
    for (const chunk of chunks) {
      const read = reader.read(chunk)
      if ("problem" in read) return Effect.fail(new PeerFrames.FrameError({ message: read.problem }))
      waiting.push(...read)
    }
    return Effect.void
  })
  return {
    send: (kind: number, ...body: ReadonlyArray<Uint8Array>) => writer.writeAll(PeerFrames.encode(kind, ...body)),
    /** The first frame of all. */
    first: Effect.suspend(() => {
      let found: PeerFrames.Frame | undefined
      const search = Effect.whileLoop({
        while: () => (found = waiting.shift()) === undefined,
        body: () => more,
        step: () => {}
      })
      return Effect.map(search, () => found)
    }),
    /** Hands over the frames, one after the other; where that takes no effect, all that have come at once. Ends with the connection. */
    forEach: (handle: (frame: PeerFrames.Frame) => Effect.Effect<void, unknown> | undefined) =>
      Effect.whileLoop({
        while: () => true,
        body: (): Effect.Effect<void, unknown> => {
          for (let frame = waiting.shift(); frame !== undefined; frame = waiting.shift()) {
            const handling = handle(frame)
            if (handling !== undefined) return handling
          }
          return more
        },
        step: () => {}
      })
  }
})

class Unexpected extends Data.TaggedError("Unexpected")<{ readonly message: string }> {}

const unexpected = (kind: number | undefined) => new Unexpected({ message: `a frame of kind ${kind} is out of place` })

/** What a caller is told in the place of what it has asked for. */
const refusalOr = (frame: PeerFrames.Frame | undefined): Effect.Effect<never, unknown> =>
  frame?.kind === kinds.refused
    ? Effect.flatMap(refusals.decode(frame.body), Effect.fail)
    : Effect.fail(unexpected(frame?.kind))

const addressOf = (base: string): Effect.Effect<string, AddressError> => {
  const found = WebSocketRoute.address(base, PeerRpc.path)
  return "url" in found
    ? Effect.succeed(found.url.replace(/^ws/, "http"))
    : Effect.fail(new AddressError({ message: found.problem }))
}

/** The bare connection behind a URL. */
const open = Effect.fnUntraced(function*(url: string) {
  const agent = yield* NodeHttpClient.makeAgent()
  const client = yield* Effect.provideService(NodeHttpClient.makeNodeHttp, NodeHttpClient.HttpAgent, agent)
  const response = yield* client.execute(HttpClientRequest.upgrade(HttpClientRequest.get(url), PeerFrames.protocol))
  return yield* response.upgrade
})

interface Asked {
  readonly atMs: number
  readonly heard: Deferred.Deferred<void, unknown>
}

/** Who waits to hear that what they sent was heard, oldest first. */
class Hearing {
  readonly #asked: Array<Asked> = []
  #ended: Exit.Exit<never, unknown> | undefined
  #heardMs: number

  constructor(nowMs: number) {
    this.#heardMs = nowMs
  }

  /** How long the oldest of them has waited; `undefined`: there is none. */
  waitedMs(nowMs: number): number | undefined {
    const oldest = this.#asked[0]
    return oldest === undefined ? undefined : nowMs - oldest.atMs
  }

  silentMs(nowMs: number): number {
    return nowMs - this.#heardMs
  }

  ask(nowMs: number): Deferred.Deferred<void, unknown> {
    const heard = Deferred.makeUnsafe<void, unknown>()
    if (this.#ended === undefined) this.#asked.push({ atMs: nowMs, heard })
    else Deferred.doneUnsafe(heard, this.#ended)
    return heard
  }

  /** Whether anything was asked. */
  heard(nowMs: number): boolean {
    this.#heardMs = nowMs
    const oldest = this.#asked.shift()
    if (oldest !== undefined) Deferred.doneUnsafe(oldest.heard, Exit.void)
    return oldest !== undefined
  }

  end(exit: Exit.Exit<never, unknown>): void {
    this.#ended ??= exit
    for (const { heard } of this.#asked.splice(0)) Deferred.doneUnsafe(heard, exit)
  }
}

/** After so many intervals of silence a called is asked whether it is there. Where messages flow, answers come more often than that. */
const silentIntervalsMax = 2

/** A `Connect`. */
export const connect = Effect.fnUntraced(function*(options: Parameters<Connect>[0]) {
  const clock = yield* Clock.Clock
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const broken = Deferred.makeUnsafe<never, unknown>()
  const { first, forEach, send } = yield* framed(yield* open(yield* addressOf(options.url)))
  yield* send(kinds.hello, hellos.encode(options.hello))
  const answer = yield* first
  if (answer?.kind !== kinds.welcome) return yield* refusalOr(answer)
  const welcome = yield* welcomes.decode(answer.body)
  const hearing = new Hearing(nowMs())
  const end = (exit: Exit.Exit<never, unknown>): void => {
    hearing.end(exit)
    Deferred.doneUnsafe(broken, exit)
  }
  const hear = forEach((frame) => frame.kind === kinds.heard && hearing.heard(nowMs()) ? undefined : refusalOr(frame))
  const ask = (messages: ReadonlyArray<Uint8Array> = []) =>
    Effect.suspend(() => {
      const heard = hearing.ask(nowMs())
      return Effect.andThen(send(kinds.asking, ...messages), Deferred.await(heard))
    })
  const watch = Effect.suspend((): Effect.Effect<void, string, Scope.Scope> => {
    const waitedMs = hearing.waitedMs(nowMs())
    if (waitedMs !== undefined) return waitedMs <= options.pingTimeoutMs ? Effect.void : Effect.fail("ping timeout")
    if (hearing.silentMs(nowMs()) < silentIntervalsMax * options.pingIntervalMs) return Effect.void
    return Effect.asVoid(Effect.forkScoped(Effect.ignore(ask()), { startImmediately: true }))
  }).pipe(Effect.delay(options.pingIntervalMs), Effect.forever)
  yield* Effect.raceFirst(hear, watch).pipe(
    Effect.onExit((exit) =>
      Effect.sync(() => end(Exit.isFailure(exit) ? Exit.failCause(exit.cause) : Exit.fail("the connection closed")))
    ),
    Effect.forkScoped
  )
  return {
    welcome,
    broken,
    deliver: ask,
    notify: (messages) => send(kinds.messages, ...messages)
  } satisfies Conversation
}, (effect, options) => Effect.timeout(effect, options.connectTimeoutMs * 2))

/** How long a caller may take to say who it is, in milliseconds. */
const helloTimeoutMs = 5000

/** Listens to a caller until its connection ends. */
export const serve = (callers: Callers) =>
  Effect.fnUntraced(function*(socket: Socket.Socket) {
    const { first, forEach, send } = yield* framed(socket)
    const refuse = (refusal: PeerRpc.Refused) =>
      Effect.andThen(send(kinds.refused, refusals.encode(refusal)), Effect.fail(refusal))
    const hello = yield* Effect.timeout(first, helloTimeoutMs)
    if (hello?.kind !== kinds.hello) return yield* unexpected(hello?.kind)
    const greeting = yield* hellos.decode(hello.body)
    const { token, ...welcome } = yield* Effect.catch(callers.greet(greeting), refuse)
    yield* send(kinds.welcome, welcomes.encode(welcome))
    const hear = (messages: Uint8Array) => {
      const heard = callers.hear(token, messages)
      return heard === undefined ? undefined : Effect.catch(heard, refuse)
    }
    yield* forEach(({ body, kind }) => {
      switch (kind) {
        case kinds.messages:
          return hear(body)
        case kinds.asking:
          return Effect.andThen(hear(body) ?? Effect.void, send(kinds.heard))
        default:
          return Effect.fail(unexpected(kind))
      }
    })
  }, Effect.scoped)
