import { connect } from "titan-raft/promise"

const endpoints = (process.env["TITAN_ENDPOINTS"] ?? "http://127.0.0.1:7101,http://127.0.0.1:7102").split(",")

const titan = connect({ endpoints })

const { revision } = await titan.put("account/7", "100")
const found = await titan.get("account/7")
console.log(new TextDecoder().decode(found?.value), found?.revision === revision)

try {
  await titan.put("account/7", "90", { ifRevision: revision - 1 })
} catch (error) {
  console.log((error as Error).message)
}

await titan.close()
