/**
 * Whether this server's disk may take part.
 *
 * A new disk may stand for an old one that was lost, under a name that has promised something. So the server of a new disk that is to vote among
 * others first asks them: it takes part once every other server was called at least once, a majority with itself included has let it
 * in, and none knew another disk under its name. Until then it neither hears nor sends anything but `Hello`. Those of a new cluster do this all at
 * the same time. This is done once in the life of a disk; that it was is written down before it counts.
 */
import * as Configuration from "../../domain/Configuration.ts"
import type { NodeId } from "../../domain/NodeId.ts"
import { tally } from "../../domain/Quorum.ts"

type Gate = "open" | "asking" | "shut"

export class Admission {
  readonly #id: NodeId
  /** Whether this disk had never taken part when this process began: then it is of no use where another one is known. */
  readonly isFirstLife: boolean
  #gate: Gate = "open"
  #configuration = Configuration.unknown
  readonly #called = new Set<NodeId>()
  readonly #letIn = new Map<NodeId, boolean>()

  constructor(id: NodeId, isAdmitted: boolean) {
    this.#id = id
    this.isFirstLife = !isAdmitted
  }

  get isOpen(): boolean {
    return this.#gate === "open"
  }

  /** The configuration that this process begins with: decides whether anybody has to be asked. */
  begin(configuration: Configuration.Configuration): void {
    this.#configuration = configuration
    this.#letIn.set(this.#id, true)
    const isOneOfSeveral = Configuration.isVoter(configuration, this.#id) && tally(configuration, this.#letIn) !== "won"
    if (this.isFirstLife && isOneOfSeveral) this.#gate = "asking"
  }

  /** `peer` was called; `isLetIn` where it let this server in. */
  called(peer: NodeId, isLetIn: boolean): void {
    if (this.#gate !== "asking") return
    this.#called.add(peer)
    if (isLetIn) this.#letIn.set(peer, true)
  }

  /** Whether enough was heard to take part. Those that cannot be called at all are not waited for. */
  isDue(canBeCalled: (id: NodeId) => boolean): boolean {
    return this.#gate === "asking" && tally(this.#configuration, this.#letIn) === "won" &&
      Configuration.members(this.#configuration).every((id) =>
        id === this.#id || this.#called.has(id) || !canBeCalled(id)
      )
  }

  open(): void {
    if (this.#gate === "asking") this.#gate = "open"
  }

  /** Another disk is known under this server's name: in its first life it takes no part any more. */
  shut(): void {
    this.#gate = "shut"
  }
}
