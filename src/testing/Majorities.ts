/**
 * The arithmetic of majorities, once more and from its definition: a check must not rely on what it checks. Learners are nowhere in it (rule
 * M5); while several servers change at once, a majority of the voters before and one of those after decide (rule M4).
 */
import type { Configuration } from "../domain/Configuration.ts"
import type { NodeId } from "../domain/NodeId.ts"

type Voters = Pick<Configuration, "voters" | "outgoing">

/** The groups of which each must have its majority. */
export const groupsOf = ({ outgoing, voters }: Voters): ReadonlyArray<ReadonlyArray<NodeId>> =>
  outgoing.length === 0 ? [voters] : [voters, outgoing]

const isMajority = (count: number, group: ReadonlyArray<NodeId>): boolean => 2 * count > group.length

/** Whether the servers that `has` names can decide something. */
export const decide = (configuration: Voters, has: (id: NodeId) => boolean): boolean =>
  groupsOf(configuration).every((group) => isMajority(group.filter(has).length, group))

/** The greatest value that deciding servers have reached. */
export const reached = (configuration: Voters, valueOf: (id: NodeId) => number): number =>
  groupsOf(configuration).flat().map(valueOf)
    .filter((value) => decide(configuration, (id) => valueOf(id) >= value))
    .reduce((a, b) => Math.max(a, b), -Infinity)

/** `n1, n2`, or `n1, n2 and n3, n4` where both groups decide. */
export const votersText = (configuration: Voters): string =>
  groupsOf(configuration).map((group) => group.join(", ")).join(" and ")
