/** Log lines: logfmt on stderr, pretty on a terminal, or JSON on stderr. */
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"

export const formats = ["auto", "logfmt", "pretty", "json"] as const
export type Format = (typeof formats)[number]

const loggerOf = (format: Format) => {
  switch (format) {
    case "json":
      return Logger.withConsoleError(Logger.formatJson)
    case "logfmt":
      return Logger.withConsoleError(Logger.formatLogFmt)
    case "pretty":
      return Logger.consolePretty()
    case "auto":
      return loggerOf(process.stdout.isTTY ? "pretty" : "logfmt")
  }
}

export const layer = (format: Format): Layer.Layer<never> => Logger.layer([loggerOf(format)])
