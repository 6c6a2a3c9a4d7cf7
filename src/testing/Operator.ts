/**
 * Whoever changes the cluster while clients write and faults last: adds and removes servers, the leader too, replaces, promotes and demotes
 * them, several at once, and lets others lead. As data, so that a run can be repeated with any of it left out; which servers an act
 * concerns is decided when it happens, by what the server that is asked believes to be in force.
 */
import * as Effect from "effect/Effect"
import * as Configuration from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as RaftNode from "../services/RaftNode.ts"
import { Draws } from "./Draws.ts"
import type { Injector } from "./Faults.ts"
import type { TestCluster } from "./TestCluster.ts"

export type ActKind =
  | "AddVoter"
  | "AddLearner"
  | "Remove"
  | "RemoveLeader"
  /** A new voter for an old one: by joint consensus where a learner is there to be promoted. */
  | "Replace"
  | "Promote"
  | "Demote"
  /** Up to four changes, in one. */
  | "Several"
  | "Transfer"
  | "TransferTo"

export const actKinds: ReadonlyArray<ActKind> = [
  "AddVoter",
  "AddLearner",
  "Remove",
  "RemoveLeader",
  "Replace",
  "Promote",
  "Demote",
  "Several",
  "Transfer",
  "TransferTo"
]

export interface PlannedAct {
  /** Among the faults and acts of its run: its name when a run is repeated without some of them. */
  readonly number: number
  readonly atMs: number
  readonly kind: ActKind
  /** Who is asked: the leader of the latest term, anybody who believes to lead, or anybody. */
  readonly through: "leader" | "believer" | "anybody"
  /** Decides which servers it concerns. */
  readonly luck: number
}

export interface OperatorPlan {
  /** Servers beyond those that the cluster begins with. */
  readonly spares: number
  readonly acts: ReadonlyArray<PlannedAct>
  /** How often a server that is removed is stopped; the others run on. */
  readonly stopRatio: number
  /** How long an answer is waited for, in milliseconds. */
  readonly patienceMs: number
  /** The longest pause before it is asked again for what was refused. */
  readonly pauseMsMax: number
}

/** How often an operator asks again. */
const attemptsMax = 20

/** `AddVoter`, and whom it is asked of. */
export const describe = ({ kind, through }: PlannedAct): string => `${kind} through ${through}`

const changeText = (change: Configuration.Change): string =>
  change._tag === "Add" ? `Add ${change.id} as ${change.becomes}` : `${change._tag} ${change.id}`

/** `n1, n2; learners n4 (joining)`. */
export const configurationText = ({ joining, learners, outgoing, voters }: Configuration.Configuration): string =>
  [
    voters.join(", ") || "nobody",
    ...(outgoing.length === 0 ? [] : [`with ${outgoing.join(", ")} before`]),
    ...(learners.length === 0 ? [] : [
      `learners ${learners.map((id) => joining.includes(id) ? `${id} (joining)` : id).join(", ")}`
    ])
  ].join("; ")

/** What is to be done: changes, or a transfer to somebody or to whoever is best. */
type Order =
  | { readonly _tag: "Change"; readonly changes: ReadonlyArray<Configuration.Change> }
  | { readonly _tag: "Transfer"; readonly to: NodeId | undefined }

const orderText = (order: Order): string =>
  order._tag === "Transfer" ? `Transfer to ${order.to ?? "the best"}` : order.changes.map(changeText).join(", ")

/** Whether there may be fewer voters afterwards. */
const mayShrink = (order: Order): boolean =>
  order._tag === "Change" && order.changes.some(({ _tag }) => _tag === "Remove" || _tag === "Demote")

/** Draws orders that fit a configuration; `undefined` where there is nobody of whom that could be asked. */
class Orders {
  readonly #ids: ReadonlyArray<NodeId>
  readonly #configuration: Configuration.Configuration
  readonly #leaderId: NodeId | undefined
  readonly #draws: Draws

  constructor(
    ids: ReadonlyArray<NodeId>,
    { configuration, leaderId }: Pick<RaftNode.Status, "configuration" | "leaderId">,
    draws: Draws
  ) {
    this.#ids = ids
    this.#configuration = configuration
    this.#leaderId = leaderId
    this.#draws = draws
  }

