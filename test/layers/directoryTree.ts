/**
 * A directory and all below it, as a process changes it, and what of that a loss of power can leave: names as they are, as they were synced, or
 * with only one of the changes since then; and bytes as they are or as they were synced.
 */
import * as Effect from "effect/Effect"
import Fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import * as Path from "node:path"
import { isCreating, isSynchronous } from "./storageDirectory.ts"

interface FileNode {
  readonly _tag: "File"
  now: Buffer
  durable: Buffer
}

interface DirectoryNode {
  readonly _tag: "Directory"
  readonly now: Map<string, Node>
  durable: ReadonlyMap<string, Node>
  /** What was done to `now` since it was synced. */
  unsynced: Array<(names: Map<string, Node>) => void>
}

type Node = FileNode | DirectoryNode

/** Paths below the root: bytes of a file, or `undefined` of a directory. */
export type Tree = ReadonlyMap<string, Buffer | undefined>

export const treeOf = (root: string): Tree =>
  new Map(
    Fs.readdirSync(root, { recursive: true, withFileTypes: true }).map((entry) => {
      const path = Path.join(entry.parentPath, entry.name)
      return [Path.relative(root, path), entry.isDirectory() ? undefined : Fs.readFileSync(path)] as const
    }).toSorted(([a], [b]) => a < b ? -1 : 1)
  )

/** Makes `root` hold exactly this. */
export const plant = (root: string, tree: Tree): void => {
  for (const name of Fs.readdirSync(root)) Fs.rmSync(Path.join(root, name), { recursive: true })
  for (const [path, bytes] of tree) {
    if (bytes === undefined) Fs.mkdirSync(Path.join(root, path))
    else Fs.writeFileSync(Path.join(root, path), bytes)
  }
}

export const isSameTree = (a: Tree, b: Tree): boolean =>
  a.size === b.size &&
  [...a].every(([path, bytes]) => b.has(path) && (bytes === undefined || b.get(path)?.equals(bytes) === true))

const nodeOf = (path: string): Node => {
  if (!Fs.statSync(path).isDirectory()) {
    const bytes = Fs.readFileSync(path)
    return { _tag: "File", now: bytes, durable: bytes }
  }
  const children = Fs.readdirSync(path).map((name) => [name, nodeOf(Path.join(path, name))] as const)
  return { _tag: "Directory", now: new Map(children), durable: new Map(children), unsynced: [] }
}

const written = (before: Buffer, position: number, bytes: Uint8Array): Buffer => {
  const after = Buffer.alloc(Math.max(before.length, position + bytes.length))
  before.copy(after)
  after.set(bytes, position)
  return after
}

class Model {
  readonly #root: string
  readonly #top: Node

  constructor(root: string) {
    this.#root = root
    this.#top = nodeOf(root)
  }

  find(path: string): Node | undefined {
    const names = Path.relative(this.#root, path).split(Path.sep).filter((name) => name !== "")
    let node: Node | undefined = this.#top
    for (const name of names) node = node?._tag === "Directory" ? node.now.get(name) : undefined
    return node
  }

  #change(directory: string, change: (names: Map<string, Node>) => void): void {
    const node = this.find(directory)
    if (node?._tag !== "Directory") return
    change(node.now)
    node.unsynced.push(change)
  }

  put(path: string, node: Node): void {
    this.#change(Path.dirname(path), (names) => names.set(Path.basename(path), node))
  }

  take(path: string): void {
    this.#change(Path.dirname(path), (names) => names.delete(Path.basename(path)))
  }

