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
 *
 * What arrives is the very message that was sent, once or twice, with the very same bytes: neither side may change it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { NodeId } from "../domain/NodeId.ts"
import * as Random from "../domain/Random.ts"
import { type Inbound, type PeerMessage, Transport } from "../services/Transport.ts"

/** How bad the network is. */
export interface Faults {
  /** One-way delays are whole milliseconds drawn from [min, max]; equal bounds keep every link in order. */
  readonly delayMsMin: number
  readonly delayMsMax: number
  /** From 0, never, to 1, always. */
  readonly lossProbability: number
  readonly duplicateProbability: number
  /** How many messages take up to `stragglerDelayMsMax` more: they arrive when much else has happened. */
  readonly stragglerProbability: number
  readonly stragglerDelayMsMax: number
}

export const healthy: Faults = {
  delayMsMin: 0,
  delayMsMax: 0,
  lossProbability: 0,
  duplicateProbability: 0,
  stragglerProbability: 0,
  stragglerDelayMsMax: 0
}

/**
 * What became of one copy of a message. `Cut`: the link was down at the send or at the arrival. `Down`: nobody
 * listened.
 */
export type Fate = "Delivered" | "Lost" | "Cut" | "Down"

export interface Passage {
  readonly from: NodeId
  readonly to: NodeId
  readonly message: PeerMessage
  readonly fate: Fate
}

export interface NetworkOptions extends Partial<Faults> {
  readonly seed: number
  /** Called for every copy of every message when its fate is known, before it is delivered. */
  readonly tap?: (passage: Passage) => void
  /**
   * Runs `arrive` in `delayMs`. By default a fiber of the sender waits for that; a network of its own time outlives its senders, and
   * goes on while they are paused.
   */
  readonly after?: (delayMs: number, arrive: () => void) => void
}

/** All links of a test's cluster. Every change holds from now on, for messages under way too. */
export interface Network {
  readonly setFaults: (faults: Partial<Faults>) => void
  /** Cuts one direction of one link. */
  readonly cut: (from: NodeId, to: NodeId) => void
  /** Makes one direction of one link slower than the others, by this much. */
  readonly slow: (from: NodeId, to: NodeId, byMs: number) => void
  /** Breaks the connection between two nodes, which is up again at once: what is under way is lost, and both are told. */
  readonly reconnect: (a: NodeId, b: NodeId) => void
  /** Cuts every link of `id`, both directions. */
  readonly isolate: (id: NodeId) => void
  /**
   * Cuts every link between different groups; nodes that no group names form one more. Replaces the earlier
   * partition.
   */
  readonly partition: (groups: ReadonlyArray<ReadonlyArray<NodeId>>) => void
  /** Joins every link again, at its usual speed. Faults stay as they are. */
  readonly heal: () => void
  readonly delivered: () => number
  readonly dropped: () => number
  /** Makes `deliver` the receiver of `id`, in place of any earlier one; the result takes it back. */
  readonly listen: (id: NodeId, deliver: (event: Inbound) => void) => () => void
  readonly send: (from: NodeId, to: NodeId, message: PeerMessage) => Effect.Effect<void>
}

interface UnderWay extends Omit<Passage, "fate"> {
  readonly dueMs: number
  /** How often the connection had broken when it was sent. */
  readonly breaks: number
}

interface Links {
  readonly cuts: Set<string>
  readonly slowMs: Map<string, number>
  readonly breaks: Map<string, number>
  readonly isolated: Set<NodeId>
  groupOf: ReadonlyMap<NodeId, number>
}

const linkKey = (from: NodeId, to: NodeId): string => `${from} ${to}`

const isUp = (links: Links, from: NodeId, to: NodeId): boolean =>
  !links.cuts.has(linkKey(from, to)) && !links.isolated.has(from) && !links.isolated.has(to) &&
  links.groupOf.get(from) === links.groupOf.get(to)

const breaksOf = (links: Links, from: NodeId, to: NodeId): number => links.breaks.get(linkKey(from, to)) ?? 0

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

/** What happens to each message, drawn from the seed. */
class Luck {
  faults: Faults
  #random: Random.RandomState

  constructor(seed: number, faults: Faults) {
    this.#random = seed >>> 0
    this.faults = faults
  }

  #draw(max: number): number {
    const drawn = Random.nextInt(this.#random, { min: 0, max })
    this.#random = drawn.state
    return drawn.value
  }

