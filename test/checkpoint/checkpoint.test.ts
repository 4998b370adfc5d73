import { mkdir, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.js'
import { decodeFloats, encodeFloats } from '../../src/checkpoint/dtype.js'
import { CheckpointError, ShapeError } from '../../src/common/errors.js'
import { errorOf, temporaryFolder, validFile } from './fixtures.js'

const floats = (name: string, dtype: 'F64' | 'F32' | 'F16' | 'BF16', shape: number[]) => {
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i / 4 - 3)
  return { name, dtype, shape, data: encodeFloats(dtype, values) }
}
const IDS = { name: 'ids', dtype: 'I32', shape: [2], data: Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0) } as const

type Content = string | Uint8Array
const CONFIG = '{"model_type":"llama"}'

/** A folder of the given files, beside a `config.json` unless that is among them. */
async function folderWith(files: Record<string, Content | undefined>): Promise<string> {
  const folder = await temporaryFolder()
  for (const [name, content] of Object.entries({ 'config.json': CONFIG, ...files })) {
    if (content !== undefined) await writeFile(join(folder, name), content)
  }
  return folder
}

const index = (weightMap: unknown) => JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap })
const INDEX = 'model.safetensors.index.json'
const shard = (n: number) => `model-0000${n}-of-00002.safetensors`

const refusal = async (folder: string) => {
  const error = await errorOf(openCheckpoint(folder))
  expect(error).toBeInstanceOf(CheckpointError)
  expect(error.message).toContain(folder)
  return error.message
}

