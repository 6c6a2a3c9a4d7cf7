/**
 * The key-value state machine: a sorted map, changed by commands alone. Two stores that applied the same commands at the same indices
 * answer every query alike.
 *
 * Keys are ordered as JavaScript orders strings, by UTF-16 code units. Values are copied in: what the log hands over are views on blocks
 * of many entries, and a view that stayed here would keep its whole block in memory.
 */
import * as Layer from "effect/Layer"
import { createRequire } from "node:module"
import type SortedBTree from "sorted-btree"
import type { LogIndex } from "../../domain/Entry.ts"
import { StateMachine, type Typed } from "../../services/StateMachine.ts"
import * as Protocol from "./Protocol.ts"

interface Stored {
  readonly value: Uint8Array
  readonly revision: LogIndex
  readonly version: number
}

/** The package is CommonJS with a `default`; loaders disagree on what importing that means, and all agree on `require`. */
const { default: BTree } = createRequire(import.meta.url)("sorted-btree") as typeof SortedBTree

const byCodeUnits = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

const owned = (bytes: Uint8Array): Uint8Array =>
  bytes.constructor === Uint8Array && bytes.length === bytes.buffer.byteLength ? bytes : Uint8Array.from(bytes)

const invalid = (command: Protocol.Command): string | undefined =>
  Protocol.keyProblem(command.key) ?? (command._tag === "Put" ? Protocol.valueProblem(command.value) : undefined)

/** Constructors behind both queries and commands, over one sorted map. Each call makes a store of its own, empty. */
export const make = (): Typed<Protocol.Command, Protocol.Result, Protocol.Query, Protocol.Answer> => {
  const map = new BTree<string, Stored>(undefined, byCodeUnits)
  let lastRevision: LogIndex = 0

  const apply = (command: Protocol.Command, index: LogIndex): Protocol.Result => {
    const problem = invalid(command)
    if (problem !== undefined) return { _tag: "Invalid", message: problem }
    const current = map.get(command.key)
    const currentRevision = current?.revision ?? 0
    if (command.ifRevision !== undefined && command.ifRevision !== currentRevision) {
      return { _tag: "RevisionMismatch", revision: currentRevision }
    }
    lastRevision = index
    if (command._tag === "Delete") return { _tag: "Deleted", revision: index, deleted: map.delete(command.key) }
    map.set(command.key, { value: owned(command.value), revision: index, version: (current?.version ?? 0) + 1 })
    return { _tag: "Written", revision: index }
  }

  const get = (key: string): Protocol.Answer => {
    const found = map.get(key)
    return found === undefined ? { _tag: "Missing", revision: lastRevision } : { _tag: "Found", ...found }
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
      bytes += key.length + stored.value.length
      more = items.length === itemsMax || (items.length > 0 && bytes > Protocol.listBytesMax)
      if (more) break
      items.push({ key, ...stored })
    }
    return { _tag: "Listed", items, revision: lastRevision, more }
  }

  return {
    apply: (command, at) => apply(command, at.index),
    respond: (query) => query._tag === "Get" ? get(query.key) : list(query)
  }
}

/** A store behind `StateMachine`, empty until it is fed; a new one each time it is built. */
export const layer: Layer.Layer<StateMachine> = Layer.fresh(Layer.sync(
  StateMachine,
  () => StateMachine.of(Protocol.wire.serve(make()))
))
