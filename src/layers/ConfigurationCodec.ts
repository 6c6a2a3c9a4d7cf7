/**
 * A configuration as data: in the log, at the log's start, in the head of a snapshot and on the wire.
 *
 * ```json
 * { "voters": ["n1"], "learners": ["n2"], "joining": ["n2"], "outgoing": ["n1"], "addresses": [["n1", "http://127.0.0.1:7101"]] }
 * ```
 *
 * Addresses are pairs, since a server may be named like a property that every object has. What is empty is left out, but for voters and
 * learners, which programs without the rest wrote as well.
 */
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as Configurations from "../domain/Configuration.ts"

const Ids = Schema.Array(Schema.String)

export const ConfigurationData = Schema.Struct({
  voters: Ids,
  learners: Ids,
  joining: Schema.optionalKey(Ids),
  outgoing: Schema.optionalKey(Ids),
  addresses: Schema.optionalKey(Schema.Array(Schema.Tuple([Schema.String, Schema.String])))
})
export type ConfigurationData = typeof ConfigurationData.Type

export const toData = (
  { addresses, joining, learners, outgoing, voters }: Configurations.Configuration
): ConfigurationData => ({
  voters,
  learners,
  ...(joining.length === 0 ? {} : { joining }),
  ...(outgoing.length === 0 ? {} : { outgoing }),
  ...(addresses.size === 0 ? {} : { addresses: [...addresses] })
})

export const fromData = ({ addresses, ...lists }: ConfigurationData): Configurations.Configuration =>
  Configurations.make({ ...lists, addresses: new Map(addresses) })

/** Why this is no configuration of a cluster; nothing where it is one. What is quoted is short. */
export const problem = (data: ConfigurationData): string | undefined => {
  const configuration = fromData(data)
  if ((data.addresses ?? []).length !== configuration.addresses.size) return "it has two addresses of one server"
  return Configurations.problem(configuration)?.slice(0, 256)
}

const Json = Schema.fromJsonString(ConfigurationData)
const encodeJson = Schema.encodeSync(Json)
const decodeJson = Schema.decodeUnknownSync(Json)

export const encode = (configuration: Configurations.Configuration): Buffer =>
  Buffer.from(encodeJson(toData(configuration)))

/** Throws a `SchemaError` where these bytes are none. What it says is still to be judged: by `problem`. */
export const decode = (bytes: Buffer): ConfigurationData => decodeJson(bytes.toString("utf8"))
