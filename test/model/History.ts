/**
 * What is true between servers: the properties of the paper's Figure 3. They speak of the past, of which a state keeps only what they can
 * still ask: what was committed, in which term each entry first was, and who led which term.
 *
 * Each is one integer of four bits per entry or term, so that states stay flat.
 */
import {
  type Along,
  canDecide,
  type Code,
  codeAt,
  isIn,
  membersOf,
  type Servers,
  shownCode,
  sizeOf,
  votersOf
} from "./Configurations.ts"
import { down, leading, roles, type ServerFacts } from "./Facts.ts"
import { areMatching, beginning, lengthOf, type LogCode, nibble, shown, startsWith } from "./LogCode.ts"
import { bitOf, demand, either, type Seen, type Tally } from "./Properties.ts"
import type { Commit } from "./Server.ts"
import type { Tables } from "./Tables.ts"

/** Where a state keeps its history: after its servers. */
export const committedAt = 0
export const knownInAt = 1
export const leadersAt = 2
export const budgetsAt = 3
export const historyLength = 5

const standing = roles.indexOf("Candidate")
const asking = roles.indexOf("PreCandidate")

/** The log that the configurations of a server are along: that of its disk while it is down. */
const logAlong = ({ disk, log, role }: ServerFacts): LogCode => role === down ? disk : log

export class History {
  private readonly tables: Tables
  private readonly nodes: number
  private readonly tally: Tally
  /** In force at first; and whether it stays. */
  private readonly configuration: Code
  private readonly isFixed: boolean

  constructor(tables: Tables, options: { nodes: number; tally: Tally; configuration: Code; isFixed: boolean }) {
    this.tables = tables
    this.nodes = options.nodes
    this.tally = options.tally
    this.configuration = options.configuration
    this.isFixed = options.isFixed
  }

  /** Server `node` of `state` is `after` now. Brings the history up to date, and says which of `sometimes` show. */
  saw(
    state: Int32Array,
    node: number,
    before: ServerFacts,
    after: ServerFacts,
    commits: ReadonlyArray<Commit>
  ): Seen {
    let seen = 0
    const diskChanged = before.disk !== after.disk
    if (diskChanged || before.log !== after.log) this.sawLog(state, node, after)
    const startsToLead = after.role === leading && (before.role !== leading || before.term !== after.term)
    if (startsToLead) seen = this.sawLeader(state, node, after)
    if (after.commitIndex > before.commitIndex) this.sawCommit(state, node, after, commits)
    if (diskChanged || after.commitIndex > before.commitIndex) this.sawDisks(state)
    if (after.snapshot !== before.snapshot || after.diskSnapshot !== before.diskSnapshot) this.sawSnapshot(state, after)
    if (after.applied !== before.applied) this.sawApplied(state, after)
    if (before.diskVote !== after.diskVote || before.diskTerm !== after.diskTerm) {
      seen = either(seen, this.splitVote(state))
    }
    if (after.role !== before.role && !this.isFixed) seen = either(seen, this.sawStand(state, node, after))
    if (before.lowestTerm !== after.lowestTerm || after.commitIndex > before.commitIndex) this.forget(state)
    return seen
  }

  private facts(state: Int32Array, node: number): ServerFacts {
    return this.tables.factsOf(state[node] ?? 0)
  }

  private sawLog(state: Int32Array, node: number, after: ServerFacts): void {
    for (let other = 0; other < this.nodes; other++) {
      if (other === node) continue
      const { disk, log } = this.facts(state, other)
      const matching = areMatching(after.log, log) && areMatching(after.log, disk) && areMatching(after.disk, log)
        && areMatching(after.disk, disk)
      demand(this.tally, "Log Matching", matching, () => `terms ${shown(after.log)} and ${shown(log)}`)
      if (!this.isFixed) this.sawConfigurations(after, this.facts(state, other))
    }
  }

  /** Entries of one index and one term hold one configuration. */
  private sawConfigurations(one: ServerFacts, other: ServerFacts): void {
    const [log, otherLog] = [logAlong(one), logAlong(other)]
    for (const { code, index } of one.along.slice(1)) {
      const isHeld = index > other.along[0].index && nibble(log, index - 1) === nibble(otherLog, index - 1)
      if (!isHeld) continue
      const isSame = codeAt(other.along, index) === code
      demand(this.tally, "Log Matching", isSame, () => `${shownCode(code)} is not what another log has at ${index}`)
    }
  }