describe('openCheckpoint', () => {
  it('reads config, tensors as bytes, as floats of any dtype and by rows', async () => {
    const tensors = [
      floats('d', 'F64', [2, 2]),
      floats('w', 'F32', [5, 3]),
      floats('h', 'F16', [4]),
      floats('b', 'BF16', [3, 2]),
      IDS,
    ]
    const folder = await folderWith({ 'model.safetensors': validFile(tensors) })
    const checkpoint = await openCheckpoint(folder)
    expect(checkpoint.folder).toBe(folder)
    expect(checkpoint.config).toEqual({ model_type: 'llama' })
    expect([...checkpoint.tensors.keys()]).toEqual(['d', 'w', 'h', 'b', 'ids'])
    expect(checkpoint.tensors.get('w')).toEqual({
      name: 'w',
      dtype: 'F32',
      shape: [5, 3],
      bytes: 60,
      file: join(folder, 'model.safetensors'),
    })
    for (const { name, dtype, data } of tensors) {
      expect(await checkpoint.readBytes(name)).toEqual(new Uint8Array(data))
      if (dtype !== 'I32') expect(await checkpoint.readFloats(name)).toEqual(decodeFloats(dtype, data))
    }
    const whole = await checkpoint.readFloats('w')
    for (let first = 0; first <= 5; first++) {
      for (let count = 0; first + count <= 5; count++) {
        expect(await checkpoint.readRows('w', first, count)).toEqual(
          whole.slice(first * 3, (first + count) * 3),
        )
      }
    }
    await checkpoint.close()
    await checkpoint.close()
    expect((await errorOf(checkpoint.readFloats('w'))).message).toMatch(/was closed/)
  })

  it('decodes a tensor of several chunks as if it were one', async () => {
    const values = Float32Array.from({ length: 2 ** 22 + 5 }, (_, i) => i)
    const data = encodeFloats('F64', values)
    const folder = await folderWith({
      'model.safetensors': validFile([{ name: 'w', dtype: 'F64', shape: [values.length], data }]),
    })
    const checkpoint = await openCheckpoint(folder)
    const read = await checkpoint.readFloats('w')
    expect(Buffer.compare(Buffer.from(read.buffer), Buffer.from(values.buffer))).toBe(0)
    await checkpoint.close()
  })

  it('refuses to read integers as floats, rows that are not there, and unknown tensors', async () => {
    const folder = await folderWith({
      'model.safetensors': validFile([floats('w', 'F32', [5, 3]), floats('v', 'F32', [4]), IDS]),
    })
    const checkpoint = await openCheckpoint(folder)
    expect((await errorOf(checkpoint.readFloats('ids'))).message).toMatch(
      /tensor "ids" is I32; expected floating-point/,
    )
    expect(await errorOf(checkpoint.readRows('v', 0, 1))).toBeInstanceOf(ShapeError)
    for (const [first, count] of [
      [5, 1],
      [-1, 1],
      [0, 6],
      [0, -1],
      [0.5, 1],
    ]) {
      expect(await errorOf(checkpoint.readRows('w', first, count))).toBeInstanceOf(ShapeError)
    }
    expect((await errorOf(checkpoint.readBytes('none'))).message).toMatch(/has no tensor "none"/)
    await checkpoint.close()
  })

  it('joins more shards than it keeps open', async () => {
    const names = Array.from({ length: 9 }, (_, i) => `t${i}`)
    const files: Record<string, Content> = {
      [INDEX]: index(Object.fromEntries(names.map((name) => [name, `${name}.safetensors`]))),
    }
    for (const [i, name] of names.entries()) {
      files[`${name}.safetensors`] = validFile([{ name, dtype: 'U8', shape: [1], data: Uint8Array.of(i) }])
    }
    const checkpoint = await openCheckpoint(await folderWith(files))
    expect([...checkpoint.tensors.keys()]).toEqual(names)
    const read = await Promise.all(names.map((name) => checkpoint.readBytes(name)))
    expect(read.map((bytes) => bytes[0])).toEqual(names.map((_, i) => i))
    await checkpoint.close()
  })

  it('takes an index that names only model.safetensors, and tensors that an index leaves out', async () => {
    const checkpoint = await openCheckpoint(
      await folderWith({
        'model.safetensors': validFile([floats('w', 'F32', [2]), IDS]),
        [INDEX]: index({ w: 'model.safetensors' }),
      }),
    )
    expect([...checkpoint.tensors.keys()]).toEqual(['w', 'ids'])
    await checkpoint.close()
  })

  it('lists the small files that belong to the model, and neither weights nor folders', async () => {
    const wanted = [
      'LICENSE',
      'LICENSE.txt',
      'NOTICE',
      'README.md',
      'USE_POLICY.md',
      'added_tokens.json',
      'chat_template.jinja',
      'generation_config.json',
      'merges.txt',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer.model',
      'tokenizer.model.v3',
      'tokenizer_config.json',
      'vocab.json',
      'vocab.txt',
    ]
    const unwanted = [
      '.gitattributes',
      'extra.safetensors',
      'flax_model.msgpack',
      'model.gguf',
      'model.onnx',
      'model.pth',
      INDEX,
      'pytorch_model.bin',
      'pytorch_model.bin.index.json',
      'tf_model.h5',
      'training_args.bin',
      'weights.pt',
    ]
    const files = Object.fromEntries([...wanted, ...unwanted].map((name) => [name, name]))
    const folder = await folderWith({
      ...files,
      'model.safetensors': validFile([IDS]),
      [INDEX]: index({ ids: 'model.safetensors' }),
    })
    await mkdir(join(folder, 'texts.txt'))
    const checkpoint = await openCheckpoint(folder)
    expect(checkpoint.otherFiles).toEqual(wanted.sort())
    await checkpoint.close()
  })

  it('follows links to files, as in the download cache of Hugging Face', async () => {
    const blobs = await folderWith({ blob: validFile([IDS]), words: '{}' })
    const folder = await temporaryFolder()
    const links = { 'config.json': 'config.json', 'model.safetensors': 'blob', 'tokenizer.json': 'words' }
    for (const [name, target] of Object.entries(links)) await symlink(join(blobs, target), join(folder, name))
    const checkpoint = await openCheckpoint(folder)
    expect(checkpoint.otherFiles).toEqual(['tokenizer.json'])
    expect(await checkpoint.readBytes('ids')).toEqual(IDS.data)
    await checkpoint.close()
  })

  it('opens the embedded model', async () => {
    const checkpoint = await openCheckpoint(
      fileURLToPath(new URL('../../examples/models/tiny-llama', import.meta.url)),
    )
    expect(checkpoint.config.model_type).toBe('llama')
    expect(checkpoint.otherFiles).toEqual(
      expect.arrayContaining(['generation_config.json', 'tokenizer.json', 'tokenizer_config.json']),
    )
    const name = 'model.layers.0.mlp.down_proj.weight'
    const weight = await checkpoint.readFloats(name)
    expect(checkpoint.tensors.get(name)).toMatchObject({ dtype: 'BF16', shape: [256, 768] })
    expect(weight.length).toBe(256 * 768)
    expect(weight.every(Number.isFinite)).toBe(true)
    expect(await checkpoint.readRows(name, 100, 2)).toEqual(weight.slice(100 * 768, 102 * 768))
    expect(encodeFloats('BF16', weight)).toEqual(await checkpoint.readBytes(name))
    await checkpoint.close()
  })
})

