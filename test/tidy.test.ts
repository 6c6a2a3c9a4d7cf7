/**
 * The rules of the design that a program can check.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"

const root = resolve(import.meta.dirname, "..")

/** Files of the project: tracked, or new and not ignored. Outside a checkout there is nothing to check. */
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8"
})
  .split("\n")
  .filter((file) => file !== "" && existsSync(join(root, file)))

const read = (file: string): string => readFileSync(join(root, file), "utf8")
const code = files.filter((file) => /\.(?:ts|mts)$/.test(file))
const sources = code.filter((file) => file.startsWith("src/"))

const assertNone = (findings: ReadonlyArray<string>) => assert.deepStrictEqual(findings, [])

const linesWhere = (paths: ReadonlyArray<string>, isFound: (line: string, file: string) => boolean) =>
  paths.flatMap((file) =>
    read(file).split("\n").flatMap((line, i) =>
      isFound(line, file) ? [`${file}:${i + 1} ${line.trim().slice(0, 100)}`] : []
    )
  )

/** Module specifiers that a file imports, types included. */
const importsOf = (file: string): ReadonlyArray<string> =>
  [...read(file).matchAll(/^(?:import|export)\s[^"]*?from "([^"]+)"|^import "([^"]+)"|\bimport\("([^"]+)"\)/gms)]
    .flatMap((match) => match[1] ?? match[2] ?? match[3] ?? [])

const targetOf = (file: string, specifier: string): string => relative(root, resolve(root, dirname(file), specifier))

const floors = ["domain", "services", "layers", "testing", "cli"] as const

const floorOf = (file: string): number => {
  const folder = file.split("/")[1] ?? ""
  return file === "src/main.ts"
    ? floors.length
    : ["src/index.ts", "src/testing.ts", "src/promise.ts"].includes(file)
    ? 3
    : floors.findIndex((floor) => floor === folder)
}

/** Formats and protocols that several layers speak: a layer may import these, and nothing else beside its own folder. */
const spoken = new Set(
  [
    "Codec.ts",
    "ConfigurationCodec.ts",
    "ByteLists.ts",
    "Bytes.ts",
    "MessageCodec.ts",
    "MessageFrame.ts",
    "SnapshotFormat.ts",
    "PeerRpc.ts",
    "PeerClient.ts",
    "PeerFrames.ts",
    "PeerSocket.ts",
    "DirectCalls.ts",
    "ClientRpc.ts",
    "WebSocketRoute.ts"
  ].map((name) => `src/layers/${name}`)
)

/** One layer in several files: they may import each other. */
const storageFile = new Set(
  ["StorageFile.ts", "DisksFile.ts", "LostQuorum.ts", "SnapshotFile.ts", "SnapshotRecovery.ts"].map((name) =>
    `src/layers/${name}`
  )
)

describe("the tree is tidy", () => {
  it("the checks see the project's files", () => {
    assert.isAbove(sources.length, 30)
    assert.include(importsOf("src/domain/Step.ts"), "./Election.ts")
  })

  it("no file has more than 400 lines", () => {
    assertNone(code.filter((file) => read(file).split("\n").length > 401))
  })

  it("imports go downward only: main, cli, layers, services, domain", () => {
    assertNone(sources.flatMap((file) =>
      importsOf(file)
        .filter((specifier) => specifier.startsWith(".") && floorOf(targetOf(file, specifier)) > floorOf(file))
        .map((specifier) => `${file} imports ${specifier}`)
    ))
  })

  it("a layer imports no other layer, its own parts and folder and the spoken protocols aside", () => {
    assertNone(
      sources.filter((file) => file.startsWith("src/layers/")).flatMap((file) =>
        importsOf(file)
          .filter((specifier) => specifier.startsWith("."))
          .map((specifier) => targetOf(file, specifier))
          .filter((target) => target.startsWith("src/layers/") && !spoken.has(target))
          .filter((target) => !(storageFile.has(file) && storageFile.has(target)))
          .filter((target) => dirname(target) === "src/layers" || !owns(file, dirname(target)))
          .map((target) => `${file} imports ${target}`)
      )
    )
  })

  it("modules of the core import each other without cycles", () => {
    const graph = new Map(
      sources.filter((file) => floorOf(file) === 0).map((file) => [file, valueImports(file)] as const)
    )
    assertNone([...graph.keys()].filter((file) => reaches(graph, file, file)))
  })

  it("the core knows no effect, clock, randomness or input and output", () => {
    const core = sources.filter((file) => file.startsWith("src/domain/"))
    const banned =
      /\b(?:Math\.random|Date|performance|setTimeout|setInterval|setImmediate|console|process|async|await|Promise)\b/
    assertNone(linesWhere(core, (line) => !/^\s*(?:\*|\/\/|\/\*)/.test(line) && banned.test(line)))
    assertNone(
      core.flatMap((file) =>
        importsOf(file).filter((name) => !name.startsWith("./") && name !== "effect/Schema").map((name) =>
          `${file} imports ${name}`
        )
      )
    )
  })

  it("effect is imported by module, never as a barrel; examples may, as a user's program would", () => {
    const ours = code.filter((file) => !file.startsWith("examples/"))
    assertNone(
      ours.filter((file) => importsOf(file).some((name) => name === "effect" || name === "@effect/platform-node"))
    )
  })

  it("names say what a thing is", () => {
    const vague = /(?:^|[/._-])(?:utils?|helpers?|common|shared|misc|manager|info|base|impl)(?=[./_-]|$)/i
    assertNone(code.filter((file) => vague.test(file)))
    assertNone(sources.filter((file) => file.endsWith("/index.ts") && file !== "src/index.ts"))
    const declared =
      /\b(?:const|let|class|interface|type|function)\s+(?:\w*(?:Utils?|Helpers?|Manager|Impl|Misc)|utils?|helpers?|misc)\b/
    assertNone(linesWhere(sources, (line) => declared.test(line)))
  })

  it("nothing is left to do later, silenced, skipped or addressed to a machine of ours", () => {
    const others = files.filter((file) =>
      /\.(?:ts|md|json|yml)$/.test(file) && file !== "test/tidy.test.ts" && file !== "package-lock.json"
    )
    assertNone(
      linesWhere(
        others,
        (line) => /\b(?:TODO|FIXME|XXX|HACK)\b|@ts-(?:ignore|nocheck)|(?:it|describe)\.(?:only|skip)\b/.test(line)
      )
    )
    assertNone(linesWhere([...others, "package-lock.json"], (line) => /\/work\/|registry\.[a-z]+\.[a-z]+/.test(line)))
  })

  it("dependencies have exact versions", () => {
    const manifest: Record<string, Record<string, string>> = JSON.parse(read("package.json"))
    const all = { ...manifest["dependencies"], ...manifest["devDependencies"] }
    assertNone(Object.entries(all).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version)).map(([name]) => name))
  })

  it("scripts run on the pinned Node", () => {
    const manifest: Record<string, Record<string, unknown>> = JSON.parse(read("package.json"))
    assert.strictEqual(process.versions.node, manifest["devDependencies"]?.["node"])
    assert.strictEqual(manifest["allowScripts"]?.["node"], true)
  })
})

/** `layers/StorageFile.ts` owns the folder `layers/wal`; a file in a folder owns that folder. */
const owns = (file: string, folder: string): boolean =>
  dirname(file) === folder || folder.startsWith(`${dirname(file)}/`)

const valueImports = (file: string): ReadonlyArray<string> =>
  [...read(file).matchAll(/^import (?!type )[^"]*?from "(\.[^"]+)"/gms)].flatMap((match) =>
    match[1] === undefined ? [] : [targetOf(file, match[1])]
  )

const reaches = (graph: ReadonlyMap<string, ReadonlyArray<string>>, from: string, to: string): boolean => {
  const seen = new Set<string>()
  const open = [...graph.get(from) ?? []]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next === to) return true
    if (seen.has(next)) continue
    seen.add(next)
    open.push(...graph.get(next) ?? [])
  }
  return false
}
