/**
 * The transport between processes: Effect RPC over WebSockets to the `/raft` of every other server (`PeerRpc.ts`,
 * `RaftHttp.ts`).
 *
 * Per peer there is one bounded outbox and one fiber, which runs
 *
 * ```
 * connect → Hello → for ever: all that waits, as one Deliver → something breaks → PeerLost → wait → connect …
 * ```
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
 * **Pipelining.** A batch does not wait for the answer to the one before. Answers bound what is under way, in batches
 * and bytes, so that the bytes a slow link has yet to carry cannot hide the pings behind them for longer than the peer
 * is given to answer. With the defaults the worst case, 4 MiB and a message of 8 MiB, takes a link of about 200 Mbit/s;
 * a slower one needs a longer `pingTimeoutMs`.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { NodeId } from "../domain/NodeId.ts"
import { Storage } from "../services/Storage.ts"
import { type Inbound, type PeerMessage, Transport } from "../services/Transport.ts"
import * as MessageCodec from "./MessageCodec.ts"
import * as PeerClient from "./PeerClient.ts"
import * as PeerRpc from "./PeerRpc.ts"

export interface Limits {
  /**
   * A peer that is silent this long after a ping is lost. It is noticed after at most the timeout and two intervals.
   */
  readonly pingIntervalMs: number
  readonly pingTimeoutMs: number
  /** How long a connection may take to stand, `Hello` answered. */
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
  /** New batches wait while this much is unanswered. */
  readonly unansweredBatchesMax: number
  readonly unansweredBytesMax: number
  /** Larger messages are dropped with a warning. Far below `PeerRpc.frameBytesMax`. */
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
  unansweredBatchesMax: 16,
  unansweredBytesMax: 4 << 20,
  messageBytesMax: 16 << 20
}

export interface Options extends Partial<Limits> {
  /** This server. */
  readonly id: NodeId
  /**
   * Where each server of the cluster listens: `http://host:port`, or `https:`. Read anew at every use: its owner may
   * change it.
   */
  readonly urls: ReadonlyMap<NodeId, string>
}

interface Waiting {
  readonly message: PeerMessage
  readonly sizeBytes: number
}

/** What waits for one peer. `changed` opens when its fiber may have something to do. */
interface Outbox {
  readonly peer: NodeId
  readonly changed: Latch.Latch
  readonly isNews: (key: string, text: string, nowMs: number) => boolean
  waiting: Array<Waiting>
  waitingBytes: number
  /** Messages are taken: a connection stands, or the first attempt is under way. */
  isOpen: boolean
  /** Messages were dropped and the node has not been told. */
  isLossUntold: boolean
  isOverflowing: boolean
}

const makeOutbox = (peer: NodeId): Outbox => ({
  peer,
  changed: Latch.makeUnsafe(),
  isNews: PeerRpc.makeLogGate(),
  waiting: [],
  waitingBytes: 0,
  isOpen: true,
  isLossUntold: false,
  isOverflowing: false
})

/** Takes the longest run from the front that fits into `bytesMax`, at least one message. */
const takeBatch = (
  outbox: Outbox,
  bytesMax: number
): { readonly messages: Array<PeerMessage>; readonly bytes: number } => {
  const messages: Array<PeerMessage> = []
  let bytes = 0
  for (const { message, sizeBytes } of outbox.waiting) {
    if (messages.length > 0 && bytes + sizeBytes > bytesMax) break
    messages.push(message)
    bytes += sizeBytes
  }
  outbox.waiting = outbox.waiting.slice(messages.length)
  outbox.waitingBytes -= bytes
  outbox.isOverflowing = false
  return { messages, bytes }
}

const dropWaiting = (outbox: Outbox): void => {
  outbox.isLossUntold ||= outbox.waiting.length > 0
  outbox.waiting = []
  outbox.waitingBytes = 0
  outbox.isOverflowing = false
}

/** What one transport's fibers hold in common. */
interface Node {
  readonly id: NodeId
  readonly clusterId: string
  readonly urls: ReadonlyMap<NodeId, string>
  readonly limits: Limits
  readonly deliver: (event: Inbound) => void
  /** Whose address, when it was last reached, turned out to be another server's. */
  readonly refusedBy: Set<NodeId>
}