  #one(ids: ReadonlyArray<NodeId>): NodeId | undefined {
    return ids.length === 0 ? undefined : this.#draws.pick(ids)
  }

  readonly #strangers = () => this.#ids.filter((id) => !Configuration.isMember(this.#configuration, id))

  #add(becomes: "Voter" | "Learner"): Configuration.Change | undefined {
    const id = this.#one(this.#strangers())
    const address = this.#draws.happens(0.5) ? `memory://${id}` : undefined
    return id === undefined ? undefined : { _tag: "Add", id, address, becomes }
  }

  #of(_tag: "Remove" | "Promote" | "Demote", id: NodeId | undefined): Configuration.Change | undefined {
    return id === undefined ? undefined : { _tag, id }
  }

  #change(kind: ActKind): Configuration.Change | undefined {
    const { learners, voters } = this.#configuration
    switch (kind) {
      case "AddVoter":
        return this.#add("Voter")
      case "AddLearner":
        return this.#add("Learner")
      case "Remove":
        return this.#of("Remove", this.#one(Configuration.members(this.#configuration)))
      case "RemoveLeader":
        return this.#of("Remove", this.#leaderId)
      case "Promote":
        return this.#of("Promote", this.#one(learners))
      case "Demote":
        return this.#of("Demote", this.#one(voters))
      default:
        return undefined
    }
  }

  /** A learner takes the place of a voter at once; where there is none, a stranger begins to, as a learner. */
  #replace(): ReadonlyArray<Configuration.Change> {
    const { learners, voters } = this.#configuration
    const promoted = this.#of("Promote", this.#one(learners)) ?? this.#add("Voter")
    const removed = this.#of("Remove", this.#one(voters))
    return [promoted, removed].flatMap((change) => change === undefined ? [] : [change])
  }

  #several(): ReadonlyArray<Configuration.Change> {
    const kinds: ReadonlyArray<ActKind> = ["AddVoter", "AddLearner", "Remove", "Remove", "Promote", "Promote", "Demote"]
    const drawn = Array.from({ length: this.#draws.between(2, 4) }, () => this.#change(this.#draws.pick(kinds)))
    // Each server once: of two changes of one server the later would undo the earlier.
    return drawn.flatMap((change, i) =>
      change === undefined || drawn.slice(0, i).some((earlier) => earlier?.id === change.id) ? [] : [change]
    )
  }

  order(kind: ActKind): Order | undefined {
    if (kind === "Transfer") return { _tag: "Transfer", to: undefined }
    if (kind === "TransferTo") {
      const to = this.#one(Configuration.members(this.#configuration))
      return to === undefined ? undefined : { _tag: "Transfer", to }
    }
    const change = this.#change(kind)
    const changes = kind === "Replace"
      ? this.#replace()
      : kind === "Several"
      ? this.#several()
      : change === undefined
      ? []
      : [change]
    return changes.length === 0 ? undefined : { _tag: "Change", changes }
  }
}

/** How an act ended. `isPassing`: what stands in its way may be gone in a moment. */
type Ended =
  | { readonly _tag: "Done" }
  | { readonly _tag: "Unknown"; readonly message: string }
  | { readonly _tag: "Refused"; readonly message: string; readonly isPassing: boolean }

const done: Ended = { _tag: "Done" }

const failed = (error: RaftNode.ChangeError): Ended => {
  const { _tag, message, outcome } = error
  if (outcome === "unknown") return { _tag: "Unknown", message }
  const isPassing = _tag !== "ChangeRefused" || RaftNode.isPassing(error.reason)
  return { _tag: "Refused", message, isPassing }
}

export class Operator {
  readonly counts = { changed: 0, transferred: 0, refused: 0, uncertain: 0 }
  readonly #cluster: TestCluster
  readonly #injector: Injector
  readonly #plan: OperatorPlan
  readonly #tell: (line: string) => void
  #isOver = false

  constructor(
    parts: { readonly cluster: TestCluster; readonly injector: Injector; readonly tell: (line: string) => void },
    plan: OperatorPlan
  ) {
    this.#cluster = parts.cluster
    this.#injector = parts.injector
    this.#tell = parts.tell
    this.#plan = plan
  }

