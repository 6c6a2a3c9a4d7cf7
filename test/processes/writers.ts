/**
 * Clients that write over plain HTTP without pause, each in a session, whatever happens to the servers: what a client is to do that wants every
 * write done once. They count what they were told.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

export interface Load {
  /** Waits until so many more writes than now were acknowledged. */
  readonly progress: (writes: number) => Effect.Effect<void>
  /** Ends after the writes that are under way. */
  readonly stop: Effect.Effect<Written>
}

export interface Written {
  /** By key: how often it was written, which is also the last value. */
  readonly counts: ReadonlyMap<string, number>
  readonly acknowledged: number
  /** The longest time without an acknowledgement to anybody, in milliseconds. */
  readonly longestGapMs: number
  /** What was answered instead of success, how often: all of it was tried again. */
  readonly retried: ReadonlyMap<string, number>
  /** What no client can try again. */
  readonly fatal: ReadonlyArray<string>
}

interface Reply {
  readonly status: number
  readonly body: string
  readonly location: string | null
}

const attemptMs = 3000

const send = (url: string, method: string, headers: Record<string, string>, body: string): Effect.Effect<Reply> =>
  Effect.promise(async () => {
    try {
      const signal = AbortSignal.timeout(attemptMs)
      const response = await fetch(url, {
        method,
        headers,
        redirect: "manual",
        signal,
        ...(body === "" ? {} : { body })
      })
      return { status: response.status, body: await response.text(), location: response.headers.get("location") }
    } catch {
      // No connection, a broken one, or no answer: the session makes it safe to send it again.
      return { status: 0, body: "no answer", location: null }
    }
  })

const retryable = new Set([0, 307, 503, 504])

/** Starts `writers` clients of the servers at `urls`, which may change meanwhile. */
export const start = Effect.fnUntraced(function*(
  urls: () => ReadonlyArray<string>,
  writers: number
): Effect.fn.Return<Load, never, Scope.Scope> {
  const counts = new Map<string, number>()
  const retried = new Map<string, number>()
  const fatal: Array<string> = []
  const state = { isStopping: false }
  let acknowledged = 0
  let lastMs = performance.now()
  let longestGapMs = 0

  const acknowledge = () => {
    const nowMs = performance.now()
    longestGapMs = Math.max(longestGapMs, nowMs - lastMs)
    lastMs = nowMs
    acknowledged++
  }

  const writer = Effect.fnUntraced(function*(name: string) {
    let at = urls()[0] ?? ""
    let turn = 0
    /** One request, sent until it is answered; `undefined` when that can never be. */
    const request = Effect.fnUntraced(
      function*(path: string, method: string, headers: Record<string, string>, body: string) {
        for (;;) {
          const reply = yield* send(`${at}${path}`, method, headers, body)
          if (reply.status === 200) return reply.body
          const text = `${reply.status} ${reply.body}`
          if (!retryable.has(reply.status)) {
            fatal.push(text)
            return undefined
          }
          retried.set(text, (retried.get(text) ?? 0) + 1)
          if (reply.location !== null) at = new URL(reply.location).origin
          else {
            const all = urls()
            at = all[++turn % all.length] ?? ""
            yield* Effect.sleep(10)
          }
        }
      }
    )
    const opened = yield* request("/v1/sessions", "POST", {}, "")
    if (opened === undefined) return
    const { session } = JSON.parse(opened) as { session: number }
    for (let sequence = 1; !state.isStopping; sequence++) {
      const headers = {
        "titan-session": `${session}`,
        "titan-sequence": `${sequence}`,
        "titan-first-unanswered": `${sequence}`
      }
      if ((yield* request(`/v1/kv/${name}`, "PUT", headers, `${sequence}`)) === undefined) return
      counts.set(name, sequence)
      acknowledge()
    }
  })

  const running = yield* Effect.forkScoped(
    Effect.forEach(Array.from({ length: writers }, (_, i) => `writer-${i + 1}`), writer, {
      concurrency: "unbounded",
      discard: true
    }),
    { startImmediately: true }
  )
  return {
    progress: (writes) =>
      Effect.suspend(() => {
        const until = acknowledged + writes
        return Effect.repeat(Effect.sleep(5), { while: () => acknowledged < until && fatal.length === 0 })
      }).pipe(Effect.asVoid),
    stop: Effect.gen(function*() {
      state.isStopping = true
      yield* Fiber.join(running)
      return { counts, acknowledged, longestGapMs: Math.round(longestGapMs), retried, fatal }
    })
  }
})
