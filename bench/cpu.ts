/** What processes compute, from Linux's books. */
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"

/** Of a clock tick, as all Linux systems count it for programs. */
const tickMs = 10

/** How long a process has computed so far, in milliseconds. */
export const cpuMs = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return (Number(fields[11]) + Number(fields[12])) * tickMs
}

/** `effect`'s result, and how long each process computed meanwhile. */
export const during = <A, E, R>(
  pids: ReadonlyArray<number>,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [A, ReadonlyArray<number>], E, R> =>
  Effect.suspend(() => {
    const before = pids.map(cpuMs)
    return Effect.map(effect, (result) => [result, pids.map((pid, i) => cpuMs(pid) - (before[i] ?? 0))] as const)
  })
