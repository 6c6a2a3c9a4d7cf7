/**
 * The sequential specification of the key-value store (`kv/Store.ts`), one key at a time, and the check of a whole history against it.
 * The store must have been empty when the history begins. Let each value be written once: then a read names its write, and thousands of
 * requests with a hundred of unknown outcome take milliseconds; of values written again and again a long history may stay undecided.
 *
 * ```ts
 * const problems = KeyValueModel.check(history)
 * // [] or e.g. [ "Linearizability (key a): 3 of 4 operations can be put in an order …" ]
 * ```
 *
 * Keys are independent except for their revisions, which are positions in one log: that is the finding "Revisions rise".
 */
import { byKey, type Output, type Recorded } from "./History.ts"
import * as Linearizability from "./Linearizability.ts"

interface Stored {
  /** `undefined`: a text that no read has returned. */
  readonly value: string | undefined
  /** `undefined`: written by a command whose answer nobody saw. The first answer that shows it decides. */
  readonly revision: number | undefined
  readonly version: number
}

/** One key. */
export interface State {
  /** The last revision of the key that an answer shows; `Evidence` knows the next one. */
  readonly last: number
  /** The revision of the key's last mutation is this at least, and exactly this where it is known. */
  readonly floor: number
  /** `undefined`: there is no such key. */
  readonly item: Stored | undefined
}

export interface Input {
  readonly op: Recorded["op"]
  readonly value: string | null
  readonly expected: number | null
  /** Whether a read returned the value that this command writes. */
  readonly isRead: boolean
  /** The client never learned the outcome, but a read shows that it took effect. */
  readonly isInferred: boolean
}

/** What the answers of a whole history tell about one revision of the key. */
interface Shown {
  /** The revision of this key that was shown and is next below; 0 when there is none. */
  readonly previous: number
  /** The highest revision that a mutation of unknown outcome after this one and not after the next shown one can have. */
  readonly ceiling: number
  /** From a read. */
  readonly version: number | undefined
}

/**
 * By revision, and 0 for the beginning. It lets the search give up an order at the write that is wrong rather than at a read long
 * after: mutations take effect in the order of their revisions, and a read tells the version that a write must have left.
 */
export type Evidence = ReadonlyMap<number, Shown>

const noEvidence: Evidence = new Map()

/** The state right after a mutation to `item` whose revision became known as `revision`, or `undefined` if the evidence excludes it. */
const settled = (evidence: Evidence, last: number, revision: number, item: Stored | undefined): State | undefined => {
  const shown = evidence.get(revision)
  if (shown === undefined) return { last, floor: revision, item }
  const isNext = shown.previous === last && (shown.version === undefined || shown.version === item?.version)
  return isNext ? { last: revision, floor: revision, item } : undefined
}

const ceilingOf = (evidence: Evidence, { last }: State): number => evidence.get(last)?.ceiling ?? Infinity

/** The state if the key's revision is `revision`, 0 standing for "no such key"; `undefined` if it cannot be. */
const pinned = (evidence: Evidence, state: State, revision: number): State | undefined => {
  const { floor, item, last } = state
  if (revision === 0 || item === undefined) return revision === 0 && item === undefined ? state : undefined
  if (item.revision !== undefined) return item.revision === revision ? state : undefined
  if (revision < floor || revision > ceilingOf(evidence, state)) return undefined
  return settled(evidence, last, revision, { ...item, revision })
}

/** The state in which the command's condition holds, or `undefined`. */
const admitted = (evidence: Evidence, state: State, { expected }: Input): State | undefined =>
  expected === null ? state : pinned(evidence, state, expected)

/** After a mutation at `revision`, which is higher than the one before; where it is unknown it is higher by one at least. */
const mutated = (
  evidence: Evidence,
  state: State,
  { isRead, op, value }: Input,
  revision: number | undefined
): State | undefined => {
  const item: Stored | undefined = op === "delete"
    ? undefined
    : { value: isRead && value !== null ? value : undefined, revision, version: (state.item?.version ?? 0) + 1 }
  if (revision !== undefined) return revision > state.floor ? settled(evidence, state.last, revision, item) : undefined
  const floor = state.floor + 1
  return floor <= ceilingOf(evidence, state) ? { last: state.last, floor, item } : undefined
}

