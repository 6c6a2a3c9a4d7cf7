/**
 * Decides whether a concurrent history is linearizable: whether each operation can have taken effect at one instant between its call
 * and its return, so that all answers are those of one sequential object (Herlihy & Wing, "Linearizability: a correctness condition
 * for concurrent objects", 1990).
 *
 * ```ts
 * const register: Model<number, { write?: number }, number> = {
 *   initial: 0,
 *   apply: (state, { write }, output) =>
 *     write !== undefined ? [write] : output === undefined || output === state ? [state] : [],
 *   keyOf: String
 * }
 * const verdict = check(register, [
 *   { client: 1, input: { write: 7 }, output: 7, call: 0, return: 10 },
 *   { client: 2, input: {}, output: 0, call: 11, return: 12 }
 * ])
 * // { _tag: "NotLinearizable", explanation: "…" }: the read came after the write and did not see it
 * ```
 *
 * The search is that of Wing & Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of the pairs (operations
 * placed, state) that lead nowhere and his list of events with undo ("Testing for linearizability", 2017). Operations of unknown
 * outcome stay concurrent with everything after them, so these rules keep the search short; none loses an order or adds one:
 *
 * 1. They need not be placed, so they are placed only right before an operation of known outcome, shortest chains first.
 * 2. A pair is dropped when the same pair was reached with fewer of them used: what is left can do no more.
 * 3. Those of equal `inputKey` are interchangeable, so they are used in the order of their calls.
 * 4. A read that is possible now is placed now.
 *
 * A whole store should be checked key by key: linearizability is local (Herlihy & Wing, theorem 1), and the search is exponential in
 * the operations that overlap. The same operations always have the same verdict and the same explanation.
 */

/** One call of a client. Times are in ns on one clock; only their order counts. */
export interface Operation<I, O> {
  readonly client: number
  readonly input: I
  /** `undefined`: the outcome is unknown. The operation may take effect at any time after `call`, or never. */
  readonly output: O | undefined
  readonly call: number
  /** `undefined`: nobody saw it return. Not looked at when the outcome is unknown. */
  readonly return: number | undefined
}

/** The sequential object. All functions must be functions of their arguments alone. */
export interface Model<S, I, O> {
  readonly initial: S
  /**
   * Every state that may follow; none when `output` is impossible in `state`. `output` undefined: the operation has taken effect and
   * nobody knows its answer. Several states where the outcome leaves it open.
   */
  readonly apply: (state: S, input: I, output: O | undefined) => ReadonlyArray<S>
  /** Equal states have equal keys, and states of equal keys differ in `rank` at most. */
  readonly keyOf: (state: S) => string
  /** Of two states with equal keys, all that may follow the one of higher rank may follow the one of lower rank. Default: 0. */
  readonly rank?: (state: S) => number
  /**
   * True only of operations that observe: where one is possible and leaves the state as it is, it may be placed at once, since whatever
   * order places it later explains no more. `apply` then returns the very state it was given. Default: none.
   */
  readonly isRead?: (input: I, output: O) => boolean
  /**
   * Whether an operation of unknown outcome with this input can neither take effect in `state` nor in any that follows: whether it did
   * before then makes no difference. Equal for states with equal keys, except that a lower rank may rule out less. Default: never.
   */
  readonly isOver?: (state: S, input: I) => boolean
  /** Inputs with equal keys do the same in every state. Default: inputs that are the same value. */
  readonly inputKey?: (input: I) => string
  /** For explanations. Default: as JSON. */
  readonly describe?: (input: I, output: O | undefined) => string
  /** For explanations. Default: `keyOf`. */
  readonly describeState?: (state: S) => string
}

export type Verdict<I, O> =
  /** `order`: one that explains every answer. Operations of unknown outcome that need not have happened are not in it. */
  | { readonly _tag: "Linearizable"; readonly order: ReadonlyArray<Operation<I, O>> }
  | {
    readonly _tag: "NotLinearizable"
    /** For people, several lines: the end of `placed`, and `stuck`. */
    readonly explanation: string
    /** The longest order found for a beginning of the history. */
    readonly placed: ReadonlyArray<Operation<I, O>>
    /** The operations that real time allows next, none of which can have had its answer there. */
    readonly stuck: ReadonlyArray<Operation<I, O>>
  }
  /** The search was given up. That is no pass: nothing is known about the history. */
  | { readonly _tag: "Undecided"; readonly explanation: string }

