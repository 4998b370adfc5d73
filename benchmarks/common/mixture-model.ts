import { join } from 'node:path'
import { type Random, randomGenerator, randomNormal } from '../../src/common/random.js'
import { type FloatTensor, writeChangedModel } from './changed-model.js'

const EXPERTS = 8
/** How far the weights of an expert are from those of the block's MLP, in standard deviations of these. */
const NOISE = 0.35
/** What Mixtral calls the three layers of an expert. */
const PARTS: Readonly<Record<string, string>> = { gate_proj: 'w1', down_proj: 'w2', up_proj: 'w3' }

/**
 * Writes the embedded model as a mixture of eight experts into a folder: each is its block's MLP with noise of its own, and
 * a random router sends every token to two of them. The same seed gives the same model. @returns where it is
 */
export async function mixtureModel(seed: number, folder: string): Promise<string> {
  const output = join(folder, `mixture-${seed}`)
  const random = randomGenerator(seed)
  await writeChangedModel(output, { tensors: (tensor) => mixed(tensor, random), config: configOfMixture })
  return output
}

/** The tensors of all experts in the place of one of an MLP, and the router behind the first; others as they are. */
function* mixed(tensor: FloatTensor, random: Random): Generator<FloatTensor> {
  const { name, shape, values } = tensor
  const [, block, kind] = /^(.*)\.mlp\.(.*)\.weight$/.exec(name) ?? []
  if (block === undefined) {
    yield tensor
    return
  }
  const mixture = `${block}.block_sparse_moe`
  const deviation = NOISE * Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length)
  for (let expert = 0; expert < EXPERTS; expert++) {
    const own = values.map((value) => value + deviation * randomNormal(random))
    yield { name: `${mixture}.experts.${expert}.${PARTS[kind]}.weight`, shape, values: own }
  }
  if (kind !== 'gate_proj') return
  const cols = shape[1]
  const normals = () => randomNormal(random) / Math.sqrt(cols)
  const router = Float32Array.from({ length: EXPERTS * cols }, normals)
  yield { name: `${mixture}.gate.weight`, shape: [EXPERTS, cols], values: router }
}

function configOfMixture({
  mlp_bias: _,
  attention_bias: __,
  ...config
}: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const family = { architectures: ['MixtralForCausalLM'], model_type: 'mixtral' }
  return { ...config, ...family, num_local_experts: EXPERTS, num_experts_per_tok: 2 }
}
