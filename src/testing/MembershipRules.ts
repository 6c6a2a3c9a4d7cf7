/**
 * Rules M1, M2, M3, M5 and M6 as properties of single steps: what is in force, what may follow it and when, and what a server does that is no
 * voter any more. Decided from the entries that a server holds, never from what its core made of them. Rule M4 is part of whatever counts
 * votes and acknowledgements; rule M7 has `TransferRules.ts`.
 */
import {
  type Change,
  type Configuration,
  isJoint,
  isSame,
  isUnknown,
  isVoter,
  members,
  type Situated
} from "../domain/Configuration.ts"
import type { Entry, LogIndex } from "../domain/Entry.ts"
import * as Log from "../domain/Log.ts"
import type { NodeId } from "../domain/NodeId.ts"
import { isLeader, type NodeState } from "../domain/NodeState.ts"
import { demand, type DiskOf, type Figure3, lastIndexOf } from "./Figure3.ts"
import { votersText } from "./Majorities.ts"
import type { Observed } from "./Watch.ts"

/** The configurations along one log: what it begins with, and those that it holds. */
type Along = readonly [Situated, ...ReadonlyArray<Situated>]

const configurationsIn = (entries: ReadonlyArray<Entry>): ReadonlyArray<Situated> =>
  entries.flatMap(({ index, payload }) =>
    payload._tag === "Configuration" ? [{ index, configuration: payload.configuration }] : []
  )

const lastOf = (along: Along): Situated => along[along.length - 1] ?? along[0]

/** The one in force at `index`. */
const at = (along: Along, index: LogIndex): Situated => along.findLast((one) => one.index <= index) ?? along[0]

const alongText = (along: Along): string =>
  along.map(({ configuration, index }) => `${votersText(configuration)} from ${index}`).join("; ")

const sameServers = (a: ReadonlyArray<NodeId>, b: Iterable<NodeId>): boolean => {
  const others = new Set(b)
  return a.length === others.size && a.every((id) => others.has(id))
}

/** What an operator who asks for `changes`, one after the other, wants to see in the end: three sets. */
const wanted = (before: Configuration, changes: ReadonlyArray<Change>) => {
  const voters = new Set(before.voters)
  const learners = new Set(before.learners)
  const joining = new Set(before.joining)
  for (const change of changes) {
    const { _tag, id } = change
    const isNew = !voters.has(id) && !learners.has(id)
    if (_tag === "Add" && isNew) learners.add(id)
    if (_tag === "Add" && change.becomes === "Voter" && learners.has(id)) joining.add(id)
    if (_tag === "Add" && change.becomes === "Learner") joining.delete(id)
    if (_tag === "Demote" && voters.has(id)) learners.add(id)
    if (_tag === "Remove" || _tag === "Promote") learners.delete(id)
    if (_tag === "Promote") voters.add(id)
    if (_tag === "Remove" || _tag === "Demote") voters.delete(id)
    if (_tag !== "Add") joining.delete(id)
  }
  return { voters, learners, joining }
}

/** Whether it has a voter, everybody has one place in it, and it says nothing of anybody else. */
const isSound = (configuration: Configuration): boolean => {
  const { addresses, joining, learners, outgoing, voters } = configuration
  const places = [...voters, ...learners]
  const all = members(configuration)
  return voters.length > 0 && new Set(places).size === places.length && new Set(outgoing).size === outgoing.length
    && joining.every((id) => learners.includes(id)) && [...addresses.keys()].every((id) => all.includes(id))
}

/** How many servers vote in one of two configurations and not in the other. */
const moved = (a: Configuration, b: Configuration): number =>
  new Set([...a.voters, ...b.voters].filter((id) => a.voters.includes(id) !== b.voters.includes(id))).size

export class MembershipRules {
  readonly #figure3: Figure3
  readonly #diskOf: DiskOf
  readonly #along = new Map<NodeId, Along>()

  constructor(figure3: Figure3, diskOf: DiskOf) {
    this.#figure3 = figure3
    this.#diskOf = diskOf
  }

  /** A server has started, and `state` is what it made of its disk. */
  sawStart(state: NodeState): void {
    const { configuration, id, log } = state
    const [first] = configuration.along
    const entries = Log.slice(log, { from: Log.firstIndex(log), to: log.lastIndex })
    const beginning = this.#diskOf(id)?.configuration ?? first.configuration
    const along: Along = [{ index: log.prev.index, configuration: beginning }, ...configurationsIn(entries)]
    this.#along.set(id, along)
    this.#explained(id, along[0])
    this.#inForce(state, along)
  }

