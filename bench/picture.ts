/** Latency against throughput as a picture: one line for each system and shape, along which more and more is in flight. */

export interface Point {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly inFlight: number
}

export interface Line {
  readonly name: string
  readonly colour: string
  readonly points: ReadonlyArray<Point>
}

const [width, height] = [760, 460]
const frame = { left: 70, right: 720, top: 50, bottom: 400 }

const powers = (from: number, to: number): ReadonlyArray<number> => {
  const [first, last] = [Math.floor(Math.log10(from)), Math.ceil(Math.log10(to))]
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i))
}

/** Both axes are logarithmic. */
const scale = (ticks: ReadonlyArray<number>, from: number, to: number) => {
  const [first, last] = [Math.log10(ticks[0] ?? 1), Math.log10(ticks.at(-1) ?? 10)]
  return (value: number): number => Math.round(from + (to - from) * (Math.log10(value) - first) / (last - first))
}

const text = (x: number, y: number, said: string, anchor = "middle"): string =>
  `<text x="${x}" y="${y}" text-anchor="${anchor}">${said}</text>`

export const draw = (title: string, lines: ReadonlyArray<Line>): string => {
  const points = lines.flatMap((line) => line.points)
  const rates = points.map((point) => point.perSecond)
  const times = points.flatMap((point) => [point.p50Ms, point.p99Ms])
  const xTicks = powers(Math.min(...rates), Math.max(...rates))
  const yTicks = powers(Math.min(...times), Math.max(...times))
  const x = scale(xTicks, frame.left, frame.right)
  const y = scale(yTicks, frame.bottom, frame.top)
  const grid = [
    ...xTicks.map((tick) =>
      `<path class="grid" d="M${x(tick)} ${frame.top}V${frame.bottom}"/>` +
      text(x(tick), frame.bottom + 18, tick.toLocaleString("en"))
    ),
    ...yTicks.map((tick) =>
      `<path class="grid" d="M${frame.left} ${y(tick)}H${frame.right}"/>` +
      text(frame.left - 8, y(tick) + 4, `${tick}`, "end")
    )
  ]
  const drawn = lines.map(({ colour, name, points }, i) => {
    const path = (of: (point: Point) => number, dashes: string) =>
      `<path d="M${
        points.map((point) => `${x(point.perSecond)} ${y(of(point))}`).join("L")
      }" fill="none" stroke="${colour}" ${dashes}/>`
    const marks = points.map((point) =>
      `<circle cx="${x(point.perSecond)}" cy="${
        y(point.p50Ms)
      }" r="3" fill="${colour}"><title>${point.inFlight} in flight</title></circle>`
    )
    const label = `<text x="${frame.left + 10}" y="${frame.top + 16 + 18 * i}" fill="${colour}">${name}</text>`
    return path((point) => point.p50Ms, "") + path((point) => point.p99Ms, `stroke-dasharray="4 4"`) + marks.join("") +
      label
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<style>.grid{stroke:#8884;fill:none}text{fill:#777}</style>
${text(width / 2, 26, title)}
${grid.join("\n")}
${text(width / 2, frame.bottom + 42, "puts a second")}
${text(20, frame.top - 12, "ms", "start")}
${drawn.join("\n")}
</svg>
`
}
