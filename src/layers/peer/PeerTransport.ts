/**
 * The transport between processes, whatever its connections are made of (`Conversation.ts`).
 *
 * Per peer there is one bounded outbox and one fiber, which runs
 *
 * ```
 * connect → Hello → for ever: all that waits, as one batch → something breaks → PeerLost → wait → connect …
 * ```
 *
 * **Whom it calls.** Every other member of the configuration in force, as soon as that names it: so all servers know each
 * other, and each other's disks, before that matters. And whomever the node sends to that has an address
 * (`Addresses.ts`). When another address counts, the connection to the old one ends and the next goes to the new
 * one; who has none any more is left, and so is who is no member and cannot be reached. A peer that calls is up, and is called
 * back without waiting.
 *
 * **Whom it hears.** Any server of the cluster whose disk is the one that it was met with (`Disks.ts`). One with a new disk
 * takes part once the others have let it in (`Admission.ts`): before that what it is to send waits, and what it gets is
 * dropped.
 *
 * **A connection is used once.** RPC clients can reconnect by themselves, but what they survive is less than what can
 * happen: their retry schedule is not reset by a success, so a long-lived client ends up at its longest wait; one
 * frame that is too large spends the parser, and every later call dies; a defect on the other side fails every call
 * under way; a server that shuts down answers with interrupts, which look like our own. So here nothing is repaired.
 * Whatever ends a connection, be it a typed error, a defect, an interrupt or silence, is caught in one place
 * (`attempt`), its scope is closed with everything in it, and the next one starts clean.
 *
 * **Messages are not kept.** What waits when a connection ends is dropped, and so is what is sent until the next one
 * stands: Raft sends again, and a stale message is worth less than a fresh one. Only during the very first attempt
 * messages wait. Whenever some were dropped, the node hears `PeerLost` once: when the connection ends, when the next
 * one stands, or when the outbox overflows.
 *
 * **Messages are encoded when they leave**, which is later than `send` returns: whoever sends one does not change it
 * any more, its bytes included.
 *
 * **Pipelining.** A batch does not wait for the one before to be heard, and most are not answered at all: an answer is a message of its own, and
 * costs both sides as much as a batch. One batch in so many, and the first after a while, asks for one, which says that all before it were heard
 * (`Window.ts`). So what is under way is bounded, in batches and bytes, so that the bytes a slow link has yet to carry cannot hide the pings
 * behind them for longer than the peer is given to answer. With the defaults the worst case, 4 MiB and two messages of 8 MiB, takes a link of
 * about 350 Mbit/s; a slower one needs a longer `pingTimeoutMs`.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Configuration } from "../../domain/Configuration.ts"
import type { NodeId } from "../../domain/NodeId.ts"
import type { Storage } from "../../services/Storage.ts"
import { type Inbound, type PeerMessage, Transport } from "../../services/Transport.ts"
import * as MessageCodec from "../MessageCodec.ts"
import * as MessageFrame from "../MessageFrame.ts"
import * as PeerRpc from "../PeerRpc.ts"
import * as Acquaintance from "./Acquaintance.ts"
import * as Conversation from "./Conversation.ts"
import * as Outbox from "./Outbox.ts"
import { Window, type WindowLimits } from "./Window.ts"

export interface Limits extends WindowLimits {
  /**
   * A peer that is silent this long after it was asked is lost. By RPC it is asked at each interval, and its silence noticed after at most the timeout and two
   * intervals; over a bare connection it is asked after a silence of a little more than `answerIntervalMs` and the interval, whichever is longer.
   */
  readonly pingIntervalMs: number
  readonly pingTimeoutMs: number
  /** How long a connection may take to stand; with `Hello` answered, twice as long. */
  readonly connectTimeoutMs: number
  /** The wait before the next attempt doubles from the first to the second, give or take a quarter. */
  readonly retryMsMin: number
  readonly retryMsMax: number
  /** The wait after a refusal, which time alone seldom cures. */
  readonly refusedRetryMs: number
  /** What may wait for one peer. */
  readonly outboxMessagesMax: number
  readonly outboxBytesMax: number
  /** What travels as one batch; a single larger message travels alone. */
  readonly batchBytesMax: number
  /** Larger messages are dropped with a warning. Far below `WebSocketRoute.frameBytesMax`. */
  readonly messageBytesMax: number
}

