/**
 * Which servers a client asks, and in which order: those it was given, and those it learns of from hints and from the membership.
 */
import {
  DeadlineExceeded,
  type Lost,
  NoLeader,
  type Unanswered,
  Unauthorized,
  type Unreachable
} from "./ClientErrors.ts"
import type { ChangeFailure, ProposeFailure, ReadFailure, StaleFailure } from "./Connection.ts"
import { Overloaded, type SnapshotFailed } from "./RaftNode.ts"
import type { ServerStatus } from "./ServerStatus.ts"

/** Whatever may become of a request at one server. */
export type Failure =
  | ProposeFailure
  | ReadFailure
  | StaleFailure
  | ChangeFailure
  | SnapshotFailed
  | Unreachable
  | Lost

export const reasonOf = (failure: Failure): string => {
  switch (failure._tag) {
    case "NotLeader":
      return failure.leader === undefined
        ? "does not lead and knows no leader"
        : `does not lead; it says that ${failure.leader} does`
    case "Unreachable":
    case "Lost":
      return failure.reason
    default:
      return failure.message
  }
}

/** The servers of a cluster, as a client knows them. */
export class Endpoints {
  readonly given: ReadonlyArray<string>
  #all: ReadonlyArray<string>

  constructor(given: ReadonlyArray<string>) {
    this.given = given
    this.#all = given
  }

  /** Those given first, then the members that were learned of; last, those given that are no members (any more). */
  get all(): ReadonlyArray<string> {
    return this.#all
  }

  /** A server has said who the members are. */
  learn({ members }: ServerStatus): void {
    const urls = members.flatMap(({ url }) => url ?? [])
    // A membership without addresses says nothing about who is not in it.
    if (urls.length < members.length || urls.length === 0) return
    const isMember = (url: string): boolean => urls.includes(url)
    const others = this.given.filter((url) => !isMember(url))
    this.#all = [...this.given.filter(isMember), ...urls.filter((url) => !this.given.includes(url)), ...others]
  }
}

/** Which servers a request is put to, one after the other, each once in a round. */
export interface Route {
  readonly next: (tried: ReadonlySet<string>) => string | undefined
  readonly onAnswer: (url: string) => void
  readonly onFailure: (url: string, failure: Failure) => void
  /** Whether the others can answer as well: then one that is overloaded does not end the round. */
  readonly isAnyServer: boolean
}

/** The way to whoever leads: one for all requests, since what one learns saves the next a detour. */
export const toLeader = (endpoints: Endpoints): Route => {
  /** Where the leader was last seen: a hint, wrong at worst. */
  let leaderUrl: string | undefined
  return {
    isAnyServer: false,
    // The hint first, however it came; then the list. Each server is asked once in a round, so stale hints cannot go in circles.
    next: (tried) =>
      leaderUrl !== undefined && !tried.has(leaderUrl) ? leaderUrl : endpoints.all.find((url) => !tried.has(url)),
    onAnswer: (url) => {
      leaderUrl = url
    },
    onFailure: (url, failure) => {
      if (failure._tag === "NotLeader" && failure.url !== undefined) {
        // Late news of one that is not asked any more is no reason to leave the one that is.
        if (leaderUrl === undefined || leaderUrl === url) leaderUrl = failure.url
      } else if (failure._tag !== "Overloaded" && failure._tag !== "ChangeRefused" && leaderUrl === url) {
        leaderUrl = undefined
      }
    }
  }
}

/** Ways to any server. Each begins one further down the list. */
export const inTurn = (endpoints: Endpoints): () => Route => {
  let turns = 0
  return () => {
    const { all } = endpoints
    const first = turns++ % all.length
    const ordered = [...all.slice(first), ...all.slice(0, first)]
    return {
      isAnyServer: true,
      next: (tried) => ordered.find((url) => !tried.has(url)),
      onAnswer: () => undefined,
      onFailure: () => undefined
    }
  }
}

/** The last failure at each server, the latest one last. */
export class Failures {
  readonly #byUrl = new Map<string, Failure>()

  get isEmpty(): boolean {
    return this.#byUrl.size === 0
  }

  add(url: string, failure: Failure): void {
    this.#byUrl.delete(url)
    this.#byUrl.set(url, failure)
  }

  clear(): void {
    this.#byUrl.clear()
  }

  /** Every server that was asked answers, and lets this client not in: to ask again is of no use. */
  get areUnauthorized(): boolean {
    const all = [...this.#byUrl.values()]
    return all.length > 0 && all.every((failure) => failure._tag === "Unreachable" && failure.isUnauthorized === true)
  }

  /** What whoever asked is told at the end, where nothing can have been applied. */
  toError(deadlineMs: number, isAnyServer: boolean): Unanswered {
    const attempts = Array.from(this.#byUrl, ([url, failure]) => ({ url, reason: reasonOf(failure) }))
    const all = [...this.#byUrl.values()]
    if (this.areUnauthorized) return new Unauthorized({ attempts })
    if (all[all.length - 1]?._tag === "Overloaded") return new Overloaded()
    const foundNone = all.length > 0 && all.every(({ _tag }) => !isLeaders.has(_tag))
    return foundNone && !isAnyServer
      ? new NoLeader({ deadlineMs, attempts })
      : new DeadlineExceeded({ deadlineMs, attempts })
  }
}

/** What only a leader says, or one that believes it leads. */
const isLeaders: ReadonlySet<Failure["_tag"]> = new Set([
  "Overloaded",
  "ReadUnconfirmed",
  "OutcomeUnknown",
  "ChangeRefused"
])
