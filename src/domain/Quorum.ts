/**
 * The arithmetic of majorities. Every decision of the core (votes, commit, check-quorum, ReadIndex) goes through these functions. While several
 * servers change at once, a decision needs a majority of the voters before and one of the voters after (joint consensus, paper §6; rule M4).
 */
import type { Configuration } from "./Configuration.ts"
import type { NodeId } from "./NodeId.ts"

export const majority = (size: number): number => Math.floor(size / 2) + 1

export type VoteOutcome = "won" | "lost" | "pending"

const tallyOf = (voters: ReadonlyArray<NodeId>, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome => {
  let granted = 0
  let denied = 0
  for (const voter of voters) {
    const vote = votes.get(voter)
    if (vote === true) granted++
    else if (vote === false) denied++
  }
  const needed = majority(voters.length)
  if (granted >= needed) return "won"
  return denied > voters.length - needed ? "lost" : "pending"
}

/** The result of an election in which `votes` maps each voter that has answered to what it said (rule V7). */
export const tally = ({ outgoing, voters }: Configuration, votes: ReadonlyMap<NodeId, boolean>): VoteOutcome => {
  const outcome = tallyOf(voters, votes)
  if (outgoing.length === 0 || outcome === "lost") return outcome
  const before = tallyOf(outgoing, votes)
  return before === "won" ? outcome : before
}

const reachedBy = (voters: ReadonlyArray<NodeId>, valueOf: (id: NodeId) => number): number => {
  const values = voters.map(valueOf).toSorted((a, b) => b - a)
  return values[majority(values.length) - 1] ?? 0
}

/**
 * The greatest value that a majority of voters has reached, where `valueOf` gives each voter's value. With `matchIndex` as
 * value it is the index a majority stores; with the time of last contact, the time since when a majority has been heard.
 */
export const reachedByQuorum = (
  { outgoing, voters }: Configuration,
  valueOf: (id: NodeId) => number
): number => {
  const reached = reachedBy(voters, valueOf)
  return outgoing.length === 0 ? reached : Math.min(reached, reachedBy(outgoing, valueOf))
}
