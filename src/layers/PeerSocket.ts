/**
 * Both ends of a bare connection between two servers (`PeerFrames.ts`): an HTTP request for `/raft` that asks for another protocol, and frames from
 * then on.
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import type { Callers } from "./peer/Callers.ts"
import { addressOf, type ConnectOptions, type Conversation } from "./peer/Conversation.ts"
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

/** The other side does not keep to the protocol. */
class Unexpected extends Data.TaggedError("Unexpected")<{ readonly message: string }> {}

/**
 * The connection as frames. Lasts as long as the scope, and not longer: what has not left by then is of no more use, and a peer that does not take it would
 * keep it here for as long as it likes.
 */
const framed = Effect.fnUntraced(function*(socket: Socket.Socket, bodyBytesMax: number) {
  const pull = yield* Socket.readerBytes(socket)
  const writer = yield* socket.writer
  yield* Effect.addFinalizer(() => Effect.ignore(writer.write(new Socket.CloseEvent(1000))))
  const reader = new PeerFrames.Reader(bodyBytesMax)
  const waiting: Array<PeerFrames.Frame> = []
  const more = Effect.flatMap(pull, (chunks): Effect.Effect<void, Unexpected> => {
    for (const chunk of chunks) {
      const read = reader.read(chunk)
      if ("problem" in read) return Effect.fail(new Unexpected({ message: read.problem }))
      waiting.push(...read)
    }
    return Effect.void
  })
  return {
    reader,
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
      }),
    /** Ends once the other side has ended the connection, whatever it says until then. */
    ended: Effect.ignore(Effect.forever(pull))
  }
})

const unexpected = (kind: number | undefined) => new Unexpected({ message: `a frame of kind ${kind} is out of place` })

/** What a caller is told in the place of what it has asked for. */
const refusalOr = (frame: PeerFrames.Frame | undefined): Effect.Effect<never, unknown> =>
  frame?.kind === kinds.refused
    ? Effect.flatMap(refusals.decode(frame.body), Effect.fail)
    : Effect.fail(unexpected(frame?.kind))

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

type Limits = Pick<ConnectOptions, "answerIntervalMs" | "pingIntervalMs" | "pingTimeoutMs">

/** Who waits to hear that what they sent was heard, oldest first, and when the next of them has waited too long, or nothing was heard for too long. */
class Hearing {
  readonly #limits: Limits
  readonly #asked: Array<Asked> = []
  #ended: Exit.Exit<never, unknown> | undefined
  #heardMs: number

  constructor(limits: Limits, nowMs: number) {
    this.#limits = limits
    this.#heardMs = nowMs
  }

  get isAwaited(): boolean {
    return this.#asked.length > 0
  }

