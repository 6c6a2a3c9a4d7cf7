/**
 * Configurations as one number each, of four sets of servers with a bit for each server: equal sets are one configuration, in whatever order its
 * servers are listed. What is in force along a log, what may follow what, and what a majority is, is decided here once more, by nothing but these.
 */
import * as Configuration from "../../src/domain/Configuration.ts"
import type { Entry, LogIndex } from "../../src/domain/Entry.ts"
import type { NodeId } from "../../src/domain/NodeId.ts"
import { idOf, numberOf } from "./numbering.ts"

/** Voters lowest, then learners, those of them that are joining, and the outgoing voters. */
export type Code = number

/** Servers, as bits. */
export type Servers = number

const bits = 4
const all = (1 << bits) - 1

export const unknown: Code = 0

export const setOf = (ids: Iterable<NodeId>): Servers => {
  let servers = 0
  for (const id of ids) servers |= 1 << numberOf(id)
  return servers
}

export const codeOf = ({ joining, learners, outgoing, voters }: Configuration.Configuration): Code =>
  setOf(voters) | (setOf(learners) << bits) | (setOf(joining) << (2 * bits)) | (setOf(outgoing) << (3 * bits))

export const votersOf = (code: Code): Servers => code & all
export const learnersOf = (code: Code): Servers => (code >>> bits) & all
const joiningOf = (code: Code): Servers => (code >>> (2 * bits)) & all
export const outgoingOf = (code: Code): Servers => (code >>> (3 * bits)) & all
export const membersOf = (code: Code): Servers => votersOf(code) | learnersOf(code) | outgoingOf(code)

export const isIn = (servers: Servers, node: number): boolean => ((servers >>> node) & 1) === 1

export const isJoint = (code: Code): boolean => outgoingOf(code) !== 0

/** Whether it has a say, in one of two majorities at least. */
export const isVoter = (code: Code, node: number): boolean => isIn(votersOf(code) | outgoingOf(code), node)

export const sizeOf = (servers: Servers): number => {
  let size = 0
  for (let left = servers; left !== 0; left &= left - 1) size++
  return size
}

export const idsOf = (servers: Servers): ReadonlyArray<NodeId> =>
  Array.from({ length: bits }, (_, node) => node).filter((node) => isIn(servers, node)).map(idOf)

const known = new Map<Code, Configuration.Configuration>()

/** The same value each time. */
export const configurationOf = (code: Code): Configuration.Configuration => {
  const found = known.get(code)
  if (found !== undefined) return found
  const made = Configuration.make({
    voters: idsOf(votersOf(code)),
    learners: idsOf(learnersOf(code)),
    joining: idsOf(joiningOf(code)),
    outgoing: idsOf(outgoingOf(code))
  })
  known.set(code, made)
  return made
}

const isMajority = (voters: Servers, servers: Servers): boolean => 2 * sizeOf(voters & servers) > sizeOf(voters)

/** Whether `servers` can decide anything: more than half of the voters, and of those before (rules M4, M5). */
export const canDecide = (code: Code, servers: Servers): boolean =>
  isMajority(votersOf(code), servers) && (!isJoint(code) || isMajority(outgoingOf(code), servers))

/** One voter more or less; or first both, then what was to come (rules M3, M4). */
export const mayFollow = (before: Code, next: Code): boolean => {
  if (isJoint(before)) return !isJoint(next) && votersOf(next) === votersOf(before)
  return isJoint(next) ? outgoingOf(next) === votersOf(before) : sizeOf(votersOf(before) ^ votersOf(next)) <= 1
}

/** A configuration, and the index of its entry. */
export interface Placed {
  readonly index: LogIndex
  readonly code: Code
}

/** What is in force where a log begins, and then each configuration in it (rule M2). */
export type Along = readonly [Placed, ...ReadonlyArray<Placed>]

export const alongOf = (base: Code, prevIndex: LogIndex, entries: ReadonlyArray<Entry>): Along => {
  const found: [Placed, ...Array<Placed>] = [{ index: prevIndex, code: base }]
  for (const { index, payload } of entries) {
    if (payload._tag === "Configuration") found.push({ index, code: codeOf(payload.configuration) })
  }
  return found
}

/** In force once all up to `index` is appended. */
export const codeAt = (along: Along, index: LogIndex): Code => {
  let code = along[0].code
  for (const placed of along) if (placed.index <= index) code = placed.code
  return code
}

export const latestOf = (along: Along): Placed => along[along.length - 1] ?? along[0]

const shownSet = (servers: Servers): string => idsOf(servers).join(" ")

/** As text, such as `{n1 n2 | n3}`: voters, learners after a bar, outgoing voters before an arrow. */
export const shownCode = (code: Code): string => {
  const before = isJoint(code) ? `${shownSet(outgoingOf(code))} -> ` : ""
  const after = learnersOf(code) === 0 ? "" : ` | ${shownSet(learnersOf(code))}`
  return `{${before}${shownSet(votersOf(code))}${after}}`
}
