/** Counts of the steps of a training. */
export interface StepCounts {
  /** Steps in all, as planned. */
  readonly total: number
  /** Steps of warm-up. */
  readonly warmup: number
}

/**
 * The learning rate of a step as a share of the highest: it rises in a straight line during warm-up, then falls as half a
 * cosine, to 0 after the last step.
 *
 * @param step from 0 on
 */
export function rateOf(step: number, { total, warmup }: StepCounts): number {
  if (step < warmup) return (step + 1) / (warmup + 1)
  const done = (step - warmup) / Math.max(1, total - warmup)
  return (1 + Math.cos(Math.PI * done)) / 2
}
