/** How everything in this folder is timed. */

/** Seconds of several timed runs of the same work. */
export interface Timing {
  readonly seconds: number
  readonly fastest: number
  readonly slowest: number
  readonly runs: number
}

/** One of several ways to do the same work. */
export interface Contender {
  readonly name: string
  /** One run; it must leave nothing behind that a second run would trip over. */
  readonly run: () => unknown
}

/** How long and how often {@link timeTogether} looks. */
export interface Patience {
  /** Timed rounds, each of one sample per contender. */
  readonly rounds: number
  /** A contender runs untimed for so many seconds, and at least once. */
  readonly warmUpSeconds: number
  /** A sample repeats work that takes less than this, and counts the mean. */
  readonly sampleSeconds: number
}

export const thorough: Patience = { rounds: 9, warmUpSeconds: 0.3, sampleSeconds: 0.02 }
export const hasty: Patience = { rounds: 3, warmUpSeconds: 0.02, sampleSeconds: 0.002 }

/**
 * Times contenders in turn, round by round, so that whatever else slows the machine slows all of them and their ratios
 * hold. The first call of each is warm-up.
 */
export async function timeTogether(
  contenders: readonly Contender[],
  { rounds, warmUpSeconds, sampleSeconds }: Patience,
): Promise<Map<string, Timing>> {
  const repeats: number[] = []
  for (const { run } of contenders) {
    const estimate = await warmUp(run, warmUpSeconds)
    repeats.push(Math.max(1, Math.ceil(sampleSeconds / estimate)))
  }
  const samples = contenders.map((): number[] => [])
  for (let round = 0; round < rounds; round++) {
    for (const [i, { run }] of contenders.entries()) {
      samples[i].push((await secondsOf(run, repeats[i])) / repeats[i])
    }
  }
  return new Map(contenders.map(({ name }, i) => [name, timingOf(samples[i])]))
}

/** Runs until it has run for `seconds`; returns the seconds of the last run. */
async function warmUp(run: () => unknown, seconds: number): Promise<number> {
  let spent = 0
  let last = 0
  do {
    last = await secondsOf(run, 1)
    spent += last
  } while (spent < seconds)
  return Math.max(last, 1e-9)
}

/** Seconds of `repeats` runs. */
export async function secondsOf(run: () => unknown, repeats = 1): Promise<number> {
  const start = performance.now()
  for (let i = 0; i < repeats; i++) {
    const result = run()
    if (result instanceof Promise) await result
  }
  return (performance.now() - start) / 1000
}

/** Median and extremes of `samples` in seconds. */
export function timingOf(samples: readonly number[]): Timing {
  return {
    seconds: medianOf(samples),
    fastest: Math.min(...samples),
    slowest: Math.max(...samples),
    runs: samples.length,
  }
}

/** The middle value, or the mean of the two in the middle. */
export function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** The distance between the fastest and the slowest run in percent of the median: how far to trust a figure. */
export function spreadOf({ seconds, fastest, slowest }: Timing): number {
  return (100 * (slowest - fastest)) / seconds
}
