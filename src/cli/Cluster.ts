/**
 * Which servers make a cluster, from flags: `--id`, `--listen`, `--peer ID=URL`; or which cluster a new server joins: `--join URL`. Everything
 * that cannot work is found here, before anything is opened.
 */
import { createHash } from "node:crypto"
import { isNodeId, type NodeId, nodeIdRule } from "../domain/NodeId.ts"
import { serverUrlProblem } from "../layers/kv/RequestUrl.ts"

export interface Place {
  readonly host: string
  readonly port: number
}

export interface Cluster {
  readonly id: NodeId
  readonly listen: Place
  /** Where the others and clients reach this server. */
  readonly url: string
  /** Where servers are, as the flags say. */
  readonly urls: ReadonlyMap<NodeId, string>
  /** How a server without data begins: as one of these, or by asking a server of a cluster to be added to it. */
  readonly begins: { readonly _tag: "Bootstrap"; readonly clusterId: string } | Joining
}

export interface Joining {
  readonly _tag: "Join"
  /** Base URLs. */
  readonly servers: ReadonlyArray<string>
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
  if (!isNodeId(id)) return { problem: `--peer ${text}: an id has ${nodeIdRule}` }
  const url = URL.parse(text.slice(at + 1))
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    return { problem: `--peer ${text}: "${text.slice(at + 1)}" is not a URL; ${expected}` }
  }
  return serverUrlProblem(url.href) === undefined
    ? { value: { id, url } }
    : { problem: `--peer ${text}: a URL without path, query or user is needed` }
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

export interface Flags {
  readonly id: string
  readonly listen: string | undefined
  readonly peers: ReadonlyArray<string>
  readonly cluster: string
  readonly join: ReadonlyArray<string>
}

/** Where to listen: as asked, or where the server's own URL points; on the port that the others know in any case. */
const listenOf = (id: NodeId, own: URL, listen: string | undefined): Parsed<Place> => {
  const port = portOf(own)
  const place = parsePlace(listen ?? `${own.hostname}:${port}`)
  if ("problem" in place || place.value.port === port) return place
  return {
    problem: `--listen has port ${place.value.port}, but the others reach ${id} at ${own.origin}: make them the same`
  }
}

const bootstrap = ({ cluster, id, listen }: Flags, peers: ReadonlyMap<NodeId, URL>): Parsed<Cluster> => {
  if (peers.size === 0) {
    return {
      problem:
        "--peer ID=URL is needed once for every server of a new cluster, this one included; or --join URL, to join one that is there"
    }
  }
  const own = peers.get(id)
  if (own === undefined) {
    return { problem: `--peer: ${id} itself is missing; there are ${[...peers.keys()].join(", ")}` }
  }
  const place = listenOf(id, own, listen)
  if ("problem" in place) return place
  const urls = new Map(Array.from(peers, ([peer, url]) => [peer, url.origin] as const))
  const begins = { _tag: "Bootstrap" as const, clusterId: clusterIdOf(cluster, urls) }
  return { value: { id, listen: place.value, url: own.origin, urls, begins } }
}

const wildcards: ReadonlySet<string> = new Set(["0.0.0.0", "::", "0:0:0:0:0:0:0:0"])

/** The URL by which the others are to reach a server that joins. */
const ownUrl = ({ id, listen }: Flags, peers: ReadonlyMap<NodeId, URL>): Parsed<URL> => {
  const other = [...peers.keys()].find((peer) => peer !== id)
  if (other !== undefined) {
    return {
      problem:
        `--peer ${other}=…: a server that joins learns from the cluster who its members are; with --join, --peer only says where ` +
        `${id} itself is reached`
    }
  }
  const own = peers.get(id)
  if (own !== undefined) return { value: own }
  if (listen === undefined) return { problem: "--listen HOST:PORT is needed with --join" }
  const place = parsePlace(listen)
  if ("problem" in place) return place
  const { host, port } = place.value
  if (wildcards.has(host)) {
    return { problem: `--listen ${listen} says not where the others reach ${id}: add --peer ${id}=http://HOST:${port}` }
  }
  const url = URL.parse(`http://${host.includes(":") ? `[${host}]` : host}:${port}`)
  return url === null ? { problem: `--listen ${listen}: expected HOST:PORT, such as 127.0.0.1:7101` } : { value: url }
}

const joining = (flags: Flags, peers: ReadonlyMap<NodeId, URL>): Parsed<Cluster> => {
  const { id, join, listen } = flags
  for (const server of join) {
    const problem = serverUrlProblem(server)
    if (problem !== undefined) return { problem: `--join ${server}: ${problem}` }
  }
  const own = ownUrl(flags, peers)
  if ("problem" in own) return own
  const place = listenOf(id, own.value, listen)
  if ("problem" in place) return place
  const url = own.value.origin
  const servers = join.map((server) => new URL(server).origin).filter((server) => server !== url)
  if (servers.length === 0) {
    return { problem: `--join ${join.join(", ")}: that is ${id} itself; name a server of the cluster` }
  }
  const begins = { _tag: "Join" as const, servers }
  return { value: { id, listen: place.value, url, urls: new Map([[id, url]]), begins } }
}

/** The cluster that the flags describe. `listen` may be left out: then it is where the server's own URL points. */
export const parse = (flags: Flags): Parsed<Cluster> => {
  if (!isNodeId(flags.id)) return { problem: `--id ${flags.id}: an id has ${nodeIdRule}` }
  const peers = parsePeers(flags.peers)
  if ("problem" in peers) return peers
  return flags.join.length > 0 ? joining(flags, peers.value) : bootstrap(flags, peers.value)
}

/** Example: `parseElectionTimeout("150-300")`. */
export const parseElectionTimeout = (text: string): Parsed<{ readonly min: number; readonly max: number }> => {
  const match = /^(\d{1,9})-(\d{1,9})$/.exec(text)
  return match === null
    ? { problem: `--election-timeout-ms ${text}: expected MIN-MAX in milliseconds, such as 150-300` }
    : { value: { min: Number(match[1]), max: Number(match[2]) } }
}
