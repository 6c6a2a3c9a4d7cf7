/**
 * Seeds that are run by every `npm test`. One that found a bug stays, with a line on what it found; a change of how seeds are read
 * (`Swarm.ts`) makes other runs of them all, so that the line then says what kind of run it had been.
 */
export const keptSeeds: ReadonlyArray<{ readonly seed: number; readonly why: string }> = [
  { seed: 1, why: "a sample: the first" },
  { seed: 2, why: "a sample" },
  { seed: 5, why: "a sample" },
  { seed: 385, why: "a late denial, of a request of an older term, took back a vote that had been granted" }
]
