/** Rows as aligned columns. The first row is the heading. */
export const format = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = widthsOf(rows)
  return rows.map((row) => line(row, widths)).join("\n")
}

/** A row whose last cells give way to a text, which stands outside of the columns: it is as long as it is. */
export interface Row {
  readonly cells: ReadonlyArray<string>
  readonly text?: string
}

export const formatRows = (heading: ReadonlyArray<string>, rows: ReadonlyArray<Row>): string => {
  const widths = widthsOf([heading, ...rows.map(({ cells }) => cells)])
  const lines = rows.map(({ cells, text }) => text === undefined ? line(cells, widths) : line([...cells, text], widths))
  return [line(heading, widths), ...lines].join("\n")
}

const widthsOf = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<number> =>
  (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))

const line = (cells: ReadonlyArray<string>, widths: ReadonlyArray<number>): string =>
  cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd()