export interface Options {
  /** Gives up after this many pairs (operations placed, state). Default 500,000, which take some hundred MB and seconds. */
  readonly statesMax?: number
}

const statesMaxDefault = 500_000

/** What one order leads to: its last operation, and what the order without it led to. */
interface Reached<S, I, O> {
  readonly state: S
  /** How many operations of unknown outcome, by group. */
  readonly used: ReadonlyArray<number>
  readonly before: Reached<S, I, O> | undefined
  readonly operation: Operation<I, O> | undefined
}

interface Move<S, I, O> extends Reached<S, I, O> {
  readonly taken: number
}

/** One set of placed operations of known outcome, on the way from the root to where the search is. */
interface Frame<S, I, O> {
  /** The operation whose placing made this frame; none for the root. */
  readonly taken: number | undefined
  readonly setKey: string
  /** Operations of known outcome that may come next, and the first return among those not placed: what is called later may not. */
  readonly next: ReadonlyArray<number>
  readonly deadline: number
  /** Chains of operations of unknown outcome, shortest first; those before `at` have been followed. */
  readonly chains: Array<Reached<S, I, O>>
  at: number
  /** Not tried yet, the next one last. */
  moves: Array<Move<S, I, O>>
}

/**
 * The operations of known outcome that are not placed yet, as a list of their calls and returns in the order of time (Lowe, §3). Event
 * `2i` is the call of operation `i` and `2i + 1` its return; one more event is both ends of the list. Operations are numbered by call.
 */
class Unplaced {
  private readonly next: Int32Array
  private readonly previous: Int32Array
  /** The set of placed operations, 16 to a word, so that a word is a character of `key`. */
  private readonly bits: Uint16Array
  /** The highest operation placed, for each number of operations placed: placing is undone in reverse order. */
  private readonly highest: Array<number> = [-1]
  private readonly end: number
  private readonly returns: ReadonlyArray<number>

  constructor(calls: ReadonlyArray<number>, returns: ReadonlyArray<number>) {
    this.returns = returns
    this.end = 2 * calls.length
    this.next = new Int32Array(this.end + 1)
    this.previous = new Int32Array(this.end + 1)
    this.bits = new Uint16Array((calls.length >> 4) + 1)
    const timeOf = (event: number) => (event % 2 === 0 ? calls : returns)[event >> 1] ?? 0
    // At one instant calls come before returns: the operations overlap.
    const events = Array.from({ length: this.end }, (_, event) => event)
      .toSorted((a, b) => timeOf(a) - timeOf(b) || (a % 2) - (b % 2) || a - b)
    let last = this.end
    for (const event of [...events, this.end]) {
      this.next[last] = event
      this.previous[event] = last
      last = event
    }
  }

  get placedCount(): number {
    return this.highest.length - 1
  }

  /** The operations that none of the others precedes, by call, and the first return. */
  first(): { readonly next: ReadonlyArray<number>; readonly deadline: number } {
    const next: Array<number> = []
    let event = this.next[this.end] ?? this.end
    while (event !== this.end && event % 2 === 0) {
      next.push(event >> 1)
      event = this.next[event] ?? this.end
    }
    return { next, deadline: event === this.end ? Infinity : this.returns[event >> 1] ?? Infinity }
  }

  place(operation: number): void {
    for (const event of [2 * operation, 2 * operation + 1]) {
      const [previous, next] = [this.previous[event] ?? 0, this.next[event] ?? 0]
      this.next[previous] = next
      this.previous[next] = previous
    }
    this.flip(operation)
    this.highest.push(Math.max(operation, this.highest.at(-1) ?? -1))
  }

  /** Undoes the last `place`. */
  undo(operation: number): void {
    this.highest.pop()
    this.flip(operation)
    for (const event of [2 * operation + 1, 2 * operation]) {
      this.next[this.previous[event] ?? 0] = event
      this.previous[this.next[event] ?? 0] = event
    }
  }

  /** One string for each set of placed operations: the words of the set between its leading ones and its trailing zeros. */
  key(): string {
    let word = (this.next[this.end] ?? 0) >> 5
    const last = (this.highest.at(-1) ?? -1) >> 4
    let key = `${word}:`
    for (; word <= last; word++) key += String.fromCharCode(this.bits[word] ?? 0)
    return key
  }

  private flip(operation: number): void {
    const word = operation >> 4
    this.bits[word] = (this.bits[word] ?? 0) ^ (1 << (operation & 15))
  }
}

