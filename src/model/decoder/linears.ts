import type {
  AttentionDescription,
  BlockDescription,
  DecoderDescription,
  DenseFeedForward,
  FeedForwardDescription,
  LinearDescription,
} from './description.js'

/** One linear layer of a block. Its weight is `rows` (outputs) x `cols` (inputs). */
export interface LinearLayer {
  /** Its name within its block, e.g. `'mlp.down_proj'` or `'mlp.experts.3.down_proj'`. */
  readonly kind: string
  /** Name of the weight tensor, e.g. `'model.layers.0.mlp.down_proj.weight'`. */
  readonly name: string
  /** Name of the bias tensor, when the configuration says there is one. */
  readonly biasName: string | undefined
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
}

/** The linear layers of all blocks that are quantized, in the order of the forward pass. */
export function allLinearLayers(description: DecoderDescription): LinearLayer[] {
  return description.blocks.flatMap((_, index) => linearLayers(description, index))
}

/**
 * The linear layers of block `index` (counted from 0) that are quantized, in the order of the forward pass: all but a
 * router of experts and the gate of a shared expert, which are small and decide much.
 */
export function linearLayers(description: DecoderDescription, index: number): LinearLayer[] {
  return blockLinears(description.blocks[index]).map(({ kind, module, rows, cols, bias }) => ({
    kind,
    name: `${module}.weight`,
    biasName: bias ? `${module}.bias` : undefined,
    rows,
    cols,
  }))
}

/** As {@link linearLayers}, of a block. */
export function blockLinears({ attention, feedForward }: BlockDescription): LinearDescription[] {
  return [...attentionLinears(attention), ...feedForwardLinears(feedForward)]
}

function attentionLinears({ projections, output }: AttentionDescription): LinearDescription[] {
  if (projections.kind === 'fused') return [projections.all, output]
  return [projections.queries, projections.keys, projections.values, output]
}

function feedForwardLinears(part: FeedForwardDescription): LinearDescription[] {
  if (part.kind !== 'routed') return denseLinears(part)
  const dense = part.shared === undefined ? part.experts : [...part.experts, part.shared.feedForward]
  return dense.flatMap(denseLinears)
}

function denseLinears(part: DenseFeedForward): LinearDescription[] {
  if (part.kind === 'gated') return [part.gate, part.up, part.down]
  return part.kind === 'fused' ? [part.gateUp, part.down] : [part.up, part.down]
}
