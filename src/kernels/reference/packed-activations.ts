/** Largest magnitude of a rounded activation. */
const LARGEST = { int8: 127, int16: 32767 } as const
/** What is smaller counts as 0: its reciprocal is no float32. */
const TINY = 2 ** -100

/** What is rounded, in units of `step = max|x| / most`, by float32 arithmetic. Where a value is not finite, all are NaN. */
export function unitsOf(x: Float32Array, most: number): { units: Float32Array; step: number } {
  const largest = x.reduce((so, value) => Math.max(so, Math.abs(value)), 0)
  if (!(largest < Number.POSITIVE_INFINITY))
    return { units: new Float32Array(x.length).fill(Number.NaN), step: 1 }
  if (largest < TINY) return { units: new Float32Array(x.length), step: 1 }
  const perUnit = Math.fround(most / largest)
  const units = x.map((value) => Math.max(-most, Math.min(most, halfToEven(Math.fround(value * perUnit)))))
  return { units, step: Math.fround(largest / most) }
}

/**
 * Rounds a segment of a row to whole multiples of `step = max|x| / 127` (or 32767), in place, by float32 arithmetic. Where a
 * value is not finite, all become NaN.
 */
export function roundActivations(x: Float32Array, kind: keyof typeof LARGEST): void {
  const { units, step } = unitsOf(x, LARGEST[kind])
  for (const [i, own] of units.entries()) x[i] = own * step
}

function halfToEven(value: number): number {
  const rounded = Math.round(value)
  return Math.abs(value - Math.trunc(value)) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}
