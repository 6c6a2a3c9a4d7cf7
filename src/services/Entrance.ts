/**
 * Where requests come in. They wait in `Requests` until the apply loop, the core or their deadline answers them.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Change, Configuration } from "../domain/Configuration.ts"
import type { LogIndex, Sequenced, SessionId } from "../domain/Entry.ts"
import type { Proposal, RequestId } from "../domain/Event.ts"
import * as Membership from "../domain/Membership.ts"
import type { NodeId } from "../domain/NodeId.ts"
import * as NodeState from "../domain/NodeState.ts"
import * as Replication from "../domain/Replication.ts"
import { sequenceMax } from "../domain/Session.ts"
import type * as Applier from "./Applier.ts"
import {
  Behind,
  type ChangeError,
  Cut,
  type OpenError,
  Overloaded,
  type ProposeError,
  type ReadError,
  type SessionExpired,
  type StaleReadError,
  Stopped,
  TooLarge
} from "./RaftErrors.ts"
import { type Answered, errorOf, type Requests, type Resume } from "./Requests.ts"
import * as Slab from "./Slab.ts"
import type * as TurnLoop from "./TurnLoop.ts"

/**
 * Who confirms that a read is linearizable. `linearizable`: the leader, by a round of heartbeats (ReadIndex, thesis §6.4). `lease`: the leader,
 * by its lease where `Settings.leaseReads` is on and the lease lasts, by a round otherwise (§6.4.1). `follower`: any server, which asks the
 * leader and answers from its own state.
 */
export type Consistency = "linearizable" | "lease" | "follower"

/** An answer that may be old. */
export interface StaleAnswer extends Answered {
  /** How long ago, in milliseconds, this server last heard a leader, or a leader a majority; `undefined`: never since it started. */
  readonly leaderContactAgeMs: number | undefined
}

/** One of several commands that are proposed together. */
export interface Asked {
  readonly command: Uint8Array
  /** `undefined`: without a session. */
  readonly sequenced: Sequenced | undefined
}

/** What a node lets its user ask. */
export interface Entrance {
  /**
   * Replicates a command; resolves with its result once it is committed and applied here. Only the leader takes it. The bytes are copied.
   * Interrupting it ends the wait, not the command.
   */
  readonly propose: (command: Uint8Array) => Effect.Effect<Uint8Array, ProposeError>
  /**
   * The same as part of a session: sent again under the same number, the command is applied once and gets the first answer, also from another
   * leader, after a snapshot or a restart (thesis §6.3).
   *
   * ```ts
   * const session = yield* node.openSession
   * yield* node.proposeInSession(command, { session, sequence: 1, firstUnanswered: 1 })
   * ```
   */
  readonly proposeInSession: (
    command: Uint8Array,
    sequenced: Sequenced
  ) => Effect.Effect<Uint8Array, ProposeError | SessionExpired>
  /**
   * Replicates several commands, in this order, as one batch of the log where it has room. Each has an answer of its own; all are given once the
   * last one is known.
   */
  readonly proposeAll: (
    commands: ReadonlyArray<Asked>
  ) => Effect.Effect<ReadonlyArray<Exit.Exit<Uint8Array, ProposeError | SessionExpired>>>
  /** Opens a session in the replicated state. It expires when it is not used for `Settings.sessionTimeoutMs`, or too many others are. */
  readonly openSession: Effect.Effect<SessionId, OpenError>
  /** Answers a query linearizably. Only the leader takes it, unless `consistency` is "follower". */
  readonly read: (
    query: Uint8Array,
    options?: { readonly consistency?: Consistency }
  ) => Effect.Effect<Uint8Array, ReadError>
  /**
   * Answers several queries, all confirmed together. Each has an answer of its own; all are given once the last one is known. The one that makes them
   * longer than `bytesMax` is the last that is kept: the others are `Cut`.
   */
  readonly readAll: (
    queries: ReadonlyArray<Uint8Array>,
    options?: { readonly consistency?: Consistency; readonly bytesMax?: number }
  ) => Effect.Effect<ReadonlyArray<Exit.Exit<Uint8Array, ReadError | Cut>>>
  /**
   * Answers a query at once from what this server has applied, which may be old; with `minIndex`, once it has applied that much, such as the
   * index of the caller's own last write.
   */
  readonly readStale: (
    query: Uint8Array,
    options?: { readonly minIndex?: LogIndex }
  ) => Effect.Effect<StaleAnswer, StaleReadError>
  /**
   * Changes the membership, all of `changes` at once: where more than one voter moves, by joint consensus (paper §6, thesis §4). Resolves once
   * the new configuration is committed. Only the leader takes it. What is so already is no error. A server that is added resolves as a
   * learner; one that `becomes` a voter is promoted later, when it has caught up.
   *
   * ```ts
   * yield* node.reconfigure([{ _tag: "Promote", id: "n4" }, { _tag: "Remove", id: "n2" }])
   * ```
   */
  readonly reconfigure: (changes: ReadonlyArray<Change>) => Effect.Effect<Configuration, ChangeError>
  /** What `reconfigure` would lead to now, or why it would be refused. Changes nothing. */
  readonly previewReconfigure: (changes: ReadonlyArray<Change>) => Effect.Effect<Configuration, ChangeError>
  /**
   * Lets `to` lead, or whichever voter is best suited (thesis §3.10). Resolves when this server has stepped down for it; meanwhile it takes no
   * commands. Given up after an election timeout.
   */
  readonly transferLeadership: (to?: NodeId) => Effect.Effect<void, ChangeError>
  /** Before a planned stop: a leader lets another server take over, if one can, within an election timeout. Never fails. */
  readonly handOver: Effect.Effect<void>
}

