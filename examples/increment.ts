import { Console, Effect, Layer, Option } from "effect"
import { KeyValueClient, RaftClientHttp } from "titan-raft"

const endpoints = (process.env["TITAN_ENDPOINTS"] ?? "http://127.0.0.1:7101,http://127.0.0.1:7102").split(",")

/** One more, however many others count at the same time. */
const increment = Effect.gen(function*() {
  const store = yield* KeyValueClient.KeyValueClient
  const found = Option.getOrUndefined(yield* store.get("visits"))
  const count = Number(new TextDecoder().decode(found?.value)) + 1
  yield* store.put("visits", String(count), { ifRevision: found?.revision ?? 0 })
  return count
}).pipe(Effect.retry({ while: (error) => error._tag === "RevisionMismatch" }))

const program = Effect.gen(function*() {
  const counts = yield* Effect.all(Array.from({ length: 10 }, () => increment), { concurrency: "unbounded" })
  yield* Console.log(`${Math.max(...counts)} visits`)
})

const Live = KeyValueClient.KeyValueClient.layer.pipe(Layer.provide(RaftClientHttp.layer({ endpoints })))

await Effect.runPromise(Effect.provide(program, Live))