const applied = (evidence: Evidence, state: State, input: Input, output: Output | undefined): State | undefined => {
  if (output === undefined) {
    // A command whose condition does not hold changes nothing, as if it had never been applied.
    const before = input.op === "get" ? undefined : admitted(evidence, state, input)
    return before && mutated(evidence, before, input, undefined)
  }
  switch (output._tag) {
    case "Written":
    case "Deleted": {
      const isAnswer = input.op === (output._tag === "Written" ? "put" : "delete")
      const before = isAnswer ? admitted(evidence, state, input) : undefined
      if (before === undefined) return undefined
      if (output._tag === "Deleted" && output.deleted !== (before.item !== undefined)) return undefined
      return mutated(evidence, before, input, output.revision)
    }
    case "RevisionMismatch":
      return input.op === "get" || input.expected === null || input.expected === output.revision
        ? undefined
        : pinned(evidence, state, output.revision)
    case "Found": {
      const { item } = state
      const isSame = input.op === "get" && item?.value === output.value && item.version === output.version
      return isSame ? pinned(evidence, state, output.revision) : undefined
    }
    case "Missing":
      return input.op === "get" && state.item === undefined ? state : undefined
  }
}

const outcomeText = (output: Output): string => {
  switch (output._tag) {
    case "Found":
      return `Found ${JSON.stringify(output.value)}, revision ${output.revision}, version ${output.version}`
    case "Deleted":
      return `Deleted, revision ${output.revision}, ${output.deleted ? "it was there" : "it was not there"}`
    default:
      return `${output._tag}, revision ${output.revision}`
  }
}

const describe = ({ expected, isInferred, op, value }: Input, output: Output | undefined): string => {
  const request = `${op}${value === null ? "" : ` ${JSON.stringify(value)}`}${
    expected === null ? "" : ` if ${expected}`
  }`
  const outcome = output === undefined
    ? "no answer; taken as applied"
    : isInferred && output._tag === "Written"
    ? `no answer; a read shows revision ${output.revision}`
    : outcomeText(output)
  return `${request.padEnd(24)}  ${outcome}`
}

const describeState = ({ floor, item }: State): string => {
  if (item === undefined) return `missing; last revision ${floor} or later`
  const value = item.value === undefined ? "a value that no read returned" : JSON.stringify(item.value)
  return `${value}, revision ${item.revision ?? `${floor} or later`}, version ${item.version}`
}

const keyOf = ({ item, last }: State): string =>
  item === undefined
    ? `${last}`
    : `${last} ${item.revision ?? "?"} ${item.version}${item.value === undefined ? "" : ` ${item.value}`}`

/** One key of the store. `evidence` changes no verdict; without it long histories may take for ever. */
export const modelOf = (evidence: Evidence = noEvidence): Linearizability.Model<State, Input, Output> => ({
  initial: { last: 0, floor: 0, item: undefined },
  apply: (state, input, output) => {
    const next = applied(evidence, state, input, output)
    return next === undefined ? [] : [next]
  },
  keyOf,
  // A lower floor excludes less, and floors rise alike. Where the revision is known, the floor is the revision.
  rank: ({ floor }) => floor,
  // What shows a revision is possible only until the next mutation, and what shows that there is no key changes nothing anywhere.
  isRead: (_, output) => output._tag !== "Written" && output._tag !== "Deleted",
  isOver: ({ floor }, { expected }) => expected !== null && expected > 0 && expected < floor,
  inputKey: ({ expected, isRead, op, value }) => `${op} ${expected ?? "-"}${isRead ? ` ${value ?? ""}` : ""}`,
  describe,
  describeState
})

type Operation = Linearizability.Operation<Input, Output>

/**
 * The operations of one key. Two things are concluded from the values, both exact: a put of unknown outcome whose value a read returned
 * and no other put wrote has taken effect before that read returned, at the revision that the read shows; and values that no read
 * returned need not be told apart.
 */
