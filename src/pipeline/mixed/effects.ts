/** What the trials of a layer showed. */
export interface LayerRatios {
  /** Relative errors of its candidates, a list for each number of bits. */
  readonly errors: readonly (readonly number[])[]
  /** Measured effect on the predictions per unit of relative error, for each number of bits; undefined without error. */
  readonly ratios: readonly (number | undefined)[]
}

/**
 * The effects of all candidates, as their relative errors times a ratio. A single ratio, of a few sequences, is noisy;
 * but it is nearly the product of what belongs to the layer and of what belongs to the bits, the same in all layers:
 * errors of few bits lie closer to the weights' own direction, so they move predictions more. The two are averages over
 * a layer's trials and over the layers.
 *
 * @returns by layer in the shape of its errors
 */
export function predictEffects(layers: readonly LayerRatios[]): number[][][] {
  const rough = layers.map(({ ratios }) => mean(ratios))
  const most = Math.max(...layers.map(({ ratios }) => ratios.length))
  const ofBits = Array.from({ length: most }, (_, bits) => {
    const relative = layers.map(({ ratios }, i) =>
      rough[i] > 0 ? divide(ratios[bits], rough[i]) : undefined,
    )
    return mean(relative) || 1
  })
  return layers.map(({ errors, ratios }) => {
    const ofLayer = mean(ratios.map((ratio, bits) => divide(ratio, ofBits[bits])))
    return errors.map((sizes, bits) => sizes.map((error) => ofLayer * ofBits[bits] * error))
  })
}

function divide(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : value / by
}

/** Of the values that are there; 0 when none are. */
function mean(values: readonly (number | undefined)[]): number {
  let sum = 0
  let count = 0
  for (const value of values) {
    if (value === undefined) continue
    sum += value
    count++
  }
  return count === 0 ? 0 : sum / count
}