  /** Within a directory. */
  rename(from: string, to: string): void {
    const node = this.find(from)
    if (node === undefined) return
    this.#change(Path.dirname(from), (names) => {
      names.delete(Path.basename(from))
      names.set(Path.basename(to), node)
    })
  }

  #image(namesOf: (node: DirectoryNode) => ReadonlyMap<string, Node>, bytes: "now" | "durable"): Tree {
    const tree = new Map<string, Buffer | undefined>()
    const walk = (node: Node, path: string): void => {
      if (node._tag === "File") tree.set(path, node[bytes])
      else {
        if (path !== "") tree.set(path, undefined)
        for (const [name, child] of namesOf(node)) walk(child, Path.join(path, name))
      }
    }
    walk(this.#top, "")
    return tree
  }

  *images(): Generator<Tree> {
    for (const bytes of ["now", "durable"] as const) {
      yield this.#image(({ now }) => now, bytes)
      yield this.#image(({ durable }) => durable, bytes)
      const most = this.#top._tag === "Directory" ? this.#top.unsynced.length : 0
      for (let only = 0; only < most; only++) {
        yield this.#image(({ durable, unsynced }) => {
          const names = new Map(durable)
          unsynced[only]?.(names)
          return names
        }, bytes)
      }
    }
  }
}

type Done = (error: NodeJS.ErrnoException | null, ...rest: ReadonlyArray<unknown>) => void
type Call = (...args: ReadonlyArray<unknown>) => void

const names = ["open", "write", "rename", "unlink", "mkdir", "rmdir", "fsync", "fdatasync"] as const

/** What `run` does below `root`; and every tree that a loss of power in the middle of it could leave, each once, oldest first. */
export const lossesOf = <A, E, R>(
  root: string,
  run: Effect.Effect<A, E, R>
): Effect.Effect<{ readonly result: A; readonly trees: ReadonlyArray<Tree> }, E, R> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const model = new Model(root)
      const trees: Array<Tree> = []
      const originals = Object.fromEntries(names.map((name) => [name, Fs[name] as unknown as Call]))
      const nodes = new Map<number, Node>()
      const synchronous = new Set<number>()
      const note = (): void => {
        for (const tree of model.images()) if (!trees.some((one) => isSameTree(one, tree))) trees.push(tree)
      }
      /** Notes what a call did, once it has. */
      const watched =
        (name: string, did: (args: ReadonlyArray<unknown>, value: unknown) => void): Call => (...args) => {
          const done = args.at(-1) as Done
          const after: Done = (error, ...rest) => {
            if (error === null) {
              did(args, rest[0])
              note()
            }
            done(error, ...rest)
          }
          originals[name]?.(...args.slice(0, -1), after)
        }
      const synced = ([fd]: ReadonlyArray<unknown>): void => {
        const node = nodes.get(Number(fd))
        if (node?._tag === "File") node.durable = node.now
        else if (node !== undefined) {
          node.durable = new Map(node.now)
          node.unsynced = []
        }
      }
      note()
      Object.assign(Fs, {
        open: watched("open", ([path, flags], fd) => {
          if (isCreating(flags)) {
            model.put(String(path), { _tag: "File", now: Buffer.alloc(0), durable: Buffer.alloc(0) })
          }
          const node = model.find(String(path))
          if (node !== undefined) nodes.set(Number(fd), node)
          synchronous.delete(Number(fd))
          if (isSynchronous(flags)) synchronous.add(Number(fd))
        }),
        write: watched("write", ([fd, bytes, offset, , position], count) => {
          const node = nodes.get(Number(fd))
          const part = (bytes as Uint8Array).subarray(Number(offset), Number(offset) + Number(count))
          if (node?._tag === "File") node.now = written(node.now, Number(position), part)
          if (!synchronous.has(Number(fd))) return
          note()
          synced([fd])
        }),
        rename: watched("rename", ([from, to]) => model.rename(String(from), String(to))),
        unlink: watched("unlink", ([path]) => model.take(String(path))),
        rmdir: watched("rmdir", ([path]) => model.take(String(path))),
        mkdir: watched(
          "mkdir",
          ([path]) => model.put(String(path), { _tag: "Directory", now: new Map(), durable: new Map(), unsynced: [] })
        ),
        fsync: watched("fsync", synced),
        fdatasync: watched("fdatasync", synced)
      })
      syncBuiltinESMExports()
      return { originals, trees }
    }),
    ({ trees }) => Effect.map(run, (result) => ({ result, trees })),
    ({ originals }) =>
      Effect.sync(() => {
        Object.assign(Fs, originals)
        syncBuiltinESMExports()
      })
  )
