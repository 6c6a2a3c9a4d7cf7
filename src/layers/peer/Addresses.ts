/**
 * Where the other servers are. For each what counts is, in this order
 *
 * 1. what this process was told when it started (`urls`), its own view of the network;
 * 2. the configuration in force;
 * 3. what the server itself said when it called.
 *
 * The last is how a server is answered that the configuration does not contain: whoever calls from this cluster is answered (rule V4). It may be a
 * candidate that became a member in an entry that has not arrived here yet, the leader that adds this very server, or one that was removed and is
 * to learn of that. Of such strangers the latest few are kept in mind, and each only for as long as it can be reached.
 */
import * as Configuration from "../../domain/Configuration.ts"
import type { NodeId } from "../../domain/NodeId.ts"
import * as PeerRpc from "../PeerRpc.ts"
import * as WebSocketRoute from "../WebSocketRoute.ts"

export class Addresses {
  readonly #id: NodeId
  readonly #urls: ReadonlyMap<NodeId, string>
  /** Oldest first. */
  readonly #said = new Map<NodeId, string>()
  configuration = Configuration.unknown

  constructor(id: NodeId, urls: ReadonlyMap<NodeId, string>) {
    this.#id = id
    this.#urls = urls
  }

  of(id: NodeId): string | undefined {
    return this.#urls.get(id) ?? this.configuration.addresses.get(id) ?? this.#said.get(id)
  }

  /** Where this server is reached. */
  own(): string | undefined {
    return this.of(this.#id)
  }

  isMember(id: NodeId): boolean {
    return Configuration.isMember(this.configuration, id)
  }

  /** Neither a member nor a server that this process was started with. */
  isStranger(id: NodeId): boolean {
    return !this.#urls.has(id) && !this.isMember(id)
  }

  /** Every other member. */
  peers(): ReadonlyArray<NodeId> {
    return Configuration.members(this.configuration).filter((id) => id !== this.#id)
  }

  /** Who is no member any more is still told so where it was. */
  reconfigure(next: Configuration.Configuration): void {
    const before = Configuration.members(this.configuration).map((id) => [id, this.of(id)] as const)
    this.configuration = next
    for (const [id, url] of before) if (!this.isMember(id)) this.say(id, url)
  }

  /** Takes note of where `id` says that it is. Nothing is known of that where it says what is no address. */
  say(id: NodeId, url: string | undefined): void {
    this.#said.delete(id)
    if (url === undefined || url.length > Configuration.addressCharactersMax) return
    if ("problem" in WebSocketRoute.address(url, PeerRpc.path)) return
    this.#said.set(id, url)
    const strangers = [...this.#said.keys()].filter((one) => this.isStranger(one))
    for (const oldest of strangers.slice(0, -PeerRpc.strangersMax)) this.#said.delete(oldest)
  }

  /**
   * `id` could not be reached. Answers whether to go on trying: a server that is no member calls by itself when it is back, and of a stranger
   * nothing is known until then.
   */
  unreachable(id: NodeId): boolean {
    if (this.isStranger(id)) this.#said.delete(id)
    return this.isMember(id) || (Configuration.isUnknown(this.configuration) && this.#urls.has(id))
  }
}