interface Parts {
  readonly requests: Requests
  readonly turns: TurnLoop.TurnLoop
  readonly applier: Applier.Applier
  readonly now: () => number
  readonly isStopped: () => boolean
  readonly bytesMax: number
}

const readBy = { linearizable: "Round", lease: "Lease", follower: "Leader" } as const

/** How old, in milliseconds, what this server knows of the leader may be. */
const contactAgeMs = (state: NodeState.NodeState, nowMs: number): number | undefined => {
  const contactMs = NodeState.isLeader(state) ? Replication.quorumContactMs(state, nowMs) : state.leaderContactMs
  return contactMs === undefined ? undefined : Math.max(0, nowMs - contactMs)
}

/**
 * Asks `count` times and gathers the answers, in the order of the questions. `ask` is given what answers the question of a number; it names the
 * requests that wait, whose wait ends where the gathering is interrupted.
 */
const gathered = <A, E>(
  requests: Requests,
  count: number,
  ask: (answer: (i: number) => (exit: Exit.Exit<A, E>) => void) => ReadonlyArray<RequestId>
): Effect.Effect<ReadonlyArray<Exit.Exit<A, E>>> =>
  count === 0 ? Effect.succeed([]) : Effect.callback((resume) => {
    const answers = Array.from<Exit.Exit<A, E>>({ length: count })
    let left = count
    const waiting = ask((i) => (exit) => {
      answers[i] = exit
      if (--left === 0) resume(Effect.succeed(answers))
    })
    return Effect.sync(() => {
      for (const requestId of waiting) requests.cancel(requestId)
    })
  })

const reads = ({ applier, isStopped, now, requests, turns: { offer, state } }: Parts) => {
  const read = (query: Uint8Array, submit: (requestId: number) => void): Effect.Effect<Answered, ReadError> =>
    Effect.callback((resume) => {
      if (isStopped()) return resume(Effect.fail(new Stopped()))
      if (requests.isFull) return resume(Effect.fail(new Overloaded()))
      const requestId = requests.read(now(), query, resume)
      submit(requestId)
      return Effect.sync(() => requests.cancel(requestId))
    })
  const entrance: Pick<Entrance, "read" | "readAll" | "readStale"> = {
    read: (query, { consistency = "linearizable" } = {}) =>
      Effect.map(
        read(query, (requestId) => offer({ _tag: "Read", requestIds: [requestId], by: readBy[consistency] })),
        ({ answer }) => answer
      ),
    readAll: (queries, { bytesMax = Infinity, consistency = "linearizable" } = {}) =>
      gathered<Uint8Array, ReadError | Cut>(requests, queries.length, (answer) => {
        const requestIds: Array<RequestId> = []
        let bytes = 0
        const kept = (exit: Exit.Exit<Answered, ReadError>): Exit.Exit<Uint8Array, ReadError | Cut> => {
          if (Exit.isFailure(exit)) return Exit.failCause(exit.cause)
          if (bytes > bytesMax) return Exit.fail(new Cut())
          bytes += exit.value.answer.length
          return Exit.succeed(exit.value.answer)
        }
        for (const [i, query] of queries.entries()) {
          const resume = answer(i)
          if (isStopped()) resume(Exit.fail(new Stopped()))
          else if (requests.isFull) resume(Exit.fail(new Overloaded()))
          else {
            requestIds.push(requests.read(now(), query, (exit) => resume(kept(exit))))
          }
        }
        if (requestIds.length > 0) offer({ _tag: "Read", requestIds, by: readBy[consistency] })
        return requestIds
      }),
    readStale: (query, { minIndex = 0 } = {}) =>
      Effect.suspend(() => {
        // A server that has lost its state has nothing to answer from until a snapshot has come.
        const index = Math.max(minIndex, state().log.prev.index)
        return read(query, (requestId) => applier.serve([requestId], index)).pipe(
          Effect.map((answered) => ({ ...answered, leaderContactAgeMs: contactAgeMs(state(), now()) })),
          Effect.mapError((error) =>
            error._tag === "ReadUnconfirmed" || error._tag === "NotLeader" ? new Behind({ minIndex: index }) : error
          )
        )
      })
  }
  return entrance
}