export const operationsOf = (records: ReadonlyArray<Recorded>): ReadonlyArray<Operation> => {
  const writers = new Map<string, number>()
  const firstRead = new Map<string, { readonly revision: number; readonly return: number }>()
  for (const { op, output, return: end, value } of records) {
    if (op === "put" && value !== null) writers.set(value, (writers.get(value) ?? 0) + 1)
    if (output?._tag !== "Found" || end === null) continue
    const earlier = firstRead.get(output.value)
    if (earlier === undefined || end < earlier.return) {
      firstRead.set(output.value, { revision: output.revision, return: end })
    }
  }
  return records.map(({ call, client, expected, ok, op, output, return: end, value }): Operation => {
    const read = value === null ? undefined : firstRead.get(value)
    const input = { op, value, expected, isRead: read !== undefined, isInferred: false }
    if (ok !== null) return { client, input, output: output ?? undefined, call, return: end ?? undefined }
    const isInferred = value !== null && read !== undefined && writers.get(value) === 1 && read.return >= call
    if (!isInferred) return { client, input, output: undefined, call, return: undefined }
    const written: Output = { _tag: "Written", revision: read.revision }
    return { client, input: { ...input, isInferred }, output: written, call, return: read.return }
  })
}

/** All that the answers to `operations` tell about the key's revisions. Of answers that contradict each other one is taken. */
export const evidenceOf = (operations: ReadonlyArray<Operation>): Evidence => {
  const answered = new Set<number>()
  const versions = new Map<number, number | undefined>()
  const show = (revision: number, version: number | undefined) => {
    if (revision > 0) versions.set(revision, version ?? versions.get(revision))
  }
  for (const { input, output } of operations) {
    if (output === undefined || output._tag === "Missing") continue
    show(output.revision, output._tag === "Found" ? output.version : undefined)
    if (output._tag !== "Written" && output._tag !== "Deleted") continue
    answered.add(output.revision)
    show(input.expected ?? 0, undefined)
  }
  const revisions = [0, ...[...versions.keys()].toSorted((a, b) => a - b)]
  return new Map(revisions.map((revision, i) => {
    const next = revisions[i + 1] ?? Infinity
    const ceiling = answered.has(next) ? next - 1 : next
    return [revision, { previous: revisions[i - 1] ?? 0, ceiling, version: versions.get(revision) }]
  }))
}

const isMutation = ({ output }: Recorded): boolean => output?._tag === "Written" || output?._tag === "Deleted"

const revisionOf = ({ output }: Recorded): number => output?.revision ?? 0

const requestText = ({ call, client, key, op, output }: Recorded): string =>
  `client ${client}'s ${op} of ${JSON.stringify(key)} called at ${(call / 1e6).toFixed(3)} ms `
  + `(${output === null ? "no answer" : outcomeText(output)})`

/** How many findings of one name are listed; a broken clock would otherwise list the whole history. */
const findingsMax = 10

/**
 * Revisions are positions in one log, of all keys: no two mutations have the same one, and one that is called after an answer has
 * shown a revision has a higher one. `Missing` shows the revision of the store's last mutation, which is not lower than any shown
 * before the read was called.
 */
