import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import type { QuantizationReport } from '../../src/model.js'
import { type TinyTensor, tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
const at = (name: string) => join(folder, name)

/** Four experts a block, the last of which is never chosen: one of the first two has a larger score. */
function makeExperts(tensors: Map<string, TinyTensor>): void {
  for (const block of ['model.layers.0', 'model.layers.1']) {
    const parts = { gate_proj: 'w1', down_proj: 'w2', up_proj: 'w3' }
    for (const [kind, part] of Object.entries(parts)) {
      const weight = tensors.get(`${block}.mlp.${kind}.weight`)!
      tensors.delete(`${block}.mlp.${kind}.weight`)
      for (let expert = 0; expert < 4; expert++) {
        tensors.set(`${block}.block_sparse_moe.experts.${expert}.${part}.weight`, weight)
      }
    }
    const row = Array.from({ length: 32 }, (_, i) => Math.sin(i))
    const rows = [row, row.map((value) => -value), row.toReversed(), row.map(() => 0)]
    const values = Float32Array.from(rows.flat())
    tensors.set(`${block}.block_sparse_moe.gate.weight`, { shape: [4, 32], values })
  }
}

beforeAll(async () => {
  folder = await folderOfFile()
  const config = {
    architectures: ['MixtralForCausalLM'],
    model_type: 'mixtral',
    num_local_experts: 4,
    num_experts_per_tok: 1,
  }
  await writeTinyModel(at('model'), { config, tensors: makeExperts })
  await writeTinyModel(at('dense'))
  await writeFile(at('text.txt'), tinyText(400))
})

const quantize = async (model: string, ...flags: string[]) => {
  const paths = [at(model), '--out', at('out'), '--force', '--calibration', at('text.txt')]
  const small = ['--sequences', '2', '--sequence-length', '32', '--method', 'gptq', '--bits', '4']
  const { code, stdout } = await cli(['quantize', ...paths, ...small, ...flags])
  expect(code).toBe(0)
  return stdout
}

test('quantize says which expert saw fewest tokens, how many saw none, and the pooled share, as its page does', async () => {
  const { layers }: QuantizationReport = JSON.parse(await quantize('model', '--json'))
  const experts = layers.filter(({ name }) => name.includes('.experts.'))
  expect(experts.length).toBe(24)
  const unseen = new Set(experts.filter(({ tokens }) => tokens === 0).map(({ name }) => name.slice(0, -3)))
  expect(unseen.has('model.layers.0.block_sparse_moe.experts.3')).toBe(true)
  const pooled = experts.reduce((sum, layer) => sum + layer.pooled!, 0) / experts.length
  const [first] = unseen
  const text = await quantize('model', '--report', at('page.html'))
  const line = `fewest tokens 0 (${first}), ${unseen.size} of 8 saw none, pooled share ${Number(pooled.toPrecision(3))} on average`
  const lines = text.split('\n')
  const begin = lines.findIndex((shown) => shown.startsWith('experts'))
  expect(
    lines
      .slice(begin, begin + 3)
      .join(' ')
      .replaceAll(/\s+/g, ' '),
  ).toContain(`experts ${line}`)
  expect(lines[begin].length).toBeLessThanOrEqual(80)
  expect(await readFile(at('page.html'), 'utf8')).toContain(line)
})

test('quantize says nothing of experts where there are none', async () => {
  expect(await quantize('dense', '--report', at('page.html'), '--force')).not.toMatch(/^experts/m)
  expect(await readFile(at('page.html'), 'utf8')).not.toContain('saw none')
})
