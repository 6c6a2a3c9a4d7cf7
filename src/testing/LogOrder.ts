/**
 * Linearizability with the log as the witness: the order in which commands were applied must explain every answer and respect real time.
 * Any state machine can be judged this way, in time linear in the history, since nothing is searched; the search that needs no witness is
 * `Linearizability.ts`.
 *
 * What is found has one of these names: "Linearizability" (an answer that the log's order does not give, or an order that contradicts real
 * time), "a command is applied at most once", "not applied means not applied (R4)", "a stale answer is of the index it names".
 */
import type { LogIndex, Term } from "../domain/Entry.ts"
import type { Reducer } from "../services/StateMachine.ts"
import type { Outcome } from "./Clients.ts"

/** A command in the order of the log. `id` is the request that proposed it. */
export interface Applied {
  readonly index: LogIndex
  readonly term: Term
  readonly id: number
}

export type Request<C, Q> =
  | { readonly _tag: "Command"; readonly command: C }
  | { readonly _tag: "Query"; readonly query: Q }

/** One request and what its client knows. Times are in ns on one clock. */
export interface Recorded<C, R, Q, A> {
  readonly id: number
  readonly client: number
  readonly request: Request<C, Q>
  readonly outcome: Outcome<R | A>
  readonly call: number
  /** `undefined` where nobody saw it return. */
  readonly return: number | undefined
}

/** A read that was answered from what a server had applied, and named the index. */
export interface StaleRead<Q, A> {
  readonly query: Q
  readonly answer: A
  readonly appliedIndex: LogIndex
}

/** The state after each command, and the result of each. */
interface Replayed<S, R> {
  readonly index: LogIndex
  readonly state: S
  readonly id: number
  readonly result: R
}

const replay = <S, C, R, Q, A>(
  reducer: Reducer<S, C, R, Q, A>,
  log: ReadonlyArray<Applied>,
  commands: ReadonlyMap<number, C>
): ReadonlyArray<Replayed<S, R>> => {
  let { initial: state } = reducer
  const replayed: Array<Replayed<S, R>> = []
  for (const { id, index, term } of log) {
    const command = commands.get(id)
    if (command === undefined) continue
    const next = reducer.apply(state, command, { index, term })
    state = next.state
    replayed.push({ index, state, id, result: next.result })
  }
  return replayed
}

/** A point in the log's order, counted in commands (0 is before the first), and what was seen there. */
interface Seen {
  readonly position: number
  readonly what: string
}

export interface Options<S, C, R, Q, A> {
  readonly reducer: Reducer<S, C, R, Q, A>
  /** Every command that was ever called, by the id of its request: one that was not answered yet may be in the log, too. */
  readonly commands: ReadonlyMap<number, C>
  readonly log: ReadonlyArray<Applied>
  readonly history: ReadonlyArray<Recorded<C, R, Q, A>>
  readonly stale?: ReadonlyArray<StaleRead<Q, A>>
  readonly isSame: (answer: R | A, expected: R | A) => boolean
  readonly format: (value: unknown) => string
}

class Judge<S, C, R, Q, A> {
  readonly found: Array<string> = []
  readonly #options: Options<S, C, R, Q, A>
  readonly #replayed: ReadonlyArray<Replayed<S, R>>
  readonly #positions = new Map<number, number>()
  /** Where the order stands once everything that has returned is in it. */
  #floor: Seen = { position: 0, what: "the start" }
  /** Where it stood when a request was called. */
  readonly #floorAtCall = new Map<number, Seen>()

  constructor(options: Options<S, C, R, Q, A>) {
    this.#options = options
    this.#replayed = replay(options.reducer, options.log, options.commands)
    for (const { id, index } of options.log) {
      if (!options.commands.has(id)) this.found.push(`every command was called by somebody: entry ${index} was not`)
    }
    for (const [i, { id, index }] of this.#replayed.entries()) {
      if (this.#positions.has(id)) {
        this.found.push(`a command is applied at most once: request ${id} again, as entry ${index}`)
      } else this.#positions.set(id, i + 1)
    }
  }