  /** When something is to be done about it. Where messages flow, answers come before silence is one. */
  get dueMs(): number {
    const { answerIntervalMs, pingIntervalMs, pingTimeoutMs } = this.#limits
    const oldest = this.#asked[0]
    return oldest === undefined
      ? this.#heardMs + silenceFactor * Math.max(answerIntervalMs, pingIntervalMs)
      : oldest.atMs + pingTimeoutMs
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

const silenceFactor = 1.1

/** Later than this, in milliseconds, a timer means that this process was held up, and what has come meanwhile was not read yet. */
const heldUpMs = 20

/** Ends with a failure once the called does not answer; asks it where it is silent. */
const watch = (hearing: Hearing, now: () => number, ask: () => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function*() {
    for (;;) {
      const dueMs = hearing.dueMs
      const leftMs = dueMs - now()
      if (leftMs > 0) yield* Effect.sleep(Math.ceil(leftMs))
      if (now() - dueMs > heldUpMs) yield* Effect.sleep(1)
      if (now() < hearing.dueMs) continue
      if (hearing.isAwaited) return yield* Effect.fail("ping timeout")
      yield* Effect.forkScoped(Effect.ignore(ask()), { startImmediately: true })
    }
  })

/** How a connection has ended, for a reader. */
const ending = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> => {
  const error = Cause.squash(cause)
  const isClosed = Socket.isSocketError(error) && error.reason._tag === "SocketCloseError"
  return isClosed ? Cause.fail("the connection closed") : cause
}

/** A `Connect`. */
export const connect = Effect.fnUntraced(function*(options: ConnectOptions) {
  const clock = yield* Clock.Clock
  const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const broken = Deferred.makeUnsafe<never, unknown>()
  const { httpUrl } = yield* addressOf(options.url)
  const socket = yield* Effect.timeout(open(httpUrl), options.connectTimeoutMs)
  const { first, forEach, send } = yield* framed(socket, WebSocketRoute.frameBytesMax)
  yield* send(kinds.hello, hellos.encode(options.hello))
  const answer = yield* first
  if (answer?.kind !== kinds.welcome) return yield* refusalOr(answer)
  const welcome = yield* welcomes.decode(answer.body)
  const hearing = new Hearing(options, now())
  const ask = (messages: ReadonlyArray<Uint8Array> = []) =>
    Effect.suspend(() => {
      const heard = hearing.ask(now())
      return Effect.andThen(send(kinds.asking, ...messages), Deferred.await(heard))
    })
  const hear = forEach((frame) => frame.kind === kinds.heard && hearing.heard(now()) ? undefined : refusalOr(frame))
  yield* Effect.raceFirst(hear, watch(hearing, now, ask)).pipe(
    Effect.onExit((exit) =>
      Effect.sync(() => {
        const end = Exit.failCause(Exit.isFailure(exit) ? ending(exit.cause) : Cause.fail("the connection closed"))
        hearing.end(end)
        Deferred.doneUnsafe(broken, end)
      })
    ),
    Effect.forkScoped
  )
  return {
    protocol: "frames",
    welcome,
    broken,
    deliver: ask,
    notify: (messages) => send(kinds.messages, ...messages)
  } satisfies Conversation
}, (effect, options) => Effect.timeout(effect, options.connectTimeoutMs * 2))

/** How long a caller may take to say who it is, in milliseconds. */
const helloTimeoutMs = 5000

/** A caller speaks at least each second or so: one that has not for this long is gone, however its connection looks. */
const silentMsMax = 30_000

/** How long a caller that is refused may take to read why. */
const refusalMsMax = 1000

/** Fails once nothing has come for too long. `heard` says whether anything has since the last time. */
const guard = (heard: () => boolean) =>
  Effect.suspend(() => heard() ? Effect.void : Effect.fail("a caller has gone silent")).pipe(
    Effect.delay(silentMsMax),
    Effect.forever
  )

/** Listens to a caller until its connection ends. */
export const serve = (callers: Callers) =>
  Effect.fnUntraced(function*(socket: Socket.Socket) {
    const { ended, first, forEach, reader, send } = yield* framed(socket, PeerFrames.introductionBytesMax)
    const refuse = (refusal: PeerRpc.Refused) =>
      Effect.andThen(send(kinds.refused, refusals.encode(refusal)), ended).pipe(
        Effect.timeoutOption(refusalMsMax),
        Effect.andThen(Effect.fail(refusal))
      )
    const introduced = Effect.gen(function*() {
      const hello = yield* Effect.timeout(first, helloTimeoutMs)
      return hello?.kind === kinds.hello ? yield* hellos.decode(hello.body) : yield* unexpected(hello?.kind)
    })
    const greeting = yield* Effect.tapCause(introduced, (cause) => callers.strange(String(Cause.squash(ending(cause)))))
    const { token, ...welcome } = yield* Effect.catch(callers.greet(greeting), refuse)
    reader.bodyBytesMax = WebSocketRoute.frameBytesMax
    yield* send(kinds.welcome, welcomes.encode(welcome))
    const hear = (messages: Uint8Array) => {
      const heard = callers.hear(token, messages)
      return heard === undefined ? undefined : Effect.catch(heard, refuse)
    }
    let hasCome = false
    const listening = forEach(({ body, kind }) => {
      hasCome = true
      switch (kind) {
        case kinds.messages:
          return hear(body)
        case kinds.asking:
          return Effect.andThen(hear(body) ?? Effect.void, send(kinds.heard))
        default:
          return Effect.fail(unexpected(kind))
      }
    })
    const hasSpoken = () => {
      const had = hasCome
      hasCome = false
      return had
    }
    yield* Effect.raceFirst(listening, guard(hasSpoken))
  }, Effect.scoped)
