/** One way to store a part of a model. */
export interface Choice {
  /** A whole number. */
  readonly bytes: number
  /** What it does to the model's predictions, a finite number; the effects of all parts add up. */
  readonly effect: number
}

/** Steps that the room between the least and the budget is divided into at most. */
const MOST_STEPS = 2 ** 18

/**
 * Takes one choice of each part so that the sum of their effects is least and their bytes keep within `budget`: the
 * multiple-choice knapsack problem, by dynamic programming over the bytes above the least.
 *
 * Exact while the room for these bytes is at most 2^18 times their greatest common divisor. In larger models they are
 * counted in coarser steps and rounded up, which leaves less than one step per part of the room unused.
 *
 * @returns the number of the choice of each part; undefined when even the least bytes exceed the budget
 */
export function allocate(parts: readonly (readonly Choice[])[], budget: number): number[] | undefined {
  const least = parts.map((choices) => Math.min(...choices.map(({ bytes }) => bytes)))
  const above = parts.map((choices, part) => choices.map(({ bytes }) => bytes - least[part]))
  const room = Math.floor(budget) - least.reduce((sum, bytes) => sum + bytes, 0)
  if (room < 0) return undefined
  const step = Math.max(above.flat().reduce(greatestCommonDivisor, 0), Math.ceil(room / MOST_STEPS), 1)
  const sizes = above.map((bytes) => bytes.map((count) => Math.ceil(count / step)))
  const steps = Math.floor(room / step)
  let lowest = new Float64Array(steps + 1)
  const best = parts.map((choices, part) => {
    const extended = extend(lowest, choices, sizes[part])
    lowest = extended.lowest
    return extended.best
  })
  return traceBack(best, sizes, steps)
}

/**
 * Adds a part to those so far.
 *
 * @param lowest at s the least sum of the effects of the parts so far, with s steps at most
 * @returns the same with this part, and at s the choice of this part that gives it
 */
function extend(lowest: Float64Array, choices: readonly Choice[], sizes: readonly number[]) {
  const sums = new Float64Array(lowest.length).fill(Number.POSITIVE_INFINITY)
  const best = new Uint16Array(lowest.length)
  for (const [choice, { effect }] of choices.entries()) {
    const size = sizes[choice]
    for (let s = size; s < sums.length; s++) {
      const sum = lowest[s - size] + effect
      if (sum >= sums[s]) continue
      sums[s] = sum
      best[s] = choice
    }
  }
  return { lowest: sums, best }
}

function traceBack(best: readonly Uint16Array[], sizes: readonly (readonly number[])[], steps: number) {
  const chosen = new Array<number>(best.length)
  let left = steps
  for (let part = best.length - 1; part >= 0; part--) {
    chosen[part] = best[part][left]
    left -= sizes[part][chosen[part]]
  }
  return chosen
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}