  called(recorded: Recorded<C, R, Q, A>): void {
    this.#floorAtCall.set(recorded.id, this.#floor)
  }

  returned(recorded: Recorded<C, R, Q, A>): void {
    const floor = this.#floorAtCall.get(recorded.id) ?? this.#floor
    const position = recorded.request._tag === "Command"
      ? this.#written(recorded, floor)
      : this.#read(recorded, recorded.request.query, floor)
    if (position > this.#floor.position) this.#floor = { position, what: this.#text(recorded) }
  }

  /** Old it may be; but it must be what the log says of the index that it names. */
  readStale({ answer, appliedIndex, query }: StaleRead<Q, A>): void {
    const { format, isSame, reducer } = this.#options
    const state = this.#replayed.findLast(({ index }) => index <= appliedIndex)?.state ?? reducer.initial
    const expected = reducer.respond(state, query)
    if (isSame(answer, expected)) return
    const [given, right] = [format(answer), format(expected)]
    this.found.push(
      `a stale answer is of the index it names: ${format(query)} at ${appliedIndex}: ${given}, not ${right}`
    )
  }

  #text({ client, id, request }: Recorded<C, R, Q, A>): string {
    const asked = this.#options.format(request._tag === "Query" ? request.query : request.command)
    return `request ${id} of client ${client} (${asked})`
  }

  #nonlinear(recorded: Recorded<C, R, Q, A>, what: string): void {
    this.found.push(`Linearizability: ${this.#text(recorded)} ${what}`)
  }

  /** The position of a command that its client was told about. */
  #written(recorded: Recorded<C, R, Q, A>, floor: Seen): number {
    const { id, outcome } = recorded
    const position = this.#positions.get(id)
    if (outcome._tag === "NotApplied" && position !== undefined) {
      this.found.push(`not applied means not applied (R4): ${this.#text(recorded)} was applied`)
    }
    if (outcome._tag !== "Done") return 0
    const entry = this.#replayed[(position ?? 0) - 1]
    if (position === undefined || entry === undefined) {
      this.#nonlinear(recorded, "was answered and is not in the log")
      return 0
    }
    const { format, isSame } = this.#options
    if (!isSame(outcome.value, entry.result)) {
      const [given, right] = [format(outcome.value), format(entry.result)]
      this.#nonlinear(recorded, `was answered ${given}; as entry ${entry.index} it gives ${right}`)
    }
    if (position <= floor.position) {
      this.#nonlinear(recorded, `was called after ${floor.what} had returned, and is before it in the log`)
    }
    return position
  }

  /** The first position from which on the query has its answer: to assume more would only make later answers harder to explain. */
  #read(recorded: Recorded<C, R, Q, A>, query: Q, floor: Seen): number {
    const { outcome } = recorded
    if (outcome._tag !== "Done") return 0
    const { format, isSame, reducer } = this.#options
    for (let { position } = floor; position <= this.#replayed.length; position++) {
      const state = position === 0 ? { state: reducer.initial } : this.#replayed[position - 1]
      if (state !== undefined && isSame(outcome.value, reducer.respond(state.state, query))) return position
    }
    this.#nonlinear(recorded, `was answered ${format(outcome.value)}, which was never so after ${floor.what}`)
    return 0
  }
}

/** Every way in which the history contradicts the log; none when the log explains it. */
export const check = <S, C, R, Q, A>(options: Options<S, C, R, Q, A>): ReadonlyArray<string> => {
  const judge = new Judge(options)
  for (const { isReturn, recorded } of inOrder(options.history)) {
    if (isReturn) judge.returned(recorded)
    else judge.called(recorded)
  }
  for (const read of options.stale ?? []) judge.readStale(read)
  return judge.found
}

/** Calls and returns as they happened. */
const inOrder = <C, R, Q, A>(history: ReadonlyArray<Recorded<C, R, Q, A>>) =>
  history.flatMap((recorded) => [
    { ns: recorded.call, isReturn: false, recorded },
    { ns: recorded.return ?? Infinity, isReturn: true, recorded }
  ]).toSorted((a, b) => a.ns - b.ns)