const isPlaced = (sequenced: Sequenced): boolean =>
  [sequenced.session, sequenced.sequence, sequenced.firstUnanswered].every((number) =>
    Number.isSafeInteger(number) && number >= 1 && number <= sequenceMax
  )

const proposals = ({ bytesMax, isStopped, now, requests, turns: { offer } }: Parts) => {
  const copy = Slab.make()
  const refusal = (command: Uint8Array): ProposeError | undefined => {
    if (isStopped()) return new Stopped()
    if (command.length > bytesMax) return new TooLarge({ sizeBytes: command.length, limitBytes: bytesMax })
    return requests.isFull ? new Overloaded() : undefined
  }
  const register = (
    { command, sequenced }: Asked,
    resume: Resume<Uint8Array, ProposeError | SessionExpired>
  ): Proposal | undefined => {
    if (sequenced !== undefined && !isPlaced(sequenced)) {
      resume(Exit.die(new RangeError(`no place in a session: ${JSON.stringify(sequenced)}`)))
      return undefined
    }
    const refused = refusal(command)
    if (refused === undefined) {
      // A copy: the log keeps it, and sends it again, long after the caller has used its buffer for something else.
      return { requestId: requests.proposal(now(), resume), bytes: copy(command), sequenced }
    }
    resume(Exit.fail(refused))
    return undefined
  }
  const propose = (asked: Asked): Effect.Effect<Uint8Array, ProposeError | SessionExpired> =>
    Effect.callback((resume) => {
      const proposal = register(asked, resume)
      if (proposal === undefined) return
      offer({ _tag: "Propose", proposals: [proposal] })
      return Effect.sync(() => requests.cancel(proposal.requestId))
    })
  const entrance: Pick<Entrance, "propose" | "proposeInSession" | "proposeAll" | "openSession"> = {
    // A command without a session is not refused for want of one.
    propose: (command) => propose({ command, sequenced: undefined }) as Effect.Effect<Uint8Array, ProposeError>,
    proposeInSession: (command, sequenced) => propose({ command, sequenced }),
    proposeAll: (commands) =>
      gathered<Uint8Array, ProposeError | SessionExpired>(requests, commands.length, (answer) => {
        const proposals = commands.flatMap((asked, i) => register(asked, answer(i)) ?? [])
        if (proposals.length > 0) offer({ _tag: "Propose", proposals })
        return proposals.map(({ requestId }) => requestId)
      }),
    openSession: Effect.callback((resume) => {
      if (isStopped()) return resume(Effect.fail(new Stopped()))
      if (requests.isFull) return resume(Effect.fail(new Overloaded()))
      const requestId = requests.opening(now(), resume)
      offer({ _tag: "OpenSession", requestId })
      return Effect.sync(() => requests.cancel(requestId))
    })
  }
  return entrance
}

const changes = ({ isStopped, now, requests, turns: { offer, state } }: Parts) => {
  const submitted = (submit: (resume: Resume<void, ChangeError>) => number): Effect.Effect<void, ChangeError> =>
    Effect.callback((resume) => {
      if (isStopped()) return resume(Effect.fail(new Stopped()))
      if (requests.isFull) return resume(Effect.fail(new Overloaded()))
      const requestId = submit(resume)
      return Effect.sync(() => requests.cancel(requestId))
    })
  const transferLeadership = (to?: NodeId) =>
    submitted((resume) => {
      const requestId = requests.transfer(now(), to, resume)
      offer({ _tag: "TransferLeadership", requestId, to })
      return requestId
    })
  const entrance: Pick<Entrance, "reconfigure" | "previewReconfigure" | "transferLeadership" | "handOver"> = {
    reconfigure: (asked) =>
      Effect.map(
        submitted((resume) => {
          const requestId = requests.change(now(), resume)
          offer({ _tag: "Reconfigure", requestId, changes: asked })
          return requestId
        }),
        () => state().configuration.latest
      ),
    previewReconfigure: (asked) =>
      Effect.suspend((): Effect.Effect<Configuration, ChangeError> => {
        if (isStopped()) return Effect.fail(new Stopped())
        const previewed = Membership.preview(state(), asked, now())
        return "next" in previewed ? Effect.succeed(previewed.next) : Effect.fail(errorOf(previewed.refusal))
      }),
    transferLeadership,
    handOver: Effect.suspend(() => NodeState.isLeader(state()) ? Effect.ignore(transferLeadership()) : Effect.void)
  }
  return entrance
}

export const make = (parts: Parts): Entrance => ({ ...proposals(parts), ...reads(parts), ...changes(parts) })