const isCovered = (less: ReadonlyArray<number>, cost: ReadonlyArray<number>): boolean => {
  for (let i = cost.length - 1; i >= 0; i--) if ((less[i] ?? 0) > (cost[i] ?? 0)) return false
  return true
}

/** Of one pair, so many ways to have used what is unknown are compared: more would make the memory slower than the search. */
const rememberedMax = 100

/** The pairs (operations placed, state) that were reached, with what each had cost; rule 2 above. */
class Visited {
  count = 0
  private readonly costs = new Map<string, Array<ReadonlyArray<number>>>()

  /** Whether nothing that was reached before can do all that this can, as far as is remembered. */
  admits(key: string, cost: ReadonlyArray<number>): boolean {
    const known = this.costs.get(key)
    if (known === undefined) this.costs.set(key, [cost])
    else if (known.some((less) => isCovered(less, cost))) return false
    else if (known.length < rememberedMax) known.push(cost)
    this.count++
    return true
  }
}

const pathOf = <S, I, O>(last: Reached<S, I, O>): ReadonlyArray<Operation<I, O>> => {
  const path: Array<Operation<I, O>> = []
  for (let at: Reached<S, I, O> | undefined = last; at?.operation !== undefined; at = at.before) path.push(at.operation)
  return path.toReversed()
}

/** Operations of unknown outcome, by call, in groups that are interchangeable. */
const groupsOf = <S, I, O>(model: Model<S, I, O>, unknown: ReadonlyArray<Operation<I, O>>) => {
  const groups = new Map<unknown, Array<Operation<I, O>>>()
  for (const operation of unknown) {
    const key = model.inputKey === undefined ? operation.input : model.inputKey(operation.input)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [operation])
    else group.push(operation)
  }
  return [...groups.values()]
}

class Search<S, I, O> {
  private readonly visited = new Visited()
  private readonly model: Model<S, I, O>
  private readonly known: ReadonlyArray<Operation<I, O>>
  private readonly groups: ReadonlyArray<ReadonlyArray<Operation<I, O>>>
  private readonly unplaced: Unplaced
  private readonly statesMax: number
  private furthest: { readonly reached: Reached<S, I, O>; readonly next: ReadonlyArray<number>; readonly count: number }

  constructor(model: Model<S, I, O>, operations: ReadonlyArray<Operation<I, O>>, statesMax: number) {
    this.model = model
    this.statesMax = statesMax
    const sorted = operations.toSorted((a, b) => a.call - b.call)
    this.known = sorted.filter(({ output }) => output !== undefined)
    this.groups = groupsOf(model, sorted.filter(({ output }) => output === undefined))
    this.unplaced = new Unplaced(this.known.map(({ call }) => call), this.known.map((one) => one.return ?? Infinity))
    this.furthest = {
      reached: { state: model.initial, used: this.groups.map(() => 0), before: undefined, operation: undefined },
      next: [],
      count: -1
    }
  }

  run(): Verdict<I, O> {
    if (this.known.length === 0) return { _tag: "Linearizable", order: [] }
    const frames = [this.frame(undefined, this.unplaced.key(), this.furthest.reached)]
    for (let frame = frames.at(-1); frame !== undefined; frame = frames.at(-1)) {
      const move = frame.moves.pop()
      if (move === undefined) {
        if (this.followChain(frame)) continue
        if (frame.taken !== undefined) this.unplaced.undo(frame.taken)
        frames.pop()
        continue
      }
      this.unplaced.place(move.taken)
      if (this.unplaced.placedCount === this.known.length) return { _tag: "Linearizable", order: pathOf(move) }
      const setKey = this.unplaced.key()
      if (this.isNew(setKey, move)) frames.push(this.frame(move.taken, setKey, move))
      else this.unplaced.undo(move.taken)
      if (this.visited.count > this.statesMax) {
        const most = `at most ${this.furthest.count} of ${this.known.length} operations were placed`
        return { _tag: "Undecided", explanation: `no verdict within ${this.statesMax} states; ${most}` }
      }
    }
    return this.notLinearizable()
  }

  private isNew(setKey: string, { state, used }: Reached<S, I, O>): boolean {
    const { isOver, keyOf, rank } = this.model
    // What can do nothing any more counts as unused; a higher rank is worse as more used operations are.
    const cost = used.map((n, g) => {
      const input = this.groups[g]?.[0]?.input
      return n > 0 && input !== undefined && isOver?.(state, input) === true ? 0 : n
    })
    cost.push(rank?.(state) ?? 0)
    return this.visited.admits(`${setKey.length}:${setKey}${keyOf(state)}`, cost)
  }