export const defaults: Limits = {
  pingIntervalMs: 200,
  pingTimeoutMs: 500,
  connectTimeoutMs: 1000,
  retryMsMin: 100,
  retryMsMax: 400,
  refusedRetryMs: 1000,
  outboxMessagesMax: 16_384,
  outboxBytesMax: 32 << 20,
  batchBytesMax: 2 << 20,
  answerIntervalMs: 500,
  unansweredBatchesMax: 64,
  unansweredBytesMax: 4 << 20,
  messageBytesMax: 16 << 20
}

export interface Options extends Partial<Limits> {
  /** This server. */
  readonly id: NodeId
  /**
   * Where servers listen: `http://host:port`, or `https:`. Comes before what the configuration says. That of this server is
   * told to those that it calls. Read anew at every use: its owner may change it.
   */
  readonly urls: ReadonlyMap<NodeId, string>
}

/** What one transport's fibers hold in common. */
interface Node extends Acquaintance.Acquaintance {
  readonly connect: Conversation.Connect
  readonly limits: Limits
  readonly isNews: (key: string, text: string, nowMs: number) => boolean
  readonly deliver: (event: Inbound) => void
  /** Whose address, when it was last reached, turned out to be another server's. */
  readonly refusedBy: Set<NodeId>
}

/** Sends what waits, batch by batch in order, until the connection breaks. */
const converse = Effect.fnUntraced(
  function*(node: Node, outbox: Outbox.Outbox, { broken, deliver, notify }: Conversation.Conversation) {
    const clock = yield* Clock.Clock
    const window = new Window(node.limits)
    const ask = (messages: ReadonlyArray<Uint8Array>) => {
      const answered = Effect.onExit(deliver(messages), (exit) =>
        Effect.sync(() => {
          window.answered()
          if (Exit.isFailure(exit)) Deferred.doneUnsafe(broken, Exit.failCause(exit.cause))
          outbox.changed.openUnsafe()
        }))
      // Started at once, so that frames leave in the order of the batches. Detached, because the client ends its
      // calls when it is closed, at once, while a call that is interrupted first tries to tell a peer that may not
      // listen, for a second.
      return Effect.forkDetach(answered, { startImmediately: true })
    }
    const sendAll = Effect.whileLoop({
      while: () => true,
      body: (): Effect.Effect<unknown, unknown> => {
        if (outbox.waiting.length === 0 || !window.hasRoom || !node.isAdmitted()) {
          outbox.changed.closeUnsafe()
          // What a server sends in one turn belongs into one batch.
          return Effect.andThen(outbox.changed.await, Effect.yieldNow)
        }
        const { bytes, messages } = Outbox.takeBatch(outbox, node.limits.batchBytesMax)
        const isAsked = window.add(bytes, Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
        const frame = MessageFrame.pieces(messages.map(MessageCodec.toWire))
        return isAsked ? ask(frame) : notify(frame)
      },
      step: () => {}
    })
    return yield* Effect.raceFirst(sendAll, Deferred.await(broken))
  }
)

const annotations = (node: Node, outbox: Outbox.Outbox) => ({ node: node.id, peer: outbox.peer })

/** Logs what may repeat at every attempt, when it is news. */
const logNews = (
  node: Node,
  outbox: Outbox.Outbox,
  line: (text: string) => Effect.Effect<void>,
  text: string,
  reason: string
) =>
  Effect.flatMap(Clock.currentTimeMillis, (nowMs) =>
    node.isNews(`${outbox.peer} ${text}`, reason, nowMs)
      ? Effect.annotateLogs(line(text), { ...annotations(node, outbox), reason })
      : Effect.void)

const tellLoss = (node: Node, outbox: Outbox.Outbox) =>
  Effect.sync(() => {
    if (!outbox.isLossUntold) return
    outbox.isLossUntold = false
    node.deliver({ _tag: "PeerLost", peer: outbox.peer })
  })

/** The peer is called somewhere else from now on. */
class Moved extends Data.TaggedError("Moved")<{ readonly message: string }> {}

/** Refusals that say that clients are not to be sent to that address either. */
const isElsewhere = ({ reason }: PeerRpc.Refused): boolean =>
  reason === "ProtocolVersion" || reason === "ClusterId" || reason === "Target" || reason === "Self" ||
  reason === "CalledDisk"

const notMember = "a peer does not count this server among the members: it was removed, or has yet to be added"

/** Opens a connection and sends what waits, until it breaks or the peer moves. */
const talk = Effect.fnUntraced(function*(node: Node, outbox: Outbox.Outbox, url: string, onStanding: () => void) {
  const hello = node.helloTo(outbox.peer)
  const conversation = yield* node.connect({ ...node.limits, url, hello })
  yield* node.onWelcome(outbox.peer, conversation.welcome)
  onStanding()
  node.refusedBy.delete(outbox.peer)
  outbox.isOpen = true
  yield* tellLoss(node, outbox)
  yield* Effect.annotateLogs(Effect.logInfo("connected to a peer"), {
    ...annotations(node, outbox),
    url,
    protocol: conversation.protocol
  })
  if (conversation.welcome.isMember === false) yield* logNews(node, outbox, Effect.logInfo, notMember, url)
  return yield* converse(node, outbox, conversation)
}, Effect.scoped)

/** One connection from start to end. Returns how it ended; never fails, whatever the reason. */
const attempt = Effect.fnUntraced(function*(node: Node, outbox: Outbox.Outbox, url: string) {
  const startedMs = yield* Clock.currentTimeMillis
  let hasStood = false
  const moved = Effect.andThen(outbox.moved.await, Effect.fail(new Moved({ message: "it is somewhere else now" })))
  const exit = yield* Effect.exit(Effect.raceFirst(talk(node, outbox, url, () => void (hasStood = true)), moved))
  outbox.isOpen = false
  outbox.isLossUntold ||= hasStood
  Outbox.dropWaiting(outbox)
  yield* tellLoss(node, outbox)
  const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
  const refusal = Conversation.refusalOf(cause)
  const reason = refusal?.message ?? Conversation.describe(cause)
  if (refusal !== undefined && isElsewhere(refusal)) node.refusedBy.add(outbox.peer)
  yield* node.onFailure(outbox.peer, refusal)
  if (refusal !== undefined) yield* logNews(node, outbox, Effect.logWarning, refusedText(refusal), reason)
  else if (!hasStood) yield* logNews(node, outbox, Effect.logInfo, "cannot reach a peer", `${url}: ${reason}`)
  else {yield* Effect.annotateLogs(Effect.logInfo("lost the connection to a peer"), {
      ...annotations(node, outbox),
      reason
    })}
  const livedMs = (yield* Clock.currentTimeMillis) - startedMs
  const isSteady = hasStood && livedMs > node.limits.refusedRetryMs
  return { hasStood, isSteady, isRefused: refusal !== undefined }
})

const refusedText = ({ reason }: PeerRpc.Refused): string =>
  reason === "CalledDisk" ? "a peer has another disk than before and takes no part" : "a peer refused this server"

/** Serves one outbox for as long as its peer has an address. */
const serve = Effect.fnUntraced(function*(node: Node, outbox: Outbox.Outbox) {
  const { refusedRetryMs, retryMsMax, retryMsMin } = node.limits
  let delayMs = retryMsMin
  for (;;) {
    const url = node.addresses.of(outbox.peer)
    if (url === undefined) return
    if (url !== outbox.url) delayMs = retryMsMin
    outbox.url = url
    outbox.moved.closeUnsafe()
    outbox.nudged.closeUnsafe()
    const { hasStood, isRefused, isSteady } = yield* attempt(node, outbox, url)
    const hasMoved = node.addresses.of(outbox.peer) !== url
    if (!hasStood && !hasMoved && !node.addresses.unreachable(outbox.peer)) return
    if (isSteady) delayMs = retryMsMin
    const jitter = yield* Random.nextBetween(0.75, 1.25)
    yield* Effect.timeoutOption(outbox.nudged.await, jitter * (isRefused ? refusedRetryMs : delayMs))
    delayMs = Math.min(delayMs * 2, retryMsMax)
  }
})

/** Puts `message` into the outbox, or drops it and remembers that. Returns what is left to do. */
const offer = (
  node: Node,
  outbox: Outbox.Outbox,
  message: PeerMessage,
  scope: Scope.Scope
): Effect.Effect<unknown> => {
  const { messageBytesMax } = node.limits
  const sizeBytes = MessageCodec.sizeBytes(message)
  if (sizeBytes > messageBytesMax) {
    const reason = `${message._tag} takes up to ${sizeBytes} bytes, and ${messageBytesMax} are allowed`
    return logNews(node, outbox, Effect.logWarning, "dropped a message that is too large", reason)
  }
  // In a fiber of its own: `send` never calls the receiver.
  return Outbox.put(outbox, { message, sizeBytes }, node.limits)
    ? Effect.forkIn(tellLoss(node, outbox), scope)
    : Effect.void
}

/** The outboxes of a node, each with the fiber that serves it. */
const makeOutboxes = (node: Node, scope: Scope.Scope) => {
  const outboxes = new Map<NodeId, Outbox.Outbox>()
  const end = (outbox: Outbox.Outbox) =>
    Effect.suspend(() => {
      if (outboxes.get(outbox.peer) === outbox) outboxes.delete(outbox.peer)
      node.refusedBy.delete(outbox.peer)
      Outbox.dropWaiting(outbox)
      return tellLoss(node, outbox)
    })
  /** Has `peer` called, now and again, unless it is already or is nowhere. */
  const open = (peer: NodeId): Effect.Effect<unknown> =>
    Effect.suspend(() => {
      if (peer === node.id || outboxes.has(peer) || node.addresses.of(peer) === undefined) return Effect.void
      const outbox = Outbox.make(peer)
      outboxes.set(peer, outbox)
      return Effect.forkIn(Effect.ensuring(serve(node, outbox), end(outbox)), scope)
    })
  const send = (to: NodeId, message: PeerMessage): Effect.Effect<void> =>
    Effect.suspend(() => {
      const outbox = outboxes.get(to)
      if (outbox !== undefined) return Effect.asVoid(offer(node, outbox, message, scope))
      if (to === node.id || node.addresses.of(to) === undefined) return Effect.void
      return Effect.andThen(open(to), send(to, message))
    })
  /** Addresses may have changed. */
  const onAddresses = (): void => {
    for (const outbox of outboxes.values()) {
      if (node.addresses.of(outbox.peer) === outbox.url) continue
      outbox.moved.openUnsafe()
      outbox.nudged.openUnsafe()
    }
  }
  /** `peer` has called: it is up. */
  const onCall = (peer: NodeId): Effect.Effect<unknown> =>
    Effect.suspend(() => {
      onAddresses()
      outboxes.get(peer)?.nudged.openUnsafe()
      return node.addresses.isMember(peer) ? open(peer) : Effect.void
    })
  return { outboxes, open, send, onAddresses, onCall }
}

const make = Effect.fnUntraced(function*(options: Options, connect: Conversation.Connect) {
  const { id, urls } = options
  const scope = yield* Effect.scope
  let receiver: ((event: Inbound) => void) | undefined
  const onAdmitted = () => {
    for (const { changed } of outboxes.values()) changed.openUnsafe()
  }
  const acquaintance = yield* Acquaintance.make({ id, urls, onAdmitted })
  const node: Node = {
    ...acquaintance,
    connect,
    limits: { ...defaults, ...options },
    isNews: PeerRpc.makeLogGate(),
    deliver: (event) => receiver?.(event),
    refusedBy: new Set()
  }
  const { onAddresses, onCall, open, outboxes, send } = makeOutboxes(node, scope)
  const inbound = (deliver: (event: Inbound) => void) =>
    Effect.asVoid(Effect.acquireRelease(
      Effect.sync(() => void (receiver = deliver)),
      () => Effect.sync(() => void (receiver = receiver === deliver ? undefined : receiver))
    ))
  const reconfigure = Effect.fnUntraced(function*(configuration: Configuration, committed?: Configuration) {
    yield* node.reconfigure(configuration, committed ?? configuration)
    onAddresses()
    // Every member is called, so that all meet all before one of them is needed.
    yield* Effect.forEach(node.addresses.peers(), open, { discard: true })
  })
  return Context.make(Transport, { send, inbound, reconfigure }).pipe(
    Context.add(PeerRpc.PeerInbox, {
      id,
      clusterId: node.clusterId,
      isStranger: (one) => node.addresses.isStranger(one),
      isRefusedBy: (one) => node.refusedBy.has(one),
      greet: (hello, diskId) => Effect.tap(node.greet(hello, diskId), () => onCall(hello.from)),
      beforeHearing: node.beforeHearing,
      deliver: (event) => {
        if (node.isAdmitted()) node.deliver(event)
      },
      diskRefused: node.diskRefused
    })
  )
})

/**
 * Never succeeds: fails when another server knows another disk under this one's name, and this one's was new when the process began. Whoever runs
 * a server races this with `RaftNode.halted`, and ends the process: `message` says what to do.
 */
export const diskRefused: Effect.Effect<never, PeerRpc.DiskRefused, PeerRpc.PeerInbox> = Effect.flatMap(
  PeerRpc.PeerInbox,
  (inbox) => inbox.diskRefused
)

/** The transport of server `id` over connections that `connect` opens, and the `PeerInbox` for what comes in. */
export const layer = (
  connect: Conversation.Connect,
  options: Options
): Layer.Layer<Transport | PeerRpc.PeerInbox, never, Storage> => Layer.effectContext(make(options, connect))
