/**
 * A network in memory, with faults: what a test or a simulation runs a cluster on.
 *
 * Everything random is drawn from the seed, in the order of the sends, and each send draws the same number of times
 * whatever becomes of it: cutting a link does not change what happens on the others. All time is the `Clock` of the
 * sending fiber.
 *
 * A message is in one list from its send to its delivery, ordered by (due time, number of the send). A fiber sleeps
 * for each, and whichever wakes takes the first of the list. So messages arrive in the order of their due times even
 * where a scheduler wakes sleepers of the same instant in any order, and with a fixed delay every link keeps its
 * order.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Message } from "../domain/Message.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as Random from "../domain/Random.ts"
import { type Inbound, Transport } from "../services/Transport.ts"

/** How bad the network is. */
export interface Faults {
  /** One-way delays are whole milliseconds drawn from [min, max]; equal bounds keep every link in order. */
  readonly delayMsMin: number
  readonly delayMsMax: number
  /** From 0, never, to 1, always. */
  readonly lossProbability: number
  readonly duplicateProbability: number
}

export const healthy: Faults = { delayMsMin: 0, delayMsMax: 0, lossProbability: 0, duplicateProbability: 0 }

/**
 * What became of one copy of a message. `Cut`: the link was down at the send or at the arrival. `Down`: nobody
 * listened.
 */
export type Fate = "Delivered" | "Lost" | "Cut" | "Down"

export interface Passage {
  readonly from: NodeId
  readonly to: NodeId
  readonly message: Message
  readonly fate: Fate
}

export interface NetworkOptions extends Partial<Faults> {
  readonly seed: number
  /** Called for every copy of every message when its fate is known, before it is delivered. */
  readonly tap?: (passage: Passage) => void
}

/** All links of a test's cluster. Every change holds from now on, for messages under way too. */
export interface Network {
  readonly setFaults: (faults: Partial<Faults>) => void
  /** Cuts one direction of one link. */
  readonly cut: (from: NodeId, to: NodeId) => void
  /** Cuts every link of `id`, both directions. */
  readonly isolate: (id: NodeId) => void
  /**
   * Cuts every link between different groups; nodes that no group names form one more. Replaces the earlier
   * partition.
   */
  readonly partition: (groups: ReadonlyArray<ReadonlyArray<NodeId>>) => void
  /** Joins every link again. Faults stay as they are. */
  readonly heal: () => void
  readonly delivered: () => number
  readonly dropped: () => number
  /** Makes `deliver` the receiver of `id`, in place of any earlier one; the result takes it back. */
  readonly listen: (id: NodeId, deliver: (event: Inbound) => void) => () => void
  readonly send: (from: NodeId, to: NodeId, message: Message) => Effect.Effect<void>
}

interface UnderWay extends Omit<Passage, "fate"> {
  readonly dueMs: number
}

interface Links {
  readonly cuts: Set<string>
  readonly isolated: Set<NodeId>
  groupOf: ReadonlyMap<NodeId, number>
}

const linkKey = (from: NodeId, to: NodeId): string => `${from} ${to}`

const isUp = (links: Links, from: NodeId, to: NodeId): boolean =>
  !links.cuts.has(linkKey(from, to)) && !links.isolated.has(from) && !links.isolated.has(to) &&
  links.groupOf.get(from) === links.groupOf.get(to)

/** Puts `item` behind everything that is due no later: the last of `underWay` is the first to arrive. */
const insert = (underWay: Array<UnderWay>, item: UnderWay): void => {
  let low = 0
  let high = underWay.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((underWay[middle]?.dueMs ?? 0) > item.dueMs) low = middle + 1
    else high = middle
  }
  underWay.splice(low, 0, item)
}

const nowMs = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** A network whose links are all up. Example: `makeNetwork({ seed: 7, delayMsMin: 1, delayMsMax: 10 })`. */
export const makeNetwork = (options: NetworkOptions): Network => {
  const receivers = new Map<NodeId, (event: Inbound) => void>()
  const links: Links = { cuts: new Set(), isolated: new Set(), groupOf: new Map() }
  const underWay: Array<UnderWay> = []
  const counts: Record<Fate, number> = { Delivered: 0, Lost: 0, Cut: 0, Down: 0 }
  let faults: Faults = { ...healthy, ...options }
  let random: Random.RandomState = options.seed >>> 0

  const draw = (max: number): number => {
    const drawn = Random.nextInt(random, { min: 0, max })
    random = drawn.state
    return drawn.value
  }
  const happens = (probability: number): boolean => draw(1_000_000) < probability * 1_000_000
  const drawDelayMs = (): number => faults.delayMsMin + draw(faults.delayMsMax - faults.delayMsMin + 1)

  const settle = ({ from, message, to }: Omit<Passage, "fate">, fate: Fate): void => {
    counts[fate]++
    options.tap?.({ from, to, message, fate })
  }
  const arrive = (): void => {
    const first = underWay.pop()
    if (first === undefined) return
    if (!isUp(links, first.from, first.to)) return settle(first, "Cut")
    const receiver = receivers.get(first.to)
    if (receiver === undefined) return settle(first, "Down")
    settle(first, "Delivered")
    receiver({ _tag: "Received", from: first.from, message: first.message })
  }
  const travel = (clock: Clock.Clock, passage: Omit<Passage, "fate">, delayMs: number): Effect.Effect<unknown> => {
    insert(underWay, { ...passage, dueMs: nowMs(clock) + delayMs })
    return Effect.forkDetach(Effect.andThen(Effect.sleep(delayMs), Effect.sync(arrive)))
  }

  return {
    setFaults: (changed) => void (faults = { ...faults, ...changed }),
    cut: (from, to) => void links.cuts.add(linkKey(from, to)),
    isolate: (id) => void links.isolated.add(id),
    partition: (groups) => {
      links.groupOf = new Map(groups.flatMap((group, number) => group.map((id) => [id, number] as const)))
    },
    heal: () => {
      links.cuts.clear()
      links.isolated.clear()
      links.groupOf = new Map()
    },
    delivered: () => counts.Delivered,
    dropped: () => counts.Lost + counts.Cut + counts.Down,
    listen: (id, deliver) => {
      receivers.set(id, deliver)
      return () => {
        if (receivers.get(id) === deliver) receivers.delete(id)
      }
    },
    send: (from, to, message) =>
      Clock.clockWith((clock) => {
        const passage = { from, to, message }
        const isLost = happens(faults.lossProbability)
        const isTwice = happens(faults.duplicateProbability)
        const delaysMs = [drawDelayMs(), drawDelayMs()] as const
        if (!isUp(links, from, to)) return Effect.sync(() => settle(passage, "Cut"))
        if (isLost) return Effect.sync(() => settle(passage, "Lost"))
        const first = travel(clock, passage, delaysMs[0])
        return Effect.asVoid(isTwice ? Effect.andThen(first, travel(clock, passage, delaysMs[1])) : first)
      })
  }
}

/**
 * The transport of node `id` on `network`. A message to the node itself or to nobody is silence; one that comes while
 * no receiver listens is lost, so a node that restarts misses what was under way while it was down. `PeerLost` is
 * never reported.
 */
export const layer = (options: { readonly network: Network; readonly id: NodeId }): Layer.Layer<Transport> =>
  Layer.succeed(Transport)({
    send: (to, message) => to === options.id ? Effect.void : options.network.send(options.id, to, message),
    inbound: (deliver) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => options.network.listen(options.id, deliver)),
          (stop) => Effect.sync(stop)
        )
      )
  })
