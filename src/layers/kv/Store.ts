/**
 * The key-value state machine: a sorted map, changed by commands alone. Two stores that applied the same commands at the same indices
 * answer every query alike.
 *
 * Keys are ordered as JavaScript orders strings, by UTF-16 code units. Values are copied in and out (`Stored.ts`): what the log hands over are
 * views on blocks of many entries, and a view that stayed here would keep its whole block in memory.
 *
 * A snapshot takes a clone of the tree, which costs nothing: from then on the first write to a node of the tree copies that node, at most 32
 * keys and as many references. The clone is written out (`Content.ts`) while commands go on.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createRequire } from "node:module"
import type SortedBTree from "sorted-btree"
import type { LogIndex } from "../../domain/Entry.ts"
import { StateMachine, type Typed } from "../../services/StateMachine.ts"
import * as Content from "./Content.ts"
import * as Protocol from "./Protocol.ts"
import * as Stored from "./Stored.ts"

/** The package is CommonJS with a `default`; loaders disagree on what importing that means, and all agree on `require`. */
const { default: BTree } = createRequire(import.meta.url)("sorted-btree") as typeof SortedBTree

const byCodeUnits = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

const emptyMap = () => new BTree<string, Stored.Stored>(undefined, byCodeUnits)

const read = (stored: Stored.Stored) => ({
  value: Stored.value(stored),
  revision: Stored.revision(stored),
  version: Stored.version(stored)
})

const invalid = (command: Protocol.Command): string | undefined =>
  Protocol.keyProblem(command.key) ?? (command._tag === "Put" ? Protocol.valueProblem(command.value) : undefined)

/** Constructors behind both queries and commands, over one sorted map. Each call makes a store of its own, empty. */
export const make = (): Typed<Protocol.Command, Protocol.Result, Protocol.Query, Protocol.Answer> => {
  let map = emptyMap()
  let lastRevision: LogIndex = 0

  const apply = (command: Protocol.Command, index: LogIndex): Protocol.Result => {
    const problem = invalid(command)
    if (problem !== undefined) return { _tag: "Invalid", message: problem }
    const current = map.get(command.key)
    const currentRevision = current === undefined ? 0 : Stored.revision(current)
    if (command.ifRevision !== undefined && command.ifRevision !== currentRevision) {
      return { _tag: "RevisionMismatch", revision: currentRevision }
    }
    lastRevision = index
    if (command._tag === "Delete") return { _tag: "Deleted", revision: index, deleted: map.delete(command.key) }
    const version = current === undefined ? 1 : Stored.version(current) + 1
    map.set(command.key, Stored.make(command.value, index, version))
    return { _tag: "Written", revision: index }
  }

  const get = (key: string): Protocol.Answer => {
    const found = map.get(key)
    return found === undefined ? { _tag: "Missing", revision: lastRevision } : { _tag: "Found", ...read(found) }
  }

  const list = ({ after, limit, prefix }: Extract<Protocol.Query, { readonly _tag: "List" }>): Protocol.Answer => {
    const itemsMax = Math.min(Math.max(limit, 1), Protocol.listLimitMax)
    const items: Array<Protocol.Item> = []
    let bytes = 0
    let more = false
    const from = after !== undefined && after > prefix ? after : prefix
    for (const [key, stored] of map.entries(from)) {
      if (!key.startsWith(prefix)) break
      if (after !== undefined && key <= after) continue
      bytes += key.length + Stored.valueBytes(stored)
      more = items.length === itemsMax || (items.length > 0 && bytes > Protocol.listBytesMax)
      if (more) break
      items.push({ key, ...read(stored) })
    }
    return { _tag: "Listed", items, revision: lastRevision, more }
  }

  return {
    apply: (command, at) => apply(command, at.index),
    respond: (query) => query._tag === "Get" ? get(query.key) : list(query),
    snapshot: Effect.sync(() => {
      const copy = map.clone()
      return Content.write({ lastRevision, count: copy.size, entries: copy.entries(undefined, ["", ""]) })
    }),
    restore: (content) =>
      Effect.suspend(() => {
        const restored = emptyMap()
        const records = Content.read(content, (key, stored) => void restored.set(key, stored))
        return Effect.map(records, (revision) => {
          map = restored
          lastRevision = revision
        })
      })
  }
}

/** A store behind `StateMachine`, empty until it is fed; a new one each time it is built. */
export const layer: Layer.Layer<StateMachine> = Layer.fresh(Layer.sync(
  StateMachine,
  () => StateMachine.of(Protocol.wire.serve(make()))
))