  private frame(taken: number | undefined, setKey: string, reached: Reached<S, I, O>): Frame<S, I, O> {
    const { deadline, next } = this.unplaced.first()
    const count = this.unplaced.placedCount
    if (count > this.furthest.count) this.furthest = { reached, next, count }
    return { taken, setKey, next, deadline, chains: [reached], at: 0, moves: [] }
  }

  /** Turns to the next chain of the frame: what may come after it, and the chains that are longer by one. False: none is left. */
  private followChain(frame: Frame<S, I, O>): boolean {
    const chain = frame.chains[frame.at++]
    if (chain === undefined) return false
    const moves: Array<Move<S, I, O>> = []
    for (const taken of frame.next) {
      const operation = this.known[taken]
      if (operation === undefined) continue
      const { input, output } = operation
      for (const state of this.model.apply(chain.state, input, output)) {
        const move = { state, used: chain.used, before: chain, operation, taken }
        if (output !== undefined && Object.is(state, chain.state) && this.model.isRead?.(input, output) === true) {
          frame.moves = [move]
          return true
        }
        moves.push(move)
      }
    }
    frame.moves = moves.toReversed()
    this.lengthen(frame, chain)
    return true
  }

  private lengthen(frame: Frame<S, I, O>, chain: Reached<S, I, O>): void {
    for (const [g, group] of this.groups.entries()) {
      const operation = group[chain.used[g] ?? 0]
      if (operation === undefined || operation.call > frame.deadline) continue
      const used = chain.used.with(g, (chain.used[g] ?? 0) + 1)
      for (const state of this.model.apply(chain.state, operation.input, undefined)) {
        const longer = { state, used, before: chain, operation }
        if (this.isNew(frame.setKey, longer)) frame.chains.push(longer)
      }
    }
  }

  private notLinearizable(): Verdict<I, O> {
    const { next, reached } = this.furthest
    const placed = pathOf(reached)
    const stuck = next.flatMap((operation) => this.known[operation] ?? [])
    const explanation = explain(this.model, placed, reached.state, stuck, this.known.length)
    return { _tag: "NotLinearizable", placed, stuck, explanation }
  }
}

const milliseconds = (ns: number): string => (ns / 1e6).toFixed(3)

const explain = <S, I, O>(
  model: Model<S, I, O>,
  placed: ReadonlyArray<Operation<I, O>>,
  state: S,
  stuck: ReadonlyArray<Operation<I, O>>,
  total: number
): string => {
  const describe = model.describe ?? ((input: I, output: O | undefined) => JSON.stringify({ input, output }))
  const row = (position: string, operation: Operation<I, O>): string => {
    const end = operation.output === undefined ? "?" : milliseconds(operation.return ?? Infinity)
    return position.padStart(8) + milliseconds(operation.call).padStart(14) + end.padStart(14)
      + String(operation.client).padStart(8) + `  ${describe(operation.input, operation.output)}`
  }
  const hidden = Math.max(0, placed.length - 12)
  const knownCount = placed.filter(({ output }) => output !== undefined).length
  return [
    `${knownCount} of ${total} operations can be put in an order that explains their answers, and no order goes further`,
    "   order       call ms     return ms  client  operation",
    ...(hidden === 0 ? [] : [`          … ${hidden} before`]),
    ...placed.slice(hidden).map((operation, i) => row(String(hidden + i + 1), operation)),
    `          here the state is: ${model.describeState?.(state) ?? model.keyOf(state)}`,
    ...stuck.map((operation) => row("cannot", operation))
  ].join("\n")
}

/**
 * Looks for an order of `operations` that explains every answer. Operations that surely did nothing must be left out, and so should
 * reads of unknown outcome, which say nothing. Throws `RangeError` for an operation that returns before it is called.
 */
export const check = <S, I, O>(
  model: Model<S, I, O>,
  operations: ReadonlyArray<Operation<I, O>>,
  options: Options = {}
): Verdict<I, O> => {
  for (const { call, client, output, return: end } of operations) {
    if (Number.isNaN(call) || (output !== undefined && end !== undefined && !(end >= call))) {
      throw new RangeError(`an operation of client ${client} returns at ${end} and is called at ${call}`)
    }
  }
  return new Search(model, operations, options.statesMax ?? statesMaxDefault).run()
}
