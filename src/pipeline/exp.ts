/**
 * `exp(x)` for `x` from minus infinity to 0, within 2 units in the last place of float64, and 0 below -700, for loops
 * over whole vocabularies: `Math.exp` takes about three times as long.
 *
 * `x = (64 turns + step) ln(2) / 64 + rest`, so `exp(x) = 2^turns 2^(step / 64) exp(rest)` with a rest so small that
 * five terms of its series do.
 */
export function expOfNegative(x: number): number {
  if (x < LOWEST) return 0
  const steps = (x * STEPS_PER_UNIT - 0.5) | 0
  const rest = x - steps * UNIT_HIGH - steps * UNIT_LOW
  const series = 1 + rest * (1 + rest * (1 / 2 + rest * (1 / 6 + rest * (1 / 24 + rest * (1 / 120)))))
  return halvings[-(steps >> 6)] * fractions[steps & 63] * series
}

const LOWEST = -700
const STEPS_PER_UNIT = 64 / Math.LN2
/** What float64 cuts off ln(2). */
const LN2_REST = 2.319046813846e-17
/** `ln(2) / 64`, cut to 24 bits so that a multiple of it is exact, and what was cut off. */
const UNIT_HIGH = Math.fround(Math.LN2 / 64)
const UNIT_LOW = Math.LN2 / 64 - UNIT_HIGH + LN2_REST / 64

const fractions = Float64Array.from({ length: 64 }, (_, step) => 2 ** (step / 64))
const halvings = Float64Array.from({ length: 1024 }, (_, turns) => 2 ** -turns)
