/**
 * Answers clients at `/rpc` from this process's node. Merge it into the routes of an HTTP server; provide `RaftNode` outside of
 * `HttpRouter.serve`, which would otherwise build a node of its own.
 *
 * ```ts
 * HttpRouter.serve(ClientHttp.layer({ urlOf: (id) => urls[id] })).pipe(Layer.provide(raftNode), Layer.provide(httpServer))
 * ```
 *
 * A connection has `callsMax` calls under way at most: further ones are `Overloaded`. One whose client does not read what it asked for is not
 * read from either (`WebSocketRoute.ts`), and nothing more is computed for it (`services/Unread.ts`).
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import type * as Rpc from "effect/rpc/Rpc"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Connection from "../services/Connection.ts"
import { type Asked, Overloaded, RaftNode } from "../services/RaftNode.ts"
import type { UrlOf } from "../services/ServerStatus.ts"
import { Unread } from "../services/Unread.ts"
import * as ByteLists from "./ByteLists.ts"
import { callsMax, ClientRpcs, pack, path, type Propose, questionsOf, serialization } from "./ClientRpc.ts"
import * as ConfigurationCodec from "./ConfigurationCodec.ts"
import * as WebSocketRoute from "./WebSocketRoute.ts"

type ProposePayload = typeof Propose.payloadSchema.Type

/** The commands, each with its place in the session. */
const askedOf = ({ commands, session }: ProposePayload): ReadonlyArray<Asked> => {
  if (session === undefined) return questionsOf(commands).map((command) => ({ command, sequenced: undefined }))
  const { firstUnanswered, id, sequences } = session
  const asked = questionsOf(commands)
  return ByteLists.decodeNumbers(sequences, asked.length).map((sequence, i) => ({
    command: asked[i] ?? new Uint8Array(),
    sequenced: { session: id, sequence, firstUnanswered }
  }))
}

/** Counts what each connection has under way. */
const makeGate = () => {
  const underWay = new Map<number, number>()
  return <A, E, F>(
    { client: { id } }: { readonly client: Rpc.ServerClient },
    call: Effect.Effect<A, E>,
    refused: Effect.Effect<A, F>
  ): Effect.Effect<A, E | F> =>
    Effect.suspend((): Effect.Effect<A, E | F> => {
      const count = underWay.get(id) ?? 0
      if (count >= callsMax) return refused
      underWay.set(id, count + 1)
      return Effect.onExitPrimitive(call, () => {
        const left = (underWay.get(id) ?? 1) - 1
        if (left === 0) underWay.delete(id)
        else underWay.set(id, left)
        return undefined
      })
    })
}

const overloaded = Effect.fail(new Overloaded())

/** The same answer to every question. */
const allOverloaded = (questions: Uint8Array) =>
  Effect.sync(() => pack(questionsOf(questions).map(() => Exit.fail(new Overloaded())), () => true))

/** The handlers alone. `urlOf` finds the base URL of a server, for redirects and status; `unread` hears of what was sent. */
export const handlers = (options: { readonly urlOf: UrlOf; readonly unread: Unread }) =>
  ClientRpcs.toLayer(Effect.gen(function*() {
    const { unread } = options
    const here = Connection.ofNode(yield* RaftNode, options.urlOf)
    const gate = makeGate()
    return ClientRpcs.of({
      Propose: (payload, by) =>
        gate(
          by,
          unread.answering(by, (room) => Effect.map(here.propose(askedOf(payload)), (answers) => pack(answers, room))),
          allOverloaded(payload.commands)
        ),
      Read: ({ consistency, queries }, by) =>
        gate(
          by,
          unread.answering(by, (room) =>
            Effect.map(here.read(questionsOf(queries), consistency), (answers) => pack(answers, room))),
          allOverloaded(queries)
        ),
      ReadStale: ({ minIndex, query }, by) =>
        gate(
          by,
          unread.answering(by, (room) =>
            Effect.filterOrFail(here.readStale(query, minIndex), ({ answer }) =>
              room(answer.length), () =>
              new Overloaded())),
          overloaded
        ),
      OpenSession: (_, by) => gate(by, here.openSession, overloaded),
      Reconfigure: ({ changes, preview }, by) => {
        const asked = preview ? here.previewReconfigure(changes) : here.reconfigure(changes)
        return gate(by, Effect.map(asked, ConfigurationCodec.toData), overloaded)
      },
      TransferLeadership: ({ to }, by) => gate(by, here.transferLeadership(to), overloaded),
      Status: () => here.status,
      TakeSnapshot: (_, by) => gate(by, here.takeSnapshot, overloaded)
    })
  }))

/** The route `/rpc`. */
export const layer = (
  options: { readonly urlOf: UrlOf }
): Layer.Layer<never, never, RaftNode | HttpRouter.HttpRouter> =>
  Layer.suspend(() => {
    const unread = new Unread()
    const protocol = WebSocketRoute.protocol({
      path,
      purpose: "clients of the cluster talk here",
      onSent: (client, requestId) => unread.sent(client, requestId)
    })
    return RpcServer.layer(ClientRpcs, { disableTracing: true, disableFatalDefects: true }).pipe(
      Layer.provide([protocol, handlers({ ...options, unread })]),
      Layer.provide(serialization)
    )
  })
