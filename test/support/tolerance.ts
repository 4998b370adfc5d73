import { expect } from 'vitest'

/** Half a unit in the last place of a float32 near 1. */
export const FLOAT32_ROUNDING = 2 ** -24

/** Largest absolute difference of two arrays of the same length; NaN anywhere gives NaN. */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths differ: ${a.length} and ${b.length}`)
  let largest = 0
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i] - b[i])
    if (!(difference <= largest)) largest = difference
  }
  return largest
}

/** Every element within `tolerance`. One assertion, so that it can stand in long loops. */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(largestDifference(actual, expected)).toBeLessThanOrEqual(tolerance)
}

/** Runs `action`, which must throw, and gives back what it threw. */
export function thrownBy(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  throw new Error('expected an error, none was thrown')
}

/** Runs `action`, which must throw or whose promise must be rejected, and gives back with what. */
export async function rejectionOf(action: () => unknown): Promise<unknown> {
  try {
    await action()
  } catch (error) {
    return error
  }
  throw new Error('expected an error, none was thrown')
}
