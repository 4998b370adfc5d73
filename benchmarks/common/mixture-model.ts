import { join } from 'node:path'
import { createCheckpointWriter, openCheckpoint } from 'gptvq/model'
import { decodeFloats } from '../../src/checkpoint/dtype.js'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { encodeBfloats } from '../../src/kernels/half.js'
import { modelFolder } from './real-layers.js'

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
  const checkpoint = await openCheckpoint(modelFolder)
  const writer = await createCheckpointWriter(output, { force: true })
  const add = (name: string, shape: readonly number[], values: Float32Array) => {
    const halves = new Uint16Array(values.length)
    encodeBfloats(values, halves)
    return writer.add(name, 'BF16', shape, new Uint8Array(halves.buffer))
  }
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    const values = decodeFloats(dtype, await checkpoint.readBytes(name))
    const [, block, kind] = /^(.*)\.mlp\.(.*)\.weight$/.exec(name) ?? []
    if (block === undefined) {
      await add(name, shape, values)
      continue
    }
    const mixture = `${block}.block_sparse_moe`
    const deviation = NOISE * Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length)
    for (let expert = 0; expert < EXPERTS; expert++) {
      const own = values.map((value) => value + deviation * randomNormal(random))
      await add(`${mixture}.experts.${expert}.${PARTS[kind]}.weight`, shape, own)
    }
    if (kind !== 'gate_proj') continue
    const router = Float32Array.from(
      { length: EXPERTS * shape[1] },
      () => randomNormal(random) / Math.sqrt(shape[1]),
    )
    await add(`${mixture}.gate.weight`, [EXPERTS, shape[1]], router)
  }
  const {
    architectures: _,
    mlp_bias: __,
    attention_bias: ___,
    ...config
  } = checkpoint.config as Record<string, unknown>
  const routed = { num_local_experts: EXPERTS, num_experts_per_tok: 2 }
  const family = { architectures: ['MixtralForCausalLM'], model_type: 'mixtral' }
  await writer.addFile('config.json', JSON.stringify({ ...config, ...family, ...routed }))
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await writer.copyFile(join(modelFolder, file))
  }
  await writer.finish()
  await checkpoint.close()
  return output
}
