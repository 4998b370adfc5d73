import { join } from 'node:path'
import { expect, it } from 'vitest'
import { CheckpointError, UnsupportedError } from '../../../src/common/errors.js'
import { assertBlockTensors } from '../../../src/model/decoder/block.js'
import { assertEmbedding } from '../../../src/model/decoder/embedding.js'
import { fixtureFolder, openFixture, readTensors } from '../families/fixture.js'
import { sourceOf } from '../tiny-llama.js'

it.each(['mixtral-full', 'qwen2_moe-norm-step', 'qwen3_moe-norm', 'olmoe-plain'])(
  'experts of %s that are fused into one tensor are refused by its name, with what to do',
  async (name) => {
    const { config } = await openFixture(name)
    const block = config.blocks.find(({ feedForward }) => feedForward.kind === 'routed')!
    const tensors = await readTensors(join(fixtureFolder, name, 'model.safetensors'))
    for (const name of tensors.keys()) if (name.includes('.experts.')) tensors.delete(name)
    const fused = `${block.prefix}mlp.experts.gate_up_proj`
    tensors.set(fused, { shape: [4, 2, 3], values: new Float32Array(24) })
    const refused = () => assertBlockTensors(sourceOf(tensors), block)
    expect(refused).toThrow(UnsupportedError)
    expect(refused).toThrow(/experts\.0\.\w+\.weight: no such tensor in the checkpoint, which has/)
    expect(refused).toThrow(`which has ${fused}`)
    expect(refused).toThrow('save_original_format=True')
    // saved by transformers, all of Mixtral's feed-forward part has the name that other families have
    for (const name of tensors.keys()) if (name.includes('.block_sparse_moe.')) tensors.delete(name)
    expect(refused).toThrow(`which has ${fused}`)
  },
)

it.each([
  ['llama-mha', 'model.', 'embed_tokens.weight'],
  ['gpt_neox-parallel', 'gpt_neox.', 'embed_in.weight'],
])('names of %s that lack %s in front are said to', async (name, prefix, embedding) => {
  const { config } = await openFixture(name)
  const tensors = await readTensors(join(fixtureFolder, name, 'model.safetensors'))
  const bare = new Map(Array.from(tensors, ([name, tensor]) => [name.replace(prefix, ''), tensor]))
  const refused = () => assertEmbedding(sourceOf(bare), config)
  expect(refused).toThrow(CheckpointError)
  expect(refused).toThrow(`${prefix}${embedding}: no such tensor in the checkpoint, which has ${embedding}`)
  expect(refused).toThrow(`its names lack ${prefix} in front`)
  const block = () => assertBlockTensors(sourceOf(bare), config.blocks[1])
  expect(block).toThrow(`its names lack ${prefix} in front`)
})