/** Sends what waits, batch by batch in order, until the connection breaks. */
const converse = Effect.fnUntraced(
  function*(node: Node, outbox: Outbox, { broken, client, token }: PeerClient.Conversation) {
    const { batchBytesMax, unansweredBatchesMax, unansweredBytesMax } = node.limits
    let batches = 0
    let unansweredBytes = 0
    const post = (messages: ReadonlyArray<PeerMessage>, bytes: number) =>
      Effect.suspend(() => client.Deliver({ token, messages: messages.map(MessageCodec.toWire) })).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            batches--
            unansweredBytes -= bytes
            if (Exit.isFailure(exit)) Deferred.doneUnsafe(broken, Exit.failCause(exit.cause))
            outbox.changed.openUnsafe()
          })
        )
      )
    const sendAll = Effect.whileLoop({
      while: () => true,
      body: () => {
        const hasRoom = batches < unansweredBatchesMax && unansweredBytes < unansweredBytesMax
        if (outbox.waiting.length === 0 || !hasRoom) {
          outbox.changed.closeUnsafe()
          return outbox.changed.await
        }
        const { bytes, messages } = takeBatch(outbox, batchBytesMax)
        batches++
        unansweredBytes += bytes
        // Started at once, so that frames leave in the order of the batches. Detached, because the client ends its
        // calls when it is closed, at once, while a call that is interrupted first tries to tell a peer that may not
        // listen, for a second.
        return Effect.forkDetach(post(messages, bytes), { startImmediately: true })
      },
      step: () => {}
    })
    return yield* Effect.raceFirst(sendAll, Deferred.await(broken))
  }
)

const annotations = (node: Node, outbox: Outbox) => ({ node: node.id, peer: outbox.peer })

/** Logs what may repeat at every attempt, when it is news. */
const logNews = (
  node: Node,
  outbox: Outbox,
  line: (text: string) => Effect.Effect<void>,
  text: string,
  reason: string
) =>
  Effect.flatMap(Clock.currentTimeMillis, (nowMs) =>
    outbox.isNews(text, reason, nowMs)
      ? Effect.annotateLogs(line(text), { ...annotations(node, outbox), reason })
      : Effect.void)

const tellLoss = (node: Node, outbox: Outbox) =>
  Effect.sync(() => {
    if (!outbox.isLossUntold) return
    outbox.isLossUntold = false
    node.deliver({ _tag: "PeerLost", peer: outbox.peer })
  })

/** One connection from start to end. Returns why it ended; never fails, whatever the reason. */
const attempt = Effect.fnUntraced(function*(node: Node, outbox: Outbox, url: string) {
  const startedMs = yield* Clock.currentTimeMillis
  let hasStood = false
  const exit = yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
    const { clusterId, id, limits } = node
    const conversation = yield* PeerClient.connect({ ...limits, url, clusterId, from: id, to: outbox.peer })
    hasStood = true
    node.refusedBy.delete(outbox.peer)
    outbox.isOpen = true
    yield* tellLoss(node, outbox)
    yield* Effect.annotateLogs(Effect.logInfo("connected to a peer"), { ...annotations(node, outbox), url })
    return yield* converse(node, outbox, conversation)
  })))
  outbox.isOpen = false
  outbox.isLossUntold ||= hasStood
  dropWaiting(outbox)
  yield* tellLoss(node, outbox)
  const cause = Exit.isFailure(exit) ? exit.cause : Cause.empty
  const refusal = PeerClient.refusalOf(cause)
  const reason = refusal?.message ?? PeerClient.describe(cause)
  // An old token is no stranger's: a later conversation with the same server has taken its place.
  if (refusal !== undefined && refusal.reason !== "UnknownToken") node.refusedBy.add(outbox.peer)
  if (refusal !== undefined) yield* logNews(node, outbox, Effect.logWarning, "a peer refused this server", reason)
  else if (!hasStood) yield* logNews(node, outbox, Effect.logInfo, "cannot reach a peer", `${url}: ${reason}`)
  else {yield* Effect.annotateLogs(Effect.logInfo("lost the connection to a peer"), {
      ...annotations(node, outbox),
      reason
    })}
  const livedMs = (yield* Clock.currentTimeMillis) - startedMs
  return { isRefused: refusal !== undefined, wasSteady: hasStood && livedMs > node.limits.refusedRetryMs }
})

