/**
 * Which servers make a cluster, from flags: `--id`, `--listen`, `--peer ID=URL`. Everything that cannot work is found here, before
 * anything is opened.
 */
import { createHash } from "node:crypto"
import { isNodeId, type NodeId } from "../domain/NodeId.ts"

export interface Place {
  readonly host: string
  readonly port: number
}

export interface Cluster {
  readonly id: NodeId
  readonly listen: Place
  readonly urls: ReadonlyMap<NodeId, string>
  readonly clusterId: string
}

export type Parsed<A> = { readonly value: A } | { readonly problem: string }

const portMax = 65_535

/** Example: `parsePlace("127.0.0.1:7101")`. */
export const parsePlace = (text: string): Parsed<Place> => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  const host = match?.[1] ?? match?.[2]
  return host === undefined || !(port >= 1 && port <= portMax)
    ? { problem: `--listen ${text}: expected HOST:PORT, such as 127.0.0.1:7101` }
    : { value: { host, port } }
}

const parsePeer = (text: string): Parsed<{ readonly id: NodeId; readonly url: URL }> => {
  const at = text.indexOf("=")
  const id = text.slice(0, Math.max(at, 0))
  const expected = "expected ID=URL, such as n1=http://127.0.0.1:7101"
  if (at < 1) return { problem: `--peer ${text}: ${expected}` }
  if (!isNodeId(id)) return { problem: `--peer ${text}: an id has 1 to 64 characters of A-Z a-z 0-9 . _ -` }
  const url = URL.parse(text.slice(at + 1))
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    return { problem: `--peer ${text}: "${text.slice(at + 1)}" is not a URL; ${expected}` }
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "" || url.username !== "") {
    return { problem: `--peer ${text}: a URL without path, query or user is needed` }
  }
  return { value: { id, url } }
}

const portOf = (url: URL): number => url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port)

/** The id of a new cluster: the same on every server that is given the same name and servers, in whatever order. */
export const clusterIdOf = (name: string, urls: ReadonlyMap<NodeId, string>): string => {
  const servers = Array.from(urls, ([id, url]) => `${id}=${url}`).toSorted()
  return createHash("sha256").update(JSON.stringify([name, servers])).digest("hex").slice(0, 16)
}

const parsePeers = (peers: ReadonlyArray<string>): Parsed<ReadonlyMap<NodeId, URL>> => {
  const urls = new Map<NodeId, URL>()
  const places = new Map<string, NodeId>()
  for (const text of peers) {
    const parsed = parsePeer(text)
    if ("problem" in parsed) return parsed
    const { id, url } = parsed.value
    if (urls.has(id)) return { problem: `--peer: ${id} is named twice` }
    const other = places.get(url.origin)
    if (other !== undefined) return { problem: `--peer: ${other} and ${id} have the same URL, ${url.origin}` }
    urls.set(id, url)
    places.set(url.origin, id)
  }
  return { value: urls }
}

/** The cluster that the flags describe. `listen` may be left out: then it is where the server's own URL points. */
export const parse = (flags: {
  readonly id: string
  readonly listen: string | undefined
  readonly peers: ReadonlyArray<string>
  readonly cluster: string
}): Parsed<Cluster> => {
  const { cluster, id, peers } = flags
  if (!isNodeId(id)) return { problem: `--id ${id}: an id has 1 to 64 characters of A-Z a-z 0-9 . _ -` }
  if (peers.length === 0) {
    return { problem: "--peer ID=URL is needed once for every server of the cluster, this one included" }
  }
  const parsed = parsePeers(peers)
  if ("problem" in parsed) return parsed
  const own = parsed.value.get(id)
  if (own === undefined) {
    return { problem: `--peer: ${id} itself is missing; there are ${[...parsed.value.keys()].join(", ")}` }
  }
  const port = portOf(own)
  const listen = parsePlace(flags.listen ?? `${own.hostname}:${port}`)
  if ("problem" in listen) return listen
  if (listen.value.port !== port) {
    return {
      problem: `--listen has port ${listen.value.port}, but the others reach ${id} at ${own.origin}: make them the same`
    }
  }
  const urls = new Map(Array.from(parsed.value, ([peer, url]) => [peer, url.origin] as const))
  return { value: { id, listen: listen.value, urls, clusterId: clusterIdOf(cluster, urls) } }
}

/** Example: `parseElectionTimeout("150-300")`. */
export const parseElectionTimeout = (text: string): Parsed<{ readonly min: number; readonly max: number }> => {
  const match = /^(\d{1,9})-(\d{1,9})$/.exec(text)
  return match === null
    ? { problem: `--election-timeout-ms ${text}: expected MIN-MAX in milliseconds, such as 150-300` }
    : { value: { min: Number(match[1]), max: Number(match[2]) } }
}
