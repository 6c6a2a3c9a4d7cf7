/**
 * The membership of a cluster (paper §6, thesis §4). "Configuration" always means membership here; knobs are `Settings`.
 */
import { configurationBytes, type LogIndex } from "./Entry.ts"
import { isNodeId, type NodeId, nodeIdRule } from "./NodeId.ts"

export interface Configuration {
  /** Servers whose votes and acknowledgements count. Distinct. None at all: what a server knows that waits to be added (`unknown`). */
  readonly voters: ReadonlyArray<NodeId>
  /** Servers that receive the log and never count (thesis §4.2.1). None of `voters`. */
  readonly learners: ReadonlyArray<NodeId>
  /** Those of the learners that become voters by themselves once they have caught up. */
  readonly joining: ReadonlyArray<NodeId>
  /** The voters before, while several servers change at once (C_old,new): every decision needs a majority of these too. Else none. */
  readonly outgoing: ReadonlyArray<NodeId>
  /** Where servers are reached, such as `http://127.0.0.1:7101`; for a transport that finds them by name it may be empty. */
  readonly addresses: ReadonlyMap<NodeId, string>
}

type Given = Pick<Configuration, "voters"> & Partial<Configuration>

/** Example: `make({ voters: ["n1"], learners: ["n2"] })`. */
export const make = (given: Given): Configuration => ({
  voters: given.voters,
  learners: given.learners ?? [],
  joining: given.joining ?? [],
  outgoing: given.outgoing ?? [],
  addresses: given.addresses ?? new Map()
})

/** The configuration of the given voters. Example: `ofVoters(["n1", "n2", "n3"])`. */
export const ofVoters = (
  voters: ReadonlyArray<NodeId>,
  addresses: ReadonlyMap<NodeId, string> = new Map()
): Configuration => make({ voters, addresses })

/** Of a server that is to be added to a cluster: it belongs to none yet, votes for nobody's log but answers, and takes a snapshot first. */
export const unknown: Configuration = ofVoters([])

export const isUnknown = (configuration: Configuration): boolean => configuration.voters.length === 0

/** Several servers are being changed at once (paper §6: C_old,new). */
export const isJoint = (configuration: Configuration): boolean => configuration.outgoing.length > 0

/** Whether its vote and its acknowledgement count, in one of two majorities at least. */
export const isVoter = ({ outgoing, voters }: Configuration, id: NodeId): boolean =>
  voters.includes(id) || outgoing.includes(id)

/** Every server that receives the log: voters first, then those that only still vote, then learners. */
export const members = ({ learners, outgoing, voters }: Configuration): ReadonlyArray<NodeId> =>
  learners.length + outgoing.length === 0 ? voters : [...new Set([...voters, ...outgoing, ...learners])]

export const isMember = (configuration: Configuration, id: NodeId): boolean => members(configuration).includes(id)

/** Larger ones are no cluster's. They would have no room in the head of a snapshot, and a message full of names would take minutes to check. */
const bytesMax = 1 << 19

/** Longer addresses are nobody's. */
export const addressCharactersMax = 2048

/** Half a character: it would come out of UTF-8 as another one, and the configuration not be the same any more. */
const halfCharacter = /\p{Surrogate}/u

const nameProblem = ({ addresses, joining, learners, outgoing, voters }: Configuration): string | undefined => {
  for (const id of [...voters, ...learners, ...joining, ...outgoing, ...addresses.keys()]) {
    if (!isNodeId(id)) {
      const quoted = JSON.stringify(id.slice(0, 64)).slice(0, 66)
      return `it names a server ${quoted}, and an id has ${nodeIdRule}`
    }
  }
  for (const [id, address] of addresses) {
    if (address.length > addressCharactersMax) {
      return `its address of ${id} has ${address.length} characters, and ${addressCharactersMax} are allowed`
    }
    if (halfCharacter.test(address)) return `its address of ${id} has half a character`
  }
  return undefined
}

/** Why this is no configuration of a cluster, or `undefined` when it is one. */
export const problem = (configuration: Configuration): string | undefined => {
  const { addresses, joining, learners, outgoing, voters } = configuration
  const bytes = configurationBytes(configuration)
  if (bytes > bytesMax) return `it takes up to ${bytes} bytes, and a configuration may have ${bytesMax}`
  const name = nameProblem(configuration)
  if (name !== undefined) return name
  if (voters.length === 0) return "a cluster needs at least one voter"
  for (const all of [[...voters, ...learners], outgoing, joining]) {
    if (new Set(all).size !== all.length) return `a server is named twice: ${all.join(", ")}`
  }
  const stranger = joining.find((id) => !learners.includes(id))
  if (stranger !== undefined) return `${stranger} is to become a voter and is no learner`
  const all = members(configuration)
  const nobody = [...addresses.keys()].find((id) => !all.includes(id))
  return nobody === undefined ? undefined : `there is an address of ${nobody}, which is no member`
}

const isSameList = (a: ReadonlyArray<NodeId>, b: ReadonlyArray<NodeId>): boolean =>
  a.length === b.length && a.every((id, i) => id === b[i])

const lists = ["voters", "learners", "joining", "outgoing"] as const

export const isSame = (a: Configuration, b: Configuration): boolean =>
  a === b || (lists.every((list) => isSameList(a[list], b[list]))
    && a.addresses.size === b.addresses.size
    && [...a.addresses].every(([id, address]) => b.addresses.get(id) === address))

/** The same configuration without addresses of servers that are no members. */
const pruned = (configuration: Configuration): Configuration => {
  const all = members(configuration)
  const addresses = new Map([...configuration.addresses].filter(([id]) => all.includes(id)))
  return { ...configuration, addresses }
}

/** C_new, which follows C_old,new (paper §6). */
export const left = (joint: Configuration): Configuration => pruned({ ...joint, outgoing: [] })

