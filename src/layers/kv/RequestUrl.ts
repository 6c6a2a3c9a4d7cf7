/**
 * What a request's URL must be before it is routed. A router forgives: it cuts a path at `;`, reads a broken escape as text and takes no
 * note of parameters it does not know. In a store each of these writes another key than the one that was asked for.
 */

const keys = "/v1/kv/"
const parameters: ReadonlySet<string> = new Set(["prefix", "limit", "after", "if-revision", "consistency", "min-index"])

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

const queryProblem = (query: string): string | undefined => {
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

/** Checks the URL of a request, path and query as they were sent; answers the one to route. Others than `/v1/kv` pass as they are. */
export const check = (url: string): Checked => {
  const queryAt = url.indexOf("?")
  const path = queryAt === -1 ? url : url.slice(0, queryAt)
  const query = queryAt === -1 ? "" : url.slice(queryAt + 1)
  if (path !== "/v1/kv" && !path.startsWith(keys)) {
    // The router decodes before it compares, and would take such a path for a key's without the checks below.
    const isDisguised = isEncodedUtf8(path) && /^\/v1\/kv(?:\/|$)/.test(decodeURIComponent(path))
    return isDisguised ? invalid("path: /v1/kv must be written as it is") : { _tag: "Valid", url }
  }
  const problem = (path.startsWith(keys) ? keyProblem(path.slice(keys.length)) : undefined) ?? queryProblem(query)
  if (problem !== undefined) return invalid(problem)
  const routed = path.replaceAll(";", "%3B").replaceAll("#", "%23")
  return {
    _tag: "Valid",
    url: queryAt === -1 ? routed : `${routed}?${query.replaceAll(";", "%3B").replaceAll("#", "%23")}`
  }
}
