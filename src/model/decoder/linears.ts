import { requireFields, requireWhole } from '../../common/check-option.js'
import type {
  AttentionProjections,
  BlockDescription,
  DecoderDescription,
  DenseFeedForward,
  LinearDescription,
} from './description.js'

/** One linear layer of a block. Its weight is `rows` (outputs) x `cols` (inputs). */
export interface LinearLayer {
  /** Its name within its block, e.g. `'mlp.down_proj'`. */
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
export function allLinearLayers(config: DecoderDescription): LinearLayer[] {
  requireFields(config, 'a description that describeDecoder gave', ['blocks'])
  return config.blocks.flatMap((_, index) => linearLayers(config, index))
}

/** The linear layers of block `index` (counted from 0) that are quantized, in the order of the forward pass. */
export function linearLayers(config: DecoderDescription, index: number): LinearLayer[] {
  requireFields(config, 'a description that describeDecoder gave', ['blocks'])
  const { blocks } = config
  requireWhole('index', index, 0, blocks.length - 1)
  const { attention, feedForward } = blocks[index]
  const linears = [...projectionsOf(attention.projections), attention.output]
  if (feedForward.kind !== 'routed') linears.push(...feedForwardLinears(feedForward))
  else {
    const { shared, experts } = feedForward
    if (shared) linears.push(...feedForwardLinears(shared.feedForward))
    linears.push(...experts.flatMap(feedForwardLinears))
  }
  return linears.map(({ kind, module, rows, cols, bias }) => ({
    kind,
    name: `${module}.weight`,
    biasName: bias ? `${module}.bias` : undefined,
    rows,
    cols,
  }))
}

/** All linear layers of a block, the router and the gate of a shared expert too. */
export function blockLinears({ attention, feedForward }: BlockDescription): LinearDescription[] {
  const linears = [...projectionsOf(attention.projections), attention.output]
  if (feedForward.kind !== 'routed') return [...linears, ...feedForwardLinears(feedForward)]
  const { router, shared, experts } = feedForward
  linears.push(router)
  if (shared) linears.push(...(shared.gate ? [shared.gate] : []), ...feedForwardLinears(shared.feedForward))
  return [...linears, ...experts.flatMap(feedForwardLinears)]
}

/** Whether a layer belongs to one of the experts that tokens are routed to. */
export function isExpert({ feedForward }: BlockDescription, { kind }: LinearDescription): boolean {
  if (feedForward.kind !== 'routed') return false
  return feedForward.experts.some((expert) => feedForwardLinears(expert).some((own) => own.kind === kind))
}

/** The layers that give queries, keys and values. */
export function projectionsOf(projections: AttentionProjections): LinearDescription[] {
  if (projections.kind === 'fused') return [projections.all]
  return [projections.queries, projections.keys, projections.values]
}

/** The layers that read what the feed-forward part is given. */
export function entranceOf(feedForward: DenseFeedForward): LinearDescription[] {
  if (feedForward.kind === 'gated') return [feedForward.gate, feedForward.up]
  return [feedForward.kind === 'fused' ? feedForward.gateUp : feedForward.up]
}

/** All layers of a feed-forward part. */
export function feedForwardLinears(feedForward: DenseFeedForward): LinearDescription[] {
  return [...entranceOf(feedForward), feedForward.down]
}
