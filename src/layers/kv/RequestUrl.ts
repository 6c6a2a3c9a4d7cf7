/**
 * What a request's URL must be before it is routed. A router forgives: it cuts a path at `;`, reads a broken escape as text and takes no
 * note of parameters it does not know. In a store each of these writes another key than the one that was asked for.
 */

const keys = "/v1/kv/"
const ofKeys: ReadonlySet<string> = new Set(["prefix", "limit", "after", "if-revision", "consistency", "min-index"])
const ofChanges: ReadonlySet<string> = new Set(["dry-run"])
const none: ReadonlySet<string> = new Set()

/** What changes the cluster: there a parameter that is overlooked, `?dryrun=true`, would do what it was to prevent. */
const changes = /^\/v1\/(?:members|configuration|leadership|sessions)(?:[/;#]|$)/

export type Checked =
  | { readonly _tag: "Valid"; readonly url: string }
  | { readonly _tag: "Invalid"; readonly problem: string }

const invalid = (problem: string): Checked => ({ _tag: "Invalid", problem })

const isEncodedUtf8 = (text: string): boolean => {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

const keyProblem = (encoded: string): string | undefined => {
  if (encoded.includes("/")) return "key: a '/' in a key must be percent-encoded, as %2F"
  return isEncodedUtf8(encoded) ? undefined : "key: not percent-encoded UTF-8"
}

const queryProblem = (query: string, parameters: ReadonlySet<string>): string | undefined => {
  const seen = new Set<string>()
  for (const part of query.split("&")) {
    if (part === "") continue
    const [name = ""] = part.split("=", 1)
    if (!parameters.has(name)) return `${name}: no such parameter`
    if (seen.has(name)) return `${name}: given twice`
    if (!isEncodedUtf8(part)) return `${name}: not percent-encoded UTF-8`
    seen.add(name)
  }
  return undefined
}

/** The router decodes before it compares, and would take such a path for one of ours without the checks on those. */
const isDisguised = (path: string): boolean => {
  if (!isEncodedUtf8(path)) return false
  const decoded = decodeURIComponent(path)
  return /^\/v1\/kv(?:[/;#]|$)/.test(decoded) || changes.test(decoded)
}

const checkOther = (url: string, path: string, query: string): Checked => {
  // No id, and no name of ours, needs an escape; and the router would cut the path at a `;`.
  const isPlain = /^[A-Za-z0-9._/-]*$/.test(path)
  if (!isPlain) {
    return isDisguised(path)
      ? invalid("path: must be written as it is, without escapes")
      : { _tag: "Valid", url }
  }
  if (!changes.test(path)) return { _tag: "Valid", url }
  const problem = queryProblem(query, /^\/v1\/[mc]/.test(path) ? ofChanges : none)
  return problem === undefined ? { _tag: "Valid", url } : invalid(problem)
}

/**
 * Checks the URL of a request, path and query as they were sent; answers the one to route. Others than those of keys and of what changes the
 * cluster pass as they are.
 */
export const check = (url: string): Checked => {
  const queryAt = url.indexOf("?")
  const path = queryAt === -1 ? url : url.slice(0, queryAt)
  const query = queryAt === -1 ? "" : url.slice(queryAt + 1)
  if (path !== "/v1/kv" && !path.startsWith(keys)) return checkOther(url, path, query)
  const problem = (path.startsWith(keys) ? keyProblem(path.slice(keys.length)) : undefined) ??
    queryProblem(query, ofKeys)
  if (problem !== undefined) return invalid(problem)
  const routed = path.replaceAll(";", "%3B").replaceAll("#", "%23")
  return {
    _tag: "Valid",
    url: queryAt === -1 ? routed : `${routed}?${query.replaceAll(";", "%3B").replaceAll("#", "%23")}`
  }
}

/** Why this is no base URL of a server, or `undefined` when it is one. Example: `serverUrlProblem("http://127.0.0.1:7101")`. */
export const serverUrlProblem = (text: string): string | undefined => {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol) || url.hostname === "") {
    return "must be a URL, such as http://127.0.0.1:7101"
  }
  const isBare = url.pathname === "/" && url.search === "" && url.hash === "" && url.username === "" &&
    url.password === ""
  return isBare ? undefined : "must be a URL without path, query or user"
}