describe('openCheckpoint refuses', () => {
  it('a missing folder and one that is a file, and says what to give', async () => {
    const folder = await temporaryFolder()
    expect(await refusal(join(folder, 'none'))).toMatch(/there is no such folder\. Give the path/)
    await writeFile(join(folder, 'file'), '')
    expect(await refusal(join(folder, 'file'))).toMatch(/is a file, expected a model folder/)
    expect(await refusal(join(folder, 'file', 'x'))).toMatch(/file/)
  })

  it('a folder without config.json', async () => {
    const folder = await folderWith({ 'model.safetensors': validFile([IDS]) })
    await rm(join(folder, 'config.json'))
    expect(await refusal(folder)).toMatch(/holds no config\.json, so it is not a model folder/)
  })

  it('a config.json that is not JSON, not UTF-8 or not an object', async () => {
    const cases: [Content, RegExp][] = [
      ['{"a":', /is not valid JSON/],
      ['', /is not valid JSON/],
      [Uint8Array.of(0x22, 0xff, 0x22), /is not valid JSON/],
      ['[]', /holds a list, expected a JSON object/],
      ['null', /holds null/],
      ['"text"', /holds a string/],
      ['['.repeat(100_000), /nested more than 100 deep/],
    ]
    for (const [content, message] of cases) {
      expect(await refusal(await folderWith({ 'config.json': content }))).toMatch(message)
    }
  })

  it('a folder without weights, and says how to convert weights of another format', async () => {
    expect(await refusal(await folderWith({}))).toMatch(/holds no weights; expected model\.safetensors/)
    const torch = await refusal(await folderWith({ 'pytorch_model.bin': 'x' }))
    expect(torch).toMatch(
      /not in the safetensors format: found "pytorch_model\.bin".*safe_serialization=True/,
    )
    expect(await refusal(await folderWith({ 'q4.gguf': 'x' }))).toMatch(/found "q4\.gguf"/)
    expect(await refusal(await folderWith({ 'weights.safetensors': 'x' }))).toMatch(
      /rename it to model\.safetensors/,
    )
    expect(await refusal(await folderWith({ [shard(1)]: 'x', [shard(2)]: 'x' }))).toMatch(
      /fetch model\.safetensors\.index\.json/,
    )
  })

  it('an index that is damaged or leads out of the folder', async () => {
    const outside = await temporaryFolder()
    await writeFile(join(outside, 'x.safetensors'), validFile([IDS]))
    const maps: [unknown, RegExp][] = [
      [undefined, /has no "weight_map"/],
      [[], /has no "weight_map"/],
      [{}, /has no "weight_map"/],
      [{ ids: 3 }, /puts tensor "ids" into "3"/],
      [{ ids: '../x.safetensors' }, /expected the name of a \.safetensors file in the same folder/],
      [{ ids: '..\\x.safetensors' }, /in the same folder/],
      [{ ids: 'sub/x.safetensors' }, /in the same folder/],
      [{ ids: join(outside, 'x.safetensors') }, /in the same folder/],
      [{ ids: 'C:x.safetensors' }, /in the same folder/],
      [{ ids: 'x\0.safetensors' }, /in the same folder/],
      [{ ids: 'config.json' }, /in the same folder/],
      [{ ids: '' }, /in the same folder/],
    ]
    for (const [map, message] of maps)
      expect(await refusal(await folderWith({ [INDEX]: index(map) }))).toMatch(message)
    expect(await refusal(await folderWith({ [INDEX]: '{' }))).toMatch(/is not valid JSON/)
  })

  it('a missing shard, naming it', async () => {
    const folder = await folderWith({
      [INDEX]: index({ ids: shard(1), w: shard(2) }),
      [shard(1)]: validFile([IDS]),
    })
    expect(await refusal(folder)).toMatch(
      /1 of 2 weight files are missing: "model-00002-of-00002\.safetensors"/,
    )
  })

  it('a tensor that is not in its shard, in another one, or in two', async () => {
    const w = floats('w', 'F32', [2])
    const map = index({ ids: shard(1), w: shard(2) })
    const absent = await folderWith({ [INDEX]: map, [shard(1)]: validFile([IDS]), [shard(2)]: validFile([]) })
    expect(await refusal(absent)).toMatch(
      /says that tensor "w" is in model-00002-of-00002\.safetensors, which does not hold it/,
    )
    const swapped = await folderWith({
      [INDEX]: map,
      [shard(1)]: validFile([w]),
      [shard(2)]: validFile([IDS]),
    })
    expect(await refusal(swapped)).toMatch(/does not hold it \(it is in model-0000\d-of-00002\.safetensors\)/)
    const twice = await folderWith({
      [INDEX]: map,
      [shard(1)]: validFile([IDS]),
      [shard(2)]: validFile([IDS, w]),
    })
    expect(await refusal(twice)).toMatch(/tensor "ids" is both in model-00001.* and in model-00002/)
  })

  it('single weights beside an index of others', async () => {
    const folder = await folderWith({
      [INDEX]: index({ ids: shard(1) }),
      [shard(1)]: validFile([IDS]),
      'model.safetensors': validFile([IDS]),
    })
    expect(await refusal(folder)).toMatch(/Remove the one that does not belong/)
  })

  it('weights truncated halfway, naming the file', async () => {
    const folder = await folderWith({ 'model.safetensors': validFile([floats('w', 'F32', [1000])]) })
    await truncate(join(folder, 'model.safetensors'), 2000)
    expect(await refusal(folder)).toMatch(/model\.safetensors: is truncated.*bytes are missing/)
  })

  it('a Git LFS pointer in place of the weights', async () => {
    const folder = await folderWith({
      'model.safetensors': 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n',
    })
    expect(await refusal(folder)).toMatch(/Git LFS pointer.*git lfs pull/)
  })
})