  private sawLeader(state: Int32Array, node: number, leader: ServerFacts): Seen {
    const at = this.nodes + leadersAt
    const leaders = state[at] ?? 0
    const earlier = nibble(leaders, leader.term - 1)
    const isOnly = earlier === 0 || earlier === node + 1
    demand(this.tally, "Election Safety", isOnly, () => `two servers lead term ${leader.term}`)
    state[at] = leaders | ((node + 1) << (4 * (leader.term - 1)))
    const committed = state[this.nodes + committedAt] ?? 0
    const knownIn = state[this.nodes + knownInAt] ?? 0
    let survived = false
    for (let i = 0; i < lengthOf(committed); i++) {
      if (nibble(knownIn, i) >= leader.term) continue
      const holds = nibble(leader.log, i) === nibble(committed, i)
      demand(
        this.tally,
        "Leader Completeness",
        holds,
        () => `term ${leader.term} is led with a log of terms ${shown(leader.log)}; ${shown(committed)} was committed`
      )
      const wasLeader = nibble(leaders, nibble(knownIn, i) - 1) - 1
      survived ||= wasLeader >= 0 && this.facts(state, wasLeader).role === 0
    }
    let seen = survived ? bitOf("a commit survives the crash of its leader") : 0
    for (let other = 0; other < this.nodes; other++) {
      if (other === node || this.facts(state, other).role !== leading) continue
      seen = either(seen, bitOf("two leaders of different terms at once"))
    }
    return seen
  }

  private sawCommit(state: Int32Array, node: number, after: ServerFacts, commits: ReadonlyArray<Commit>): void {
    const committed = state[this.nodes + committedAt] ?? 0
    const known = lengthOf(committed)
    const both = Math.min(known, after.commitIndex)
    const isSame = beginning(committed, both) === beginning(after.log, both) &&
      (after.commitIndex <= known || commits.length > 0)
    demand(
      this.tally,
      "State Machine Safety",
      isSame,
      () =>
        `a server commits up to ${after.commitIndex} of a log of terms ${shown(after.log)}; ${
          shown(committed)
        } was committed`
    )
    if (commits.length === 0) return
    for (const commit of commits) this.sawLeaderCommit(state, commit, after.log)
    let longer = committed
    let knownIn = state[this.nodes + knownInAt] ?? 0
    for (let i = known; i < after.commitIndex; i++) {
      longer |= nibble(after.log, i) << (4 * i)
      knownIn |= after.term << (4 * i)
    }
    state[this.nodes + committedAt] = longer
    state[this.nodes + knownInAt] = knownIn
    // What this leader knows of: a later one may have committed more before this one came to know that.
    const own = beginning(longer, after.commitIndex)
    for (let other = 0; other < this.nodes; other++) {
      const later = this.facts(state, other)
      if (other === node || later.role !== leading || later.term <= after.term) continue
      const holds = startsWith(later.log, own)
      demand(this.tally, "Leader Completeness", holds, () => `term ${later.term} is led without ${shown(own)}`)
    }
  }

  /** The configuration that counts is the one that was in force when the leader found so. */
  private sawLeaderCommit(state: Int32Array, { configuration, index }: Commit, log: LogCode): void {
    let holders = 0
    for (let node = 0; node < this.nodes; node++) {
      if (nibble(this.facts(state, node).disk, index - 1) === nibble(log, index - 1)) holders |= 1 << node
    }
    demand(
      this.tally,
      "a commit is on the disks of a majority (rule L6)",
      canDecide(configuration, holders),
      () => `what is committed up to ${index} is on ${this.shownDisks(holders, configuration)}`
    )
  }