  #happens(probability: number): boolean {
    return this.#draw(1_000_000) < probability * 1_000_000
  }

  #delayMs(): number {
    const { delayMsMax, delayMsMin, stragglerDelayMsMax, stragglerProbability } = this.faults
    const usual = delayMsMin + this.#draw(delayMsMax - delayMsMin + 1)
    const isLate = this.#happens(stragglerProbability)
    const late = this.#draw(stragglerDelayMsMax + 1)
    return isLate ? usual + late : usual
  }

  /** Always the same number of draws. */
  next(): { readonly isLost: boolean; readonly delaysMs: ReadonlyArray<number> } {
    const isLost = this.#happens(this.faults.lossProbability)
    const isTwice = this.#happens(this.faults.duplicateProbability)
    const delaysMs = [this.#delayMs(), this.#delayMs()]
    return { isLost, delaysMs: isTwice ? delaysMs : delaysMs.slice(0, 1) }
  }
}

/** What a test can do to links. */
const linkControls = (links: Links): Pick<Network, "cut" | "slow" | "isolate" | "partition" | "heal"> => ({
  cut: (from, to) => void links.cuts.add(linkKey(from, to)),
  slow: (from, to, byMs) => void links.slowMs.set(linkKey(from, to), byMs),
  isolate: (id) => void links.isolated.add(id),
  partition: (groups) => {
    links.groupOf = new Map(groups.flatMap((group, number) => group.map((id) => [id, number] as const)))
  },
  heal: () => {
    links.cuts.clear()
    links.slowMs.clear()
    links.isolated.clear()
    links.groupOf = new Map()
  }
})

/** A network whose links are all up. Example: `makeNetwork({ seed: 7, delayMsMin: 1, delayMsMax: 10 })`. */
export const makeNetwork = (options: NetworkOptions): Network => {
  const receivers = new Map<NodeId, (event: Inbound) => void>()
  const links: Links = {
    cuts: new Set(),
    slowMs: new Map(),
    breaks: new Map(),
    isolated: new Set(),
    groupOf: new Map()
  }
  const underWay: Array<UnderWay> = []
  const counts: Record<Fate, number> = { Delivered: 0, Lost: 0, Cut: 0, Down: 0 }
  const luck = new Luck(options.seed, { ...healthy, ...options })

  const settle = ({ from, message, to }: Omit<Passage, "fate">, fate: Fate): void => {
    counts[fate]++
    options.tap?.({ from, to, message, fate })
  }
  const arrive = (passage: Omit<UnderWay, "dueMs">): void => {
    const { breaks, from, to } = passage
    if (!isUp(links, from, to) || breaks !== breaksOf(links, from, to)) return settle(passage, "Cut")
    const receiver = receivers.get(to)
    if (receiver === undefined) return settle(passage, "Down")
    settle(passage, "Delivered")
    receiver({ _tag: "Received", from, message: passage.message })
  }
  const arriveFirst = (): void => {
    const first = underWay.pop()
    if (first !== undefined) arrive(first)
  }
  const { after } = options
  const travel = (clock: Clock.Clock, passage: Omit<UnderWay, "dueMs">, delayMs: number): Effect.Effect<void> => {
    if (after !== undefined) return Effect.sync(() => after(delayMs, () => arrive(passage)))
    insert(underWay, { ...passage, dueMs: nowMs(clock) + delayMs })
    return Effect.asVoid(Effect.forkDetach(Effect.andThen(Effect.sleep(delayMs), Effect.sync(arriveFirst))))
  }
  const breakOff = (from: NodeId, to: NodeId): void => {
    links.breaks.set(linkKey(from, to), breaksOf(links, from, to) + 1)
    receivers.get(to)?.({ _tag: "PeerLost", peer: from })
  }

  return {
    setFaults: (changed) => void (luck.faults = { ...luck.faults, ...changed }),
    reconnect: (a, b) => {
      breakOff(a, b)
      breakOff(b, a)
    },
    ...linkControls(links),
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
        const passage = { from, to, message, breaks: breaksOf(links, from, to) }
        const { delaysMs, isLost } = luck.next()
        if (!isUp(links, from, to)) return Effect.sync(() => settle(passage, "Cut"))
        if (isLost) return Effect.sync(() => settle(passage, "Lost"))
        const slowMs = links.slowMs.get(linkKey(from, to)) ?? 0
        const [first = 0, second] = delaysMs
        const once = travel(clock, passage, first + slowMs)
        return second === undefined ? once : Effect.andThen(once, travel(clock, passage, second + slowMs))
      })
  }
}

/**
 * The transport of node `id` on `network`. A message to the node itself or to nobody is silence; one that comes while
 * no receiver listens is lost, so a node that restarts misses what was under way while it was down. `PeerLost` is
 * reported by `Network.reconnect` alone. Servers are found by name, whatever the configuration says.
 */
export const layer = (options: { readonly network: Network; readonly id: NodeId }): Layer.Layer<Transport> =>
  Layer.succeed(Transport)({
    send: (to, message) => to === options.id ? Effect.void : options.network.send(options.id, to, message),
    reconfigure: () => Effect.void,
    inbound: (deliver) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => options.network.listen(options.id, deliver)),
          (stop) => Effect.sync(stop)
        )
      )
  })