/** Serves one outbox for as long as its peer has an address. */
const serve = Effect.fnUntraced(function*(node: Node, outbox: Outbox) {
  const { refusedRetryMs, retryMsMax, retryMsMin } = node.limits
  let delayMs = retryMsMin
  for (;;) {
    const url = node.urls.get(outbox.peer)
    if (url === undefined) return
    const { isRefused, wasSteady } = yield* attempt(node, outbox, url)
    if (wasSteady) delayMs = retryMsMin
    const jitter = yield* Random.nextBetween(0.75, 1.25)
    yield* Effect.sleep(jitter * (isRefused ? refusedRetryMs : delayMs))
    delayMs = Math.min(delayMs * 2, retryMsMax)
  }
})

/** Puts `message` into the outbox, or drops it and remembers that. Returns what is left to do. */
const offer = (node: Node, outbox: Outbox, message: PeerMessage, scope: Scope.Scope): Effect.Effect<unknown> => {
  const { messageBytesMax, outboxBytesMax, outboxMessagesMax } = node.limits
  const sizeBytes = MessageCodec.sizeBytes(message)
  if (sizeBytes > messageBytesMax) {
    const reason = `${message._tag} takes up to ${sizeBytes} bytes, and ${messageBytesMax} are allowed`
    return logNews(node, outbox, Effect.logWarning, "dropped a message that is too large", reason)
  }
  if (!outbox.isOpen) {
    outbox.isLossUntold = true
    return Effect.void
  }
  // One message always fits, whatever the limits.
  const isFull = outbox.waiting.length >= outboxMessagesMax ||
    (outbox.waiting.length > 0 && outbox.waitingBytes + sizeBytes > outboxBytesMax)
  if (!isFull) {
    outbox.waiting.push({ message, sizeBytes })
    outbox.waitingBytes += sizeBytes
    outbox.changed.openUnsafe()
    return Effect.void
  }
  if (outbox.isOverflowing) return Effect.void
  outbox.isOverflowing = true
  outbox.isLossUntold = true
  // In a fiber of its own: `send` never calls the receiver.
  return Effect.forkIn(tellLoss(node, outbox), scope)
}

const make = Effect.fnUntraced(function*(options: Options) {
  const { identity } = yield* Storage
  const scope = yield* Effect.scope
  const outboxes = new Map<NodeId, Outbox>()
  let receiver: ((event: Inbound) => void) | undefined
  const node: Node = {
    id: options.id,
    clusterId: identity.clusterId,
    urls: options.urls,
    limits: { ...defaults, ...options },
    deliver: (event) => receiver?.(event),
    refusedBy: new Set()
  }
  const isPeer = (id: NodeId): boolean => id !== options.id && options.urls.has(id)
  const start = (peer: NodeId): Effect.Effect<unknown> => {
    const outbox = makeOutbox(peer)
    outboxes.set(peer, outbox)
    return Effect.forkIn(Effect.ensuring(serve(node, outbox), Effect.sync(() => outboxes.delete(peer))), scope)
  }
  const send = (to: NodeId, message: PeerMessage): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!isPeer(to)) return Effect.void
      const outbox = outboxes.get(to)
      if (outbox !== undefined) return Effect.asVoid(offer(node, outbox, message, scope))
      return Effect.andThen(start(to), send(to, message))
    })
  const inbound = (deliver: (event: Inbound) => void) =>
    Effect.asVoid(Effect.acquireRelease(
      Effect.sync(() => void (receiver = deliver)),
      () => Effect.sync(() => void (receiver = receiver === deliver ? undefined : receiver))
    ))
  return Context.make(Transport, { send, inbound }).pipe(
    Context.add(PeerRpc.PeerInbox, {
      id: options.id,
      clusterId: identity.clusterId,
      isPeer,
      isRefusedBy: (id) => node.refusedBy.has(id),
      deliver: node.deliver
    })
  )
})

/**
 * The transport of server `id`, and the `PeerInbox` that `RaftHttp.layer` hands incoming messages to. A connection is
 * opened by the first message to a peer. A message to the server itself, or to one without an address, is silence.
 */
export const layer = (options: Options): Layer.Layer<Transport | PeerRpc.PeerInbox, never, Storage> =>
  Layer.effectContext(make(options))