const revisionFindings = (history: ReadonlyArray<Recorded>): ReadonlyArray<string> => {
  const findings: Array<string> = []
  const answered = history.filter(({ ok, output }) => ok === true && output !== null)
  const mutations = answered.filter(isMutation).toSorted((a, b) => revisionOf(a) - revisionOf(b))
  for (const [i, one] of mutations.entries()) {
    const next = mutations[i + 1]
    if (next !== undefined && revisionOf(next) === revisionOf(one)) {
      findings.push(`${requestText(one)} has the same revision as ${requestText(next)}`)
    }
  }
  const byReturn = answered.toSorted((a, b) => (a.return ?? Infinity) - (b.return ?? Infinity))
  let highest: Recorded | undefined
  let returned = 0
  for (const one of answered.toSorted((a, b) => a.call - b.call)) {
    for (let earlier = byReturn[returned]; earlier !== undefined; earlier = byReturn[++returned]) {
      if (earlier.return === null || earlier.return >= one.call) break
      if (highest === undefined || revisionOf(earlier) > revisionOf(highest)) highest = earlier
    }
    if (highest === undefined) continue
    const lowest = isMutation(one) ? revisionOf(highest) + 1 : one.output?._tag === "Missing" ? revisionOf(highest) : 0
    if (revisionOf(one) < lowest) {
      findings.push(`${requestText(one)} came after the answer to ${requestText(highest)}`)
    }
  }
  const more = findings.length - findingsMax
  return [...findings.slice(0, findingsMax), ...(more > 0 ? [`${more} more`] : [])].map((text) =>
    `Revisions rise: ${text}`
  )
}

/** Each moment looked at for an explanation gets so many states; one that needs more is not blamed. */
const explanationStatesMax = 20_000

/** What was known at `ns`: what had returned by then, and the calls that were still open, as operations of unknown outcome. */
const knownAt = (records: ReadonlyArray<Recorded>, ns: number): ReadonlyArray<Recorded> =>
  records.flatMap((record) => {
    if (record.call > ns) return []
    if (record.ok !== true || (record.return ?? Infinity) <= ns) return [record]
    return record.op === "get" ? [] : [{ ...record, ok: null, output: null, return: null }]
  })

/**
 * The explanation with the first answer that is wrong: a history that is linearizable is so at each moment, so the earliest moment at
 * which this one is not is found by bisection. What was answered at that moment is no evidence, it is what the evidence is against.
 */
const explanationOf = (records: ReadonlyArray<Recorded>): string | undefined => {
  const options = { statesMax: explanationStatesMax }
  const returns = [...new Set(records.flatMap((record) => record.ok === true ? record.return ?? [] : []))]
    .toSorted((a, b) => a - b)
  const isWrong = (ns: number): boolean => {
    const operations = operationsOf(knownAt(records, ns))
    return Linearizability.check(modelOf(evidenceOf(operations)), operations, options)._tag === "NotLinearizable"
  }
  let [right, wrong] = [-1, returns.length - 1]
  while (wrong - right > 1) {
    const middle = (right + wrong) >> 1
    if (isWrong(returns[middle] ?? 0)) wrong = middle
    else right = middle
  }
  const ns = returns[wrong] ?? 0
  const known = knownAt(records, ns)
  const evidence = evidenceOf(operationsOf(known.filter((record) => record.return === null || record.return < ns)))
  const verdict = Linearizability.check(modelOf(evidence), operationsOf(known), options)
  if (verdict._tag !== "NotLinearizable") return undefined
  return `no order explains what was answered by ${(ns / 1e6).toFixed(3)} ms\n${verdict.explanation}`
}

const checkKey = (records: ReadonlyArray<Recorded>, options: Linearizability.Options) => {
  const operations = operationsOf(records)
  const verdict = Linearizability.check(modelOf(evidenceOf(operations)), operations, options)
  if (verdict._tag !== "NotLinearizable") return verdict
  return { ...verdict, explanation: explanationOf(records) ?? verdict.explanation }
}

/**
 * Every problem of a history; none when the store may have behaved so. Findings are `Linearizability (key …): …` with an explanation of
 * several lines, `Revisions rise: …`, and `Undecided (key …): …` where the search was given up, which is a failure too: the history
 * must be shorter or have fewer clients.
 */
export const check = (
  history: ReadonlyArray<Recorded>,
  options: Linearizability.Options = {}
): ReadonlyArray<string> => {
  const findings: Array<string> = []
  for (const [key, records] of byKey(history)) {
    const verdict = checkKey(records, options)
    if (verdict._tag === "Linearizable") continue
    const name = verdict._tag === "Undecided" ? "Undecided" : "Linearizability"
    findings.push(`${name} (key ${key}): ${verdict.explanation}`)
  }
  return [...findings, ...revisionFindings(history)]
}
