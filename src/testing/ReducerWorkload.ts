/**
 * Clients of any state machine that `StateMachine.make` made. The machine's own reducer, run over the log by one thread, says what they should
 * have been told (`LogOrder.ts`).
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import type { LogIndex } from "../domain/Entry.ts"
import * as StateMachine from "../services/StateMachine.ts"
import { type Asked, type Client, drawMode, type Outcome, type Told } from "./Clients.ts"
import type { Draws } from "./Draws.ts"
import * as LogOrder from "./LogOrder.ts"
import type { Session, Workload } from "./Workload.ts"

/** What the clients ask. */
export interface WorkloadOptions<C, R, Q, A> {
  readonly command: (draws: Draws) => C
  readonly query: (draws: Draws) => Q
  /** Whether an answer is the one expected. Default: `Equal.equals`, which compares structures. */
  readonly isSame?: (answer: R | A, expected: R | A) => boolean
}

/** Every command travels behind the number of its request, so that the log says which request it was. */
const tagBytes = 8

const tagged = (id: number, bytes: Uint8Array): Uint8Array => {
  const all = new Uint8Array(tagBytes + bytes.length)
  new DataView(all.buffer).setFloat64(0, id)
  all.set(bytes, tagBytes)
  return all
}

const idOf = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0)

/** The user's machine behind the tags. `saw` is told of every command that a node applies. */
const untagging = (
  machine: Layer.Layer<StateMachine.StateMachine>,
  saw: (applied: LogOrder.Applied) => void
): Layer.Layer<StateMachine.StateMachine> =>
  Layer.effect(
    StateMachine.StateMachine,
    Effect.map(StateMachine.StateMachine, (inner) =>
      StateMachine.StateMachine.of({
        ...inner,
        apply: (commands) =>
          Effect.suspend(() => {
            for (const { command, index, term } of commands) saw({ index, term, id: idOf(command) })
            return inner.apply(commands.map((one) => ({ ...one, command: one.command.subarray(tagBytes) })))
          })
      }))
  ).pipe(Layer.provide(machine))

/** Most different queries that the state machines of two nodes are compared by. */
const probesMax = 20

/** And fewest; some of them may be the same. */
const probesMin = 5

const makeSession = <S, C, R, Q, A>(
  machine: StateMachine.Machine<S, C, R, Q, A>,
  options: WorkloadOptions<C, R, Q, A>,
  { draws, nowNs }: { readonly draws: Draws; readonly nowNs: () => number }
): Session => {
  const { isSame = Equal.equals } = options
  const history: Array<LogOrder.Recorded<C, R, Q, A>> = []
  const probes = new Map<string, Q>()
  const log = new Map<LogIndex, LogOrder.Applied>()
  const commands = new Map<number, C>()
  let requests = 0

  const stale: Array<LogOrder.StaleRead<Q, A>> = []

  const accessTo = (asked: Asked, id: number) =>
    machine.on<Told, Told, Told>({ ...asked, propose: (bytes) => asked.propose(tagged(id, bytes)) })

  /** A read that may be old is no part of the history: what it shows is judged by itself. */
  const readStale = Effect.fnUntraced(function*(client: Client, query: Q) {
    const outcome = yield* client.ask((asked) => accessTo(asked, 0).readStale(query))
    if (outcome._tag === "Done") stale.push({ query, ...outcome.value })
    return outcome
  })

  const request = Effect.fnUntraced(function*(client: Client, isRead: boolean) {
    const asks: LogOrder.Request<C, Q> = isRead
      ? { _tag: "Query", query: options.query(client.draws) }
      : { _tag: "Command", command: options.command(client.draws) }
    if (asks._tag === "Query" && probes.size < probesMax) probes.set(Formatter.format(asks.query), asks.query)
    const mode = asks._tag === "Query" ? drawMode(client.draws) : "linearizable"
    if (asks._tag === "Query" && mode === "stale") return yield* readStale(client, asks.query)
    const consistency = mode === "stale" ? "linearizable" : mode
    const id = ++requests
    if (asks._tag === "Command") commands.set(id, asks.command)
    const call = nowNs()
    const outcome = yield* client.ask((asked): Effect.Effect<R | A, Told> => {
      const access = accessTo(asked, id)
      return asks._tag === "Query" ? access.read(asks.query, { consistency }) : access.propose(asks.command)
    })
    const end = outcome._tag === "Unknown" ? undefined : nowNs()
    history.push({ id, client: client.number, request: asks, outcome, call, return: end })
    return outcome
  })

  return {
    stateMachine: untagging(machine.layer, (applied) => log.set(applied.index, applied)),
    request,
    contents: ({ query }) => {
      // What nobody asked so far is asked now, so that there is always something to compare.
      while (probes.size < probesMin) probes.set(`drawn ${probes.size}`, options.query(draws))
      const local = machine.on({ propose: () => Effect.never, read: query })
      const answers = Effect.forEach(probes.values(), (probe) => local.read(probe))
      return answers.pipe(Effect.map((all) => Formatter.format(all)), Effect.orDie)
    },
    findings: () =>
      LogOrder.check({
        reducer: machine.reducer,
        commands,
        log: [...log.values()].toSorted((a, b) => a.index - b.index),
        history,
        stale,
        isSame,
        format: (value) => Formatter.format(value)
      }),
    counts: () => countsOf(history.map(({ outcome }) => outcome._tag)),
    history: () => history.map((recorded) => JSON.stringify(lineOf(recorded)) + "\n").join("")
  }
}

const countsOf = (tags: ReadonlyArray<Outcome<unknown>["_tag"]>) => ({
  done: tags.filter((tag) => tag === "Done").length,
  notApplied: tags.filter((tag) => tag === "NotApplied").length,
  unknown: tags.filter((tag) => tag === "Unknown").length
})

const lineOf = <C, R, Q, A>({ call, client, outcome, request, return: end }: LogOrder.Recorded<C, R, Q, A>) => ({
  client,
  op: request._tag === "Query" ? "read" : "propose",
  key: null,
  value: Formatter.format(request._tag === "Query" ? request.query : request.command),
  expected: null,
  ok: outcome._tag === "Done" ? true : outcome._tag === "Unknown" ? null : false,
  output: outcome._tag === "Done" ? Formatter.format(outcome.value) : null,
  call,
  return: end ?? null
})

/** Clients of `machine` that ask what `options` draws. */
export const workloadOf = <S, C, R, Q, A>(
  machine: StateMachine.Machine<S, C, R, Q, A>,
  options: WorkloadOptions<C, R, Q, A>
): Workload => ({ start: (parts) => makeSession(machine, options, parts) })
