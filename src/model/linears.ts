import type { LlamaConfig } from './config.js'

/** The linear layers of a block, in the order of their use; the names are those of Hugging Face checkpoints. */
export const linearKinds = [
  'self_attn.q_proj',
  'self_attn.k_proj',
  'self_attn.v_proj',
  'self_attn.o_proj',
  'mlp.gate_proj',
  'mlp.up_proj',
  'mlp.down_proj',
] as const

/**
 * The name of a linear layer within its block: `self_attn.q_proj`, `self_attn.k_proj`, `self_attn.v_proj`,
 * `self_attn.o_proj`, `mlp.gate_proj`, `mlp.up_proj` or `mlp.down_proj`.
 */
export type LinearKind = (typeof linearKinds)[number]

/** Linear layers that read the same input, so that they share one Hessian; in the order of the forward pass. */
export const linearInputGroups: readonly (readonly LinearKind[])[] = [
  ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'],
  ['self_attn.o_proj'],
  ['mlp.gate_proj', 'mlp.up_proj'],
  ['mlp.down_proj'],
]

/** One of {@link linearInputGroups}. */
export type LinearInputGroup = readonly LinearKind[]

/** One linear layer of a block. Its weight is `rows` (outputs) x `cols` (inputs). */
export interface LinearLayer {
  /** Which of the seven it is. */
  readonly kind: LinearKind
  /** Name of the weight tensor, e.g. `'model.layers.0.mlp.down_proj.weight'`. */
  readonly name: string
  /** Name of the bias tensor, when the configuration says there is one. */
  readonly biasName: string | undefined
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
}

/** The prefix of the tensors of block `index`, e.g. `'model.layers.3.'`. */
export function blockPrefix(index: number): string {
  return `model.layers.${index}.`
}

/** The linear layers of all blocks, in the order of the forward pass. */
export function allLinearLayers(config: LlamaConfig): LinearLayer[] {
  return Array.from({ length: config.layers }, (_, index) => linearLayers(config, index)).flat()
}

/** The linear layers of block `index` (counted from 0), in the order of the forward pass. */
export function linearLayers(config: LlamaConfig, index: number): LinearLayer[] {
  const { hiddenSize, intermediateSize } = config
  const queries = config.heads * config.headDim
  const keys = config.kvHeads * config.headDim
  const shapes: Record<LinearKind, readonly [rows: number, cols: number]> = {
    'self_attn.q_proj': [queries, hiddenSize],
    'self_attn.k_proj': [keys, hiddenSize],
    'self_attn.v_proj': [keys, hiddenSize],
    'self_attn.o_proj': [hiddenSize, queries],
    'mlp.gate_proj': [intermediateSize, hiddenSize],
    'mlp.up_proj': [intermediateSize, hiddenSize],
    'mlp.down_proj': [hiddenSize, intermediateSize],
  }
  return linearKinds.map((kind) => {
    const [rows, cols] = shapes[kind]
    const path = blockPrefix(index) + kind
    const biased = kind.startsWith('mlp') ? config.mlpBias : config.attentionBias
    return { kind, name: `${path}.weight`, biasName: biased ? `${path}.bias` : undefined, rows, cols }
  })
}
