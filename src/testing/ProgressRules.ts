/**
 * Rules L4, L8 and L10 as properties of single steps of a leader: what it takes for matched, how long it searches, and how much it holds.
 */
import * as Log from "../domain/Log.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { isLeader, type LeaderState } from "../domain/NodeState.ts"
import { demand, type DiskOf, holds } from "./Figure3.ts"
import type { Observed } from "./Watch.ts"

export class ProgressRules {
  readonly #diskOf: DiskOf
  /** How often in a row each leader was sent back by each follower. */
  readonly #rejections = new Map<string, number>()

  constructor(diskOf: DiskOf) {
    this.#diskOf = diskOf
  }

  saw(observed: Observed): void {
    const { after, before } = observed
    if (!isLeader(after)) return
    const known = isLeader(before) ? before : undefined
    for (const [id, { matchIndex }] of after.role.progress) {
      if (matchIndex > (known?.role.progress.get(id)?.matchIndex ?? 0)) this.#matched(after, id, matchIndex)
    }
    if (known === undefined) return
    this.#searched(observed, known, after)
    if (observed.event._tag === "Propose") this.#held(observed, known, after)
  }

  /** A later leader may have cut it from that disk since, but nobody else. */
  #matched(leader: LeaderState, id: NodeId, matchIndex: number): void {
    const disk = this.#diskOf(id)
    if (disk === undefined || disk.hardState.term > leader.term) return
    demand(
      matchIndex < leader.log.prev.index ||
        holds(disk, { term: Log.termAt(leader.log, matchIndex), index: matchIndex }),
      "what a leader takes for matched is on that disk (L4, L6)",
      () => `${leader.id} takes ${id} to match up to ${matchIndex}`
    )
  }

  #searched({ event }: Observed, before: LeaderState, after: LeaderState): void {
    if (event._tag !== "Received" || event.message._tag !== "AppendEntriesResponse") return
    const { from, message } = event
    const key = `${before.id} ${before.term} ${from}`
    if (message.result._tag === "Matched") return void this.#rejections.delete(key)
    const [was, is] = [before.role.progress.get(from), after.role.progress.get(from)]
    if (was === undefined || is === undefined || is.nextIndex >= was.nextIndex) return
    const count = (this.#rejections.get(key) ?? 0) + 1
    this.#rejections.set(key, count)
    // Each rules out a term of the leader's log or one of the follower's, and there are no more of those than there were terms.
    const bound = after.log.terms.length + after.term + 2
    demand(
      count <= bound,
      "a rejection rules out a whole term (L8)",
      () => `${from} rejected ${before.id} ${count} times`
    )
  }

  #held({ commands }: Observed, before: LeaderState, after: LeaderState): void {
    const { uncommittedBytesMax } = before.settings
    const bytes = after.role.uncommittedBytes
    demand(
      before.role.uncommittedBytes === 0 || bytes <= Math.max(uncommittedBytesMax, before.role.uncommittedBytes),
      "uncommitted bytes are bounded (L10)",
      () => `${before.id} holds ${bytes} bytes`
    )
    const isRefused = commands.some((command) => command._tag === "Refuse" && command.refusal._tag === "Overloaded")
    demand(!isRefused || bytes > 0, "an idle leader takes a proposal of any size (L10)", () => before.id)
  }
}
