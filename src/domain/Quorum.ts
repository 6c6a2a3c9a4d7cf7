/**
 * The arithmetic of majorities. Every decision of the core (votes, commit, check-quorum, ReadIndex) goes through these
 * functions, so that a change of what a majority is (joint consensus, paper §6) is a change of this file.
 */
import type { Configuration } from "./Configuration.ts"
import type { NodeId } from "./NodeId.ts"

export const majority = (size: number): number => Math.floor(size / 2) + 1

export type VoteOutcome = "won" | "lost" | "pending"

/** The result of an election in which `votes` maps each voter that has answered to what it said (rule V7). */
export const tally = (configuration: Configuration, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome => {
  let granted = 0
  let denied = 0
  for (const voter of configuration.voters) {
    const vote = votes.get(voter)
    if (vote === true) granted++
    else if (vote === false) denied++
  }
  const needed = majority(configuration.voters.length)
  if (granted >= needed) return "won"
  return denied > configuration.voters.length - needed ? "lost" : "pending"
}

/**
 * The greatest value that a majority of voters has reached, where `valueOf` gives each voter's value. With `matchIndex` as
 * value it is the index a majority stores; with the time of last contact, the time since when a majority has been heard.
 */
export const reachedByQuorum = (configuration: Configuration, valueOf: (id: NodeId) => number): number => {
  const values = configuration.voters.map(valueOf).toSorted((a, b) => b - a)
  return values[majority(values.length) - 1] ?? 0
}
