import type { LayerError } from '../layer-bars.js'

/** A layer of one of many experts: what stands before and behind the expert's number. */
const ofExpert = /^(.*\.experts\.)\d+(\..*)$/

/**
 * Layers with those of the experts of a block together, as one of each kind with their mean error: hundreds of bars say
 * less than three.
 *
 * @returns in the order given, the layers of experts where the first of them stood, named with `*` for the number
 */
export function expertsTogether(layers: readonly LayerError[]): LayerError[] {
  const groups = new Map<string, number[]>()
  for (const { name, relativeError } of layers) {
    const together = name.replace(ofExpert, '$1*$2')
    const errors = groups.get(together) ?? []
    groups.set(together, errors)
    if (relativeError !== null) errors.push(relativeError)
  }
  return Array.from(groups, ([name, errors]) => ({
    name,
    relativeError: errors.length === 0 ? null : errors.reduce((sum, error) => sum + error, 0) / errors.length,
  }))
}
