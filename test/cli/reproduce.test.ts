import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { reportData } from '../../src/model.js'
import { reproduceCommand } from '../../src/report.js'
import { tree } from '../checkpoint/fixtures.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile } from './support.js'

let folder: string
let model: string
let text: string

beforeAll(async () => {
  folder = await folderOfFile()
  model = join(folder, 'model')
  text = join(folder, 'text.txt')
  await writeTinyModel(model)
  await writeFile(text, tinyText(900))
})

const quick = '--kmeans-iterations 3 --restarts 1 --refinement-rounds 1'.split(' ')

describe('the command to reproduce', () => {
  test.each([
    ['few sequences', ['--sequences', '3', '--sequence-length', '24', '--trellis-bits', '0', ...quick]],
    ['mixed bits', ['--bits', 'mixed', '--bpv', '3', '--sequences', '2', '--refinement-rounds', '1']],
    ['settings of some layers', ['--set', '*.v_proj:bits=3', '--skip', '*.down_proj', '--sequences', '2']],
    ['gptq with a seed', ['--method', 'gptq', '--seed', '7', '--sequences', '2', '--sequence-length', '16']],
    ['rtn and shards', ['--method', 'rtn', '--bits', '3', '--head-bits', '8', '--max-shard-bytes', '50000']],
  ])('%s: makes the same bytes', async (name, flags) => {
    const output = join(folder, name)
    const calibration = flags.includes('rtn') ? [] : ['--calibration', text]
    const first = await cli(['quantize', model, '--out', output, ...calibration, ...flags])
    expect(first.stderr).not.toContain('gptvq:')
    const before = await tree(output)
    const data = await reportData({ model: output, reference: model, codebooks: 0 })
    const command = reproduceCommand(data).replace(/--calibration \S+/, `--calibration ${text}`)
    const args = (command.match(/"[^"]*"|\S+/g) ?? []).map((part) => part.replace(/^"|"$/g, ''))
    const again = await cli([...args.slice(1), '--force'])
    expect(again.stderr).not.toContain('gptvq:')
    expect(await tree(output)).toEqual(before)
  })

  test('is that of the command which made the folder, for tensors and for training', () => {
    const data = { model: 'out', layers: [], kept: { tensors: 0, bytes: 0 } }
    const text = { kind: 'text', file: 'a.txt' }
    const tensors = { command: 'quantize-tensors', options: { bits: 3 }, calibration: null }
    expect(reproduceCommand({ ...data, method: 'kmeans', settings: {}, made: tensors })).toBe(
      'gptvq quantize-tensors MODEL --out out --method kmeans --bits 3',
    )
    const training = { command: 'train', options: { epochs: 2, start: 'begun' }, calibration: text }
    const settings = { training: { method: 'codebooks' } }
    expect(reproduceCommand({ ...data, method: 'gptvq', settings, made: training })).toBe(
      'gptvq train MODEL --out out --method codebooks --text a.txt --epochs 2 --start begun',
    )
  })

  test('what a folder was made of stands in its config.json', async () => {
    const output = join(folder, 'made')
    expect(
      (
        await cli([
          'quantize',
          model,
          '--out',
          output,
          '--calibration',
          text,
          '--sequences',
          '2',
          ...quick,
          '--trellis-bits',
          '0',
        ])
      ).code,
    ).toBe(0)
    const { quantization_config: quantization } = JSON.parse(
      await readFile(join(output, 'config.json'), 'utf8'),
    )
    const { createHash } = await import('node:crypto')
    const sha256 = async (path: string) =>
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex')
    expect(quantization.run).toMatchObject({
      node: process.versions.node,
      engine: 'wasm',
      weights: await sha256(join(model, 'model.safetensors')),
      calibration: { kind: 'text', file: 'text.txt', sha256: await sha256(text) },
    })
    expect(quantization.settings).toMatchObject({ sequences: 2, sequenceLength: 2048, seed: 0 })
  })

  test('a model that wrote its own text needs no file', async () => {
    const output = join(folder, 'own')
    const flags = ['--sequences', '2', '--sequence-length', '16', ...quick, '--trellis-bits', '0']
    expect((await cli(['quantize', model, '--out', output, ...flags])).code).toBe(0)
    expect(reproduceCommand(await reportData({ model: output, codebooks: 0 }))).not.toContain('--calibration')
  })
})
