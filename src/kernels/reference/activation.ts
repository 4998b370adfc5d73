import type { ElementActivation } from '../forward-contract.js'

/** Activations in float64. What they give for infinity is not finite where that would hide it. */
export const referenceActivations: Readonly<Record<ElementActivation, (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * complementaryError(-x * Math.SQRT1_2),
  // 0.5 (1 + tanh(u)) is the logistic function of 2 u, without its cancellation for negative u
  'gelu-tanh': (x) => x / (1 + Math.exp(-2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(x, 0) + 0 * x,
}

/** `cap tanh(x / cap)`, not finite where `x` is not. */
export function softCapped(x: number, cap: number): number {
  return cap * Math.tanh(x / cap) + 0 * x
}

/** `1 - erf(x)`, within a few float64 roundings of itself. */
function complementaryError(x: number): number {
  if (x < 0) return 2 - complementaryError(-x)
  return x < 2 ? 1 - errorSeries(x) : errorFraction(x)
}

/** `erf(x)` for small x, by a series whose terms are all positive. */
function errorSeries(x: number): number {
  let term = x
  let sum = 0
  for (let odd = 3; sum + term !== sum; odd += 2) {
    sum += term
    term *= (2 * x * x) / odd
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum
}

/** `1 - erf(x)` for large x, by a continued fraction. */
function errorFraction(x: number): number {
  let below = x
  for (let i = 100; i >= 1; i--) below = x + i / 2 / below
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / below
}
