/** Largest magnitude of a rounded activation. */
const LARGEST = { int8: 127, int16: 32767 } as const
/** What is smaller counts as 0: its reciprocal is no float32. */
const TINY = 2 ** -100

/**
 * Rounds a segment of a row to whole multiples of `step = max|x| / 127` (or 32767), in place, by float32 arithmetic. Where a
 * value is not finite, all become NaN.
 */
export function roundActivations(x: Float32Array, kind: keyof typeof LARGEST): void {
  let largest = 0
  for (const value of x) largest = Math.max(largest, Math.abs(value))
  if (!(largest < Number.POSITIVE_INFINITY)) {
    x.fill(Number.NaN)
    return
  }
  if (largest < TINY) {
    x.fill(0)
    return
  }
  const most = LARGEST[kind]
  const step = Math.fround(largest / most)
  const perUnit = Math.fround(most / largest)
  for (let i = 0; i < x.length; i++) {
    const units = halfToEven(Math.fround(x[i] * perUnit))
    x[i] = Math.max(-most, Math.min(most, units)) * step
  }
}

function halfToEven(value: number): number {
  const rounded = Math.round(value)
  return Math.abs(value - Math.trunc(value)) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded
}