  /**
   * On a majority of the disks, where the configuration stays. Where it changes the next one may have committed it, of which every majority has a
   * server in every majority of this one: then those that lack it are none.
   */
  private sawDisks(state: Int32Array): void {
    const committed = state[this.nodes + committedAt] ?? 0
    if (committed === 0) return
    let holders = 0
    let along: Along | undefined
    for (let node = 0; node < this.nodes; node++) {
      const { disk, diskAlong } = this.facts(state, node)
      if (!startsWith(disk, committed)) continue
      holders |= 1 << node
      along = diskAlong
    }
    const configuration = this.isFixed || along === undefined
      ? this.configuration
      : codeAt(along, lengthOf(committed))
    const everybody = (1 << this.nodes) - 1
    const isSafe = this.isFixed ? canDecide(configuration, holders) : !canDecide(configuration, everybody & ~holders)
    demand(
      this.tally,
      "what is committed stays on the disks of a majority",
      isSafe,
      () => `terms ${shown(committed)} were committed and are on ${this.shownDisks(holders, configuration)}`
    )
  }

  private shownDisks(holders: Servers, configuration: Code): string {
    const voters = votersOf(configuration)
    return `${sizeOf(voters & holders)} of ${sizeOf(voters)} disks of voters of ${shownCode(configuration)}`
  }

  /** In force at the end of what was committed. */
  private committedConfiguration(state: Int32Array): Code | undefined {
    const committed = state[this.nodes + committedAt] ?? 0
    for (let node = 0; node < this.nodes; node++) {
      const { disk, diskAlong } = this.facts(state, node)
      if (startsWith(disk, committed) && diskAlong[0].index <= lengthOf(committed)) {
        return codeAt(diskAlong, lengthOf(committed))
      }
    }
    return undefined
  }

  private sawStand(state: Int32Array, node: number, { role }: ServerFacts): Seen {
    if (role !== standing && role !== asking) return 0
    const configuration = this.committedConfiguration(state)
    const isRemoved = configuration !== undefined && !isIn(membersOf(configuration), node)
    return isRemoved ? bitOf("a server that was removed asks for votes") : 0
  }

  /** State Machine Safety over snapshots: each stands for the first entries that were committed, up to the one that it names. */
  private sawSnapshot(state: Int32Array, { diskSnapshot, isWellNamed, snapshot }: ServerFacts): void {
    const committed = state[this.nodes + committedAt] ?? 0
    demand(
      this.tally,
      "a snapshot stands for what was committed",
      isWellNamed && startsWith(committed, snapshot) && startsWith(committed, diskSnapshot),
      () =>
        `snapshots of terms ${shown(snapshot)} and, on disk, ${shown(diskSnapshot)}; ${shown(committed)} was committed`
    )
  }

  private sawApplied(state: Int32Array, { applied, isWellNamed }: ServerFacts): void {
    const committed = state[this.nodes + committedAt] ?? 0
    const isSame = isWellNamed && startsWith(committed, applied)
    demand(
      this.tally,
      "State Machine Safety",
      isSame,
      () => `entries of terms ${shown(applied)} are applied; ${shown(committed)} was committed`
    )
  }

  /** Everybody has voted, and nobody can win. */
  private splitVote(state: Int32Array): Seen {
    const { diskTerm } = this.facts(state, 0)
    const votes = [0, 0, 0, 0, 0]
    for (let node = 0; node < this.nodes; node++) {
      const facts = this.facts(state, node)
      if (facts.diskTerm !== diskTerm || facts.diskVote === 0) return 0
      votes[facts.diskVote] = (votes[facts.diskVote] ?? 0) | (1 << node)
    }
    const isSplit = votes.every((voters) => !canDecide(this.configuration, voters))
    return isSplit ? bitOf("a term's votes are split") : 0
  }

  /**
   * In a term below that of every server, on disk too, nobody will lead again: who led it is no longer asked, and "committed in an earlier
   * term than the next leader's" holds of whatever was committed in it.
   */
  private forget(state: Int32Array): void {
    let lowest = 15
    for (let node = 0; node < this.nodes; node++) lowest = Math.min(lowest, this.facts(state, node).lowestTerm)
    if (lowest < 2) return
    const at = this.nodes + knownInAt
    const knownIn = state[at] ?? 0
    let raised = 0
    for (let i = 0; i < lengthOf(knownIn); i++) raised |= Math.max(nibble(knownIn, i), lowest - 1) << (4 * i)
    state[at] = raised
    const leaders = state[this.nodes + leadersAt] ?? 0
    state[this.nodes + leadersAt] = leaders & ~((2 ** (4 * (lowest - 1))) - 1)
  }
}
