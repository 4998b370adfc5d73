import type { BlockDescription } from '../../model/decoder/description.js'
import { feedForwardLinears } from '../../model/decoder/linears.js'
import type { LayerTrials } from './trials.js'

/** A layer quantized for trial. */
export interface TriedLayer {
  /** Its name within its block. */
  readonly kind: string
  /** The name of its weight. */
  readonly name: string
  readonly weight: Float32Array
  readonly trials: LayerTrials
  /** Of an expert, by its trials: the squared error of its outputs, summed over the tokens that it read. */
  readonly losses: readonly number[]
}

/** A block in which some layers are replaced by a trial of theirs. */
export interface Variant {
  readonly layers: readonly TriedLayer[]
  /** Which trial of these layers. */
  readonly trial: number
}

/** Each trial of each layer of a block on its own; experts together, by what they do: gates, ups, downs. */
export function variantsOf(block: BlockDescription, tries: readonly TriedLayer[]): Variant[] {
  const groups = new Map<string, TriedLayer[]>()
  for (const layer of tries) {
    const role = roleOf(block, layer.kind)
    groups.set(role, [...(groups.get(role) ?? []), layer])
  }
  return [...groups.values()].flatMap((layers) =>
    layers[0].trials.trials.map((_, trial) => ({ layers, trial })),
  )
}

function roleOf({ feedForward }: BlockDescription, kind: string): string {
  if (feedForward.kind !== 'routed') return kind
  for (const expert of feedForward.experts) {
    const role = feedForwardLinears(expert).findIndex((own) => own.kind === kind)
    if (role >= 0) return `experts ${role}`
  }
  return kind
}