/** Most changes that are taken at once from afar. */
export const changesMax = 64

/** One wish of whoever changes a cluster. */
export type Change =
  /** It joins as a learner; one that `becomes` a voter is promoted as soon as it has caught up. */
  | {
    readonly _tag: "Add"
    readonly id: NodeId
    readonly address: string | undefined
    readonly becomes: "Voter" | "Learner"
  }
  | { readonly _tag: "Promote"; readonly id: NodeId }
  | { readonly _tag: "Demote"; readonly id: NodeId }
  | { readonly _tag: "Remove"; readonly id: NodeId }

const without = (ids: ReadonlyArray<NodeId>, id: NodeId): ReadonlyArray<NodeId> => ids.filter((one) => one !== id)

const having = (ids: ReadonlyArray<NodeId>, id: NodeId): ReadonlyArray<NodeId> => ids.includes(id) ? ids : [...ids, id]

const withAdded = (before: Configuration, { address, becomes, id }: Extract<Change, { _tag: "Add" }>) => {
  const known = before.addresses.get(id)
  if (address !== undefined && known !== undefined && known !== address) {
    return `${id} is a member already, at ${known}: an id is never given to a second server`
  }
  const isVoter = before.voters.includes(id)
  return {
    ...before,
    learners: isVoter ? before.learners : having(before.learners, id),
    // Who was to vote and is added to stay a learner stays one.
    joining: becomes === "Voter" && !isVoter ? having(before.joining, id) : without(before.joining, id),
    addresses: address === undefined ? before.addresses : new Map(before.addresses).set(id, address)
  }
}

const changed = (before: Configuration, change: Change): Configuration | string => {
  const { id } = change
  const { joining, learners, voters } = before
  switch (change._tag) {
    case "Add":
      return withAdded(before, change)
    case "Promote":
      if (voters.includes(id)) return before
      return learners.includes(id)
        ? { ...before, voters: [...voters, id], learners: without(learners, id), joining: without(joining, id) }
        : `${id} is no member: add it first`
    case "Demote":
      if (learners.includes(id)) return { ...before, joining: without(joining, id) }
      return voters.includes(id)
        ? { ...before, voters: without(voters, id), learners: [...learners, id] }
        : `${id} is no member`
    case "Remove":
      return pruned({
        ...before,
        voters: without(voters, id),
        learners: without(learners, id),
        joining: without(joining, id)
      })
    default:
      return change satisfies never
  }
}

/** What the changes, one after the other, make of a configuration that is not joint; or why that is none. */
export const after = (before: Configuration, changes: ReadonlyArray<Change>): Configuration | string => {
  let next = before
  const ids = changes.map(({ id }) => id)
  const twice = ids.find((id, i) => ids.indexOf(id) !== i)
  // One that is removed and added is another server of the same name: not in one step, in which its disk could not be told from the old one's.
  if (twice !== undefined) return `${twice} is changed twice at once: make one change after the other`
  for (const change of changes) {
    const made = changed(next, change)
    if (typeof made === "string") return made
    next = made
  }
  return isSame(next, before) ? before : problem(next) ?? next
}

/** How many voters differ. A simple change moves at most one (thesis §4.1; rule M3); more need joint consensus. */
export const votersMoved = (before: Configuration, next: Configuration): number =>
  before.voters.filter((id) => !next.voters.includes(id)).length
  + next.voters.filter((id) => !before.voters.includes(id)).length

/** C_old,new: `next`, in which the voters of `before` have a say, too. Their addresses stay known for as long. */
export const joint = (before: Configuration, next: Configuration): Configuration =>
  pruned({ ...next, outgoing: before.voters, addresses: new Map([...before.addresses, ...next.addresses]) })

/** A configuration and the index of its entry; 0: in force since the cluster was made. */
export interface Situated {
  readonly index: LogIndex
  readonly configuration: Configuration
}

/**
 * The configurations along a log: the one in force where the log begins, and those that it holds, ascending. So the active one is a function of
 * a snapshot's configuration and the log: active on append, rolled back on truncation, the same after a restart (rule M2).
 */
export interface InForce {
  /** Counts from now on, committed or not. */
  readonly latest: Configuration
  readonly latestIndex: LogIndex
  /** All of them, `latest` included. */
  readonly along: readonly [Situated, ...ReadonlyArray<Situated>]
}

const inForce = (first: Situated, rest: ReadonlyArray<Situated>): InForce => {
  const { configuration: latest, index: latestIndex } = rest[rest.length - 1] ?? first
  return { latest, latestIndex, along: [first, ...rest] }
}

/** Where a log begins: `configuration` is in force at `index`, after which it holds no other yet. */
export const beginning = (first: Situated): InForce => inForce(first, [])

const rest = ({ along }: InForce): ReadonlyArray<Situated> => along.slice(1)

/** Entries were appended, among them these configurations. */
export const appended = (known: InForce, added: ReadonlyArray<Situated>): InForce =>
  added.length === 0 ? known : inForce(known.along[0], [...rest(known), ...added])

/** The log was cut after `lastIndex`. */
export const truncated = (known: InForce, lastIndex: LogIndex): InForce =>
  known.along.length === 1 || known.latestIndex <= lastIndex
    ? known
    : inForce(known.along[0], rest(known).filter(({ index }) => index <= lastIndex))

/** The one in force at `index`, which is not before the log's beginning. */
export const at = ({ along }: InForce, index: LogIndex): Situated => {
  let found: Situated = along[0]
  for (const situated of along) if (situated.index <= index) found = situated
  return found
}

/** The log begins after `index` now. */
export const compacted = (known: InForce, index: LogIndex): InForce =>
  inForce(at(known, index), rest(known).filter((situated) => situated.index > index))