  /** All acts of the plan. Ends when the last of them is answered. */
  readonly perform = Effect.suspend(() =>
    Effect.forEach(this.#plan.acts, (act) => this.#perform(act), { concurrency: "unbounded", discard: true })
  )

  /** What is refused from now on is not asked for again. */
  end(): void {
    this.#isOver = true
  }

  /** Lets `act` happen at its time. */
  readonly #perform = (act: PlannedAct): Effect.Effect<void> =>
    Effect.gen({ self: this }, function*() {
      yield* Effect.sleep(act.atMs)
      const draws = new Draws(act.luck)
      const id = yield* this.#asked(act, draws)
      if (id === undefined || !this.#cluster.running().includes(id)) {
        return this.#tell(`act ${act.number}: nobody to ask`)
      }
      const status = yield* this.#cluster.node(id).status
      const order = new Orders(this.#cluster.ids, status, draws).order(act.kind)
      if (order === undefined) return this.#tell(`act ${act.number}: ${act.kind}: there is nobody to do that with`)
      if (yield* this.#isUnwise(order)) return this.#tell(`act ${act.number}: not now: a voter has lost its state`)
      const ended = yield* this.#insist(act, id, order, draws)
      if (ended._tag === "Done" && order._tag === "Change") yield* this.#stopRemoved(order.changes, draws)
    })

  /** Asks, and where that is refused for a reason that may pass, mostly again and again, whoever leads by then. */
  #insist(act: PlannedAct, first: NodeId, order: Order, draws: Draws): Effect.Effect<Ended> {
    return Effect.gen({ self: this }, function*() {
      let id: NodeId | undefined = first
      for (let left = draws.happens(0.3) ? 0 : attemptsMax;; left--) {
        this.#tell(`act ${act.number}: ${id} is asked to ${orderText(order)}`)
        const ended: Ended = yield* this.ask(id, order)
        this.#tell(`act ${act.number}: ${ended._tag}${ended._tag === "Done" ? "" : `: ${ended.message}`}`)
        if (ended._tag !== "Refused" || !ended.isPassing || left === 0 || this.#isOver) return ended
        yield* Effect.sleep(draws.between(1, this.#plan.pauseMsMax))
        id = yield* this.#asked(act, draws)
        if (id === undefined || !this.#cluster.running().includes(id)) return ended
      }
    })
  }

  #asked({ through }: PlannedAct, draws: Draws): Effect.Effect<NodeId | undefined> {
    return Effect.gen({ self: this }, function*() {
      const running = this.#cluster.running()
      if (running.length === 0) return undefined
      if (through === "leader") return (yield* this.#cluster.leader) ?? draws.pick(running)
      if (through === "anybody") return draws.pick(running)
      const leading = (yield* this.#cluster.statuses).filter((status) => status.role === "Leader")
      return leading.length === 0 ? draws.pick(running) : draws.pick(leading).id
    })
  }

  /**
   * A voter that waits for a snapshot neither stands for election nor votes for a shorter log than its own, so that nobody may be able to lead
   * if the others become fewer.
   */
  #isUnwise(order: Order): Effect.Effect<boolean> {
    return mayShrink(order)
      ? Effect.map(this.#injector.damagedVoters, ({ length }) => length > 0)
      : Effect.succeed(false)
  }

  /** Asks `id` for it, and waits as long as an operator does. */
  readonly ask = (id: NodeId, order: Order): Effect.Effect<Ended> =>
    Effect.gen({ self: this }, function*() {
      const node = this.#cluster.node(id)
      for (const change of order._tag === "Change" ? order.changes : []) {
        if (change._tag === "Add") yield* this.#injector.takeUp(change.id)
      }
      if (mayShrink(order)) this.#injector.holdDamage()
      const asked: Effect.Effect<unknown, RaftNode.ChangeError> = order._tag === "Change"
        ? node.reconfigure(order.changes)
        : node.transferLeadership(order.to)
      const ended = yield* asked.pipe(
        Effect.match({
          onFailure: failed,
          onSuccess: () => done
        }),
        Effect.timeoutOrElse({
          duration: this.#plan.patienceMs,
          orElse: () => Effect.succeed<Ended>({ _tag: "Unknown", message: "no answer in time" })
        })
      )
      // What may still be waiting at a paused server comes some day.
      if (mayShrink(order) && ended._tag !== "Unknown") this.#injector.releaseDamage()
      const counted = ended._tag === "Refused" ? "refused" : ended._tag === "Unknown" ? "uncertain" : undefined
      this.counts[counted ?? (order._tag === "Change" ? "changed" : "transferred")]++
      return ended
    })

  /** What is no member any more may as well be switched off; but somebody else may have added it again. */
  #stopRemoved(changes: ReadonlyArray<Configuration.Change>, draws: Draws): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      for (const { _tag, id } of changes) {
        if (_tag !== "Remove" || !draws.happens(this.#plan.stopRatio)) continue
        const possible = yield* this.#cluster.mayBeInForce
        if (possible.some((configuration) => Configuration.isMember(configuration, id))) continue
        this.#tell(`${id} is switched off`)
        yield* this.#injector.layDown(id)
      }
    })
  }

  /**
   * After the faults: whoever is or may be a member runs. Who is none is stopped where settings lack leader stickiness: without that it disturbs
   * the others for good (thesis §4.2.3), and its operator would have to stop it.
   */
  readonly tend = (isSticky: boolean): Effect.Effect<void> =>
    Effect.gen({ self: this }, function*() {
      const possible = yield* this.#cluster.mayBeInForce
      for (const id of this.#cluster.ids) {
        if (isSticky || possible.some((configuration) => Configuration.isMember(configuration, id))) {
          yield* this.#injector.takeUp(id)
        } else yield* this.#injector.layDown(id)
      }
    })
}