  /** What a log begins with was committed: the committed log says what that is, and nothing else does. */
  #explained(id: NodeId, { configuration, index }: Situated): void {
    const committed = this.#figure3.configurationAt(index)
    if (committed === undefined || (index === 0 && isUnknown(configuration))) return
    demand(
      isSame(configuration, committed),
      "the configuration is a function of snapshot and log (M2)",
      () => `${id} begins after ${index} with ${votersText(configuration)}; it was ${votersText(committed)}`
    )
  }

  #inForce({ configuration, id }: NodeState, along: Along): void {
    const { index, configuration: latest } = lastOf(along)
    const isSameList = configuration.along.length === along.length
      && along.every((one, i) => {
        const taken = configuration.along[i]
        return taken !== undefined && taken.index === one.index && isSame(taken.configuration, one.configuration)
      })
    demand(
      isSameList && isSame(configuration.latest, latest) && configuration.latestIndex === index,
      "the configuration is a function of snapshot and log (M2)",
      () =>
        `${id} goes by ${votersText(configuration.latest)} from ${configuration.latestIndex}, its log by ${
          alongText(along)
        }`
    )
  }

  saw(observed: Observed): void {
    const { after, before } = observed
    const known = this.#along.get(before.id)
    if (known === undefined) return
    const along = this.#follow(known, observed)
    if (along !== known || after.configuration !== before.configuration) this.#inForce(after, along)
    this.#removed(observed, along)
    if (along === known) return
    this.#along.set(before.id, along)
    const appended = along.filter((one) => !known.includes(one) && one.index > before.log.lastIndex)
    if (isLeader(before)) this.#changed(observed, known, appended)
  }

  /** What the step's write makes of a log, and what the log gives up. */
  #follow(known: Along, { after, before, commands }: Observed): Along {
    let along = known
    const write = commands.find((command) => command._tag === "Persist")?.write
    if (write?.install !== undefined && !write.install.keepsLog) {
      const { configuration, last } = write.install.snapshot
      along = [{ index: last.index, configuration }]
      this.#explained(after.id, along[0])
    }
    const [first] = write?.entries ?? []
    const added = configurationsIn(write?.entries ?? [])
    const isCut = first !== undefined && lastOf(along).index >= first.index
    if (first !== undefined && (isCut || added.length > 0)) {
      const [start, ...rest] = along
      along = [start, ...rest.filter(({ index }) => index < first.index), ...added]
    }
    if (after.log.prev.index > before.log.prev.index) {
      const start = at(along, after.log.prev.index)
      along = [start, ...along.filter(({ index }) => index > after.log.prev.index)]
      this.#explained(after.id, { ...start, index: after.log.prev.index })
    }
    return along
  }

  /** A leader's own entries: a change that was asked for, the second half of one, or a promotion. */
  #changed(observed: Observed, known: Along, appended: ReadonlyArray<Situated>): void {
    const { after, before } = observed
    const [next, ...more] = appended
    if (next === undefined) return
    const last = lastOf(known)
    const detail = () =>
      `${before.id} appends ${votersText(next.configuration)} after ${
        alongText(known)
      }, with ${after.commitIndex} committed`
    // A commit of the step itself comes first: it may be what the change waited for.
    const hasOwn = Log.termAt(after.log, after.commitIndex) === after.term
    demand(hasOwn, "no change before an entry of the leader's own term is committed (M1)", detail)
    demand(more.length === 0 && last.index <= after.commitIndex, "one change at a time (M3)", detail)
    demand(isSound(next.configuration), "a configuration can decide, and names nobody twice (M3)", detail)
    demand(mayFollow(last.configuration, next.configuration), "one voter moves at a time, or all jointly (M3)", detail)
    this.#meant(observed, last.configuration, next.configuration)
    this.#caughtUp(observed, last.configuration, next.configuration)
  }

  #meant({ before, event }: Observed, last: Configuration, next: Configuration): void {
    const detail = () => `${before.id} makes ${votersText(next)} of ${votersText(last)}`
    if (isJoint(last)) {
      const isLeft = isSame({ ...next, outgoing: last.outgoing, addresses: last.addresses }, last)
      return demand(isLeft, "a joint configuration is left for what was asked (M4)", detail)
    }
    if (event._tag !== "Reconfigure") {
      const promoted = next.voters.filter((id) => !last.voters.includes(id))
      const isPromotion = promoted.length === 1 && promoted.every((id) => last.joining.includes(id))
        && moved(last, next) === 1
      return demand(isPromotion, "a learner that is to become a voter is promoted, and nobody else (M5)", detail)
    }
    const { joining, learners, voters } = wanted(last, event.changes)
    const isWanted = sameServers(next.voters, voters) && sameServers(next.learners, learners)
      && sameServers(next.joining, joining)
    demand(isWanted, "a change is what was asked for (M3)", detail)
  }

  /** A later leader may have cut its log since, and a server may have just lost its state: then its disk says nothing here. */
  #caughtUp({ before, event }: Observed, last: Configuration, next: Configuration): void {
    if (isJoint(last)) return
    for (const id of next.voters) {
      const disk = isVoter(last, id) ? undefined : this.#diskOf(id)
      if (disk === undefined || disk.hardState.term > before.term) continue
      const lag = before.log.lastIndex - lastIndexOf(disk)
      const isKnowing = disk.configuration !== undefined && !isUnknown(disk.configuration)
      demand(
        isKnowing && lag <= before.settings.promotionLagEntriesMax,
        "who becomes a voter has caught up (M5)",
        () => `${before.id}, ${event._tag}: ${id} is ${lag} entries behind`
      )
    }
  }

  #removed({ after, before }: Observed, along: Along): void {
    const { id } = after
    const last = lastOf(along)
    const detail = () =>
      `${id}, ${after.role._tag} in term ${after.term}, with ${after.commitIndex} of ${alongText(along)}`
    if (isLeader(after)) {
      const isDecided = last.index <= after.commitIndex && Log.termAt(after.log, after.commitIndex) === after.term
      const isOut = isDecided && !isVoter(last.configuration, id)
      return demand(!isOut, "a leader that is removed steps down once that is committed (M6)", detail)
    }
    const isAsking = after.role._tag !== "Follower" &&
      (after.role._tag !== before.role._tag || after.term > before.term)
    if (!isAsking) return
    const committed = at(along, before.commitIndex)
    const mayVote = along.some((one) => one.index >= committed.index && isVoter(one.configuration, id))
    demand(mayVote, "who knows that it is removed asks for no votes (M6)", detail)
  }
}

const mayFollow = (last: Configuration, next: Configuration): boolean => {
  if (isJoint(last)) return !isJoint(next) && sameServers(next.voters, last.voters)
  return isJoint(next) ? sameServers(next.outgoing, last.voters) : moved(last, next) <= 1
}
