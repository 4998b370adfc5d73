import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.js'
import { bytesPerElement, DTYPES, type Dtype, tensorBytes } from '../../src/checkpoint/dtype.js'
import { type FileSystem, nodeFileSystem } from '../../src/checkpoint/file-system.js'
import {
  type CheckpointWriter,
  createCheckpointWriter,
  createCheckpointWriterOn,
} from '../../src/checkpoint/output/checkpoint-writer.js'
import { parseHeader } from '../../src/checkpoint/safetensors/safetensors-header.js'
import { CheckpointError, OptionError, ShapeError } from '../../src/common/errors.js'
import { errorOf, temporaryFolder, tree } from './fixtures.js'

interface Tensor {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

const tensor = (name: string, dtype: Dtype, shape: number[], fill = 1): Tensor => ({
  name,
  dtype,
  shape,
  data: new Uint8Array(tensorBytes(dtype, shape)).fill(fill),
})

const addAll = async (writer: CheckpointWriter, tensors: readonly Tensor[]) => {
  for (const { name, dtype, shape, data } of tensors) await writer.add(name, dtype, shape, data)
}

/** Writes a whole checkpoint with a config, and gives its folder. */
async function write(tensors: readonly Tensor[], options = {}): Promise<string> {
  const folder = join(await temporaryFolder(), 'out')
  const writer = await createCheckpointWriter(folder, options)
  await addAll(writer, tensors)
  await writer.addFile('config.json', '{}')
  await writer.finish()
  return folder
}

async function placesIn(path: string) {
  const bytes = new Uint8Array(await readFile(path))
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true))
  return parseHeader(bytes.subarray(8, 8 + length), bytes.length, path)
}

const arbitraryTensor = fc
  .record({
    name: fc.string({ unit: 'grapheme', maxLength: 10 }).filter((name) => name !== '__metadata__'),
    dtype: fc.constantFrom(...DTYPES),
    shape: fc.array(fc.nat(5), { maxLength: 3 }),
  })
  .chain((entry) => {
    const length = tensorBytes(entry.dtype, entry.shape)
    return fc.uint8Array({ minLength: length, maxLength: length }).map((data) => ({ ...entry, data }))
  })
const tensorLists = fc.uniqueArray(arbitraryTensor, { selector: ({ name }) => name, maxLength: 12 })

describe('createCheckpointWriter', () => {
  it('writes what openCheckpoint reads back, byte for byte, in one file or many', async () => {
    await fc.assert(
      fc.asyncProperty(tensorLists, fc.integer({ min: 1, max: 200 }), async (tensors, maxShardBytes) => {
        const folder = await write(tensors, { maxShardBytes })
        const checkpoint = await openCheckpoint(folder)
        expect(new Set(checkpoint.tensors.keys())).toEqual(new Set(tensors.map(({ name }) => name)))
        for (const { name, dtype, shape, data } of tensors) {
          expect(checkpoint.tensors.get(name)).toMatchObject({ dtype, shape, bytes: data.length })
          expect(await checkpoint.readBytes(name)).toEqual(data)
        }
        await checkpoint.close()
      }),
      { numRuns: 40 },
    )
  })

  it.each(DTYPES)('keeps every bit of %s, patterns of NaN among them', async (dtype) => {
    const size = bytesPerElement(dtype)
    const data = new Uint8Array(256 * size)
    for (let i = 0; i < data.length; i++) data[i] = i % size === size - 1 ? 0x7f : (i * 37) | 0xc1
    const folder = await write([
      { name: 'w', dtype, shape: [256], data },
      tensor('scalar', dtype, [], 0xff),
      tensor('nothing', dtype, [3, 0, 2]),
    ])
    const checkpoint = await openCheckpoint(folder)
    expect(await checkpoint.readBytes('w')).toEqual(data)
    expect(await checkpoint.readBytes('scalar')).toEqual(new Uint8Array(size).fill(0xff))
    expect(await checkpoint.readBytes('nothing')).toEqual(new Uint8Array(0))
    expect(checkpoint.tensors.get('nothing')!.shape).toEqual([3, 0, 2])
    await checkpoint.close()
  })

  it('aligns every tensor to its elements and the data to 8 bytes, whatever comes first', async () => {
    await fc.assert(
      fc.asyncProperty(tensorLists, async (tensors) => {
        const { tensors: places, metadata } = await placesIn(join(await write(tensors), 'model.safetensors'))
        expect([...metadata]).toEqual([['format', 'pt']])
        for (const { dtype, position } of places.values()) expect(position % bytesPerElement(dtype)).toBe(0)
      }),
      { numRuns: 25 },
    )
  })

  it('orders by falling element size, then name', async () => {
    const names: [string, Dtype][] = [
      ['z', 'U8'],
      ['b', 'BF16'],
      ['a', 'F16'],
      ['y', 'F64'],
      ['a2', 'BOOL'],
      ['x', 'F32'],
    ]
    const folder = await write(names.map(([name, dtype]) => tensor(name, dtype, [3])))
    const { tensors } = await placesIn(join(folder, 'model.safetensors'))
    expect([...tensors.keys()]).toEqual(['y', 'x', 'a', 'b', 'a2', 'z'])
  })

  it('writes the same bytes for the same tensors: in any order in one file, in the same order in shards', async () => {
    await fc.assert(
      fc.asyncProperty(tensorLists, fc.integer({ min: 1, max: 100 }), async (tensors, maxShardBytes) => {
        const again = await tree(await write(tensors))
        expect(await tree(await write(tensors.slice().reverse()))).toEqual(again)
        expect(await tree(await write(tensors, { maxShardBytes }))).toEqual(
          await tree(await write(tensors, { maxShardBytes })),
        )
      }),
      { numRuns: 15 },
    )
  })

  it('fills shards up to the limit and writes the index that Hugging Face expects', async () => {
    const tensors = [
      tensor('a', 'U8', [6]),
      tensor('b', 'F32', [1]),
      tensor('c', 'U8', [1]),
      tensor('huge', 'U8', [30]),
    ]
    const folder = await write(tensors, { maxShardBytes: 10, metadata: { by: 'test' } })
    expect((await readdir(folder)).sort()).toEqual([
      'config.json',
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
      'model.safetensors.index.json',
    ])
    expect(JSON.parse(await readFile(join(folder, 'model.safetensors.index.json'), 'utf8'))).toEqual({
      metadata: { total_size: 41 },
      weight_map: {
        a: 'model-00001-of-00003.safetensors',
        b: 'model-00001-of-00003.safetensors',
        c: 'model-00002-of-00003.safetensors',
        huge: 'model-00003-of-00003.safetensors',
      },
    })
    const { metadata } = await placesIn(join(folder, 'model-00002-of-00003.safetensors'))
    expect([...metadata]).toEqual([['by', 'test']])
  })

  it('copies a tensor larger than its buffer, and a file, whole', async () => {
    const data = Uint8Array.from({ length: 9 * 2 ** 20 + 3 }, (_, i) => (i * 2654435761) >>> 24)
    const parent = await temporaryFolder()
    await writeFile(join(parent, 'tokenizer.json'), data)
    const writer = await createCheckpointWriter(join(parent, 'out'))
    await writer.add('small', 'U8', [1], Uint8Array.of(7))
    await writer.add('large', 'U8', [data.length], data)
    await writer.copyFile(join(parent, 'tokenizer.json'))
    await writer.addFile('config.json', '{}')
    const written = await writer.finish()
    const checkpoint = await openCheckpoint(join(parent, 'out'))
    expect(Buffer.compare(await checkpoint.readBytes('large'), data)).toBe(0)
    expect(await checkpoint.readBytes('small')).toEqual(Uint8Array.of(7))
    await checkpoint.close()
    expect(Buffer.compare(await readFile(join(parent, 'out', 'tokenizer.json')), data)).toBe(0)
    expect(written.files).toEqual(['config.json', 'model.safetensors', 'tokenizer.json'])
    const sizes = await Promise.all(
      written.files.map(async (file) => (await readFile(join(parent, 'out', file))).length),
    )
    expect(written.bytes).toBe(sizes.reduce((a, b) => a + b))
    expect((await readdir(parent)).sort()).toEqual(['out', 'tokenizer.json'])
  })

  const manyTensors = Array.from({ length: 30 }, (_, i) => tensor(`t${i}`, 'U8', [i], i))

  it('carries out overlapping calls one after the other', async () => {
    const folder = join(await temporaryFolder(), 'out')
    const writer = await createCheckpointWriter(folder, { maxShardBytes: 100 })
    const calls = manyTensors.map(({ name, dtype, shape, data }) => writer.add(name, dtype, shape, data))
    const twice = errorOf(writer.add('t3', 'U8', [1], new Uint8Array(1)))
    await Promise.all([...calls, writer.addFile('config.json', '{}'), writer.finish()])
    expect((await twice).message).toMatch(/tensor "t3" was already added/)
    expect(await tree(folder)).toEqual(await tree(await write(manyTensors, { maxShardBytes: 100 })))
  })

  it('drops what is still waiting when it is discarded meanwhile, finishing included', async () => {
    const parent = await temporaryFolder()
    const writer = await createCheckpointWriter(join(parent, 'out'), { maxShardBytes: 100 })
    const waiting = manyTensors.map(({ name, dtype, shape, data }) =>
      errorOf(writer.add(name, dtype, shape, data)),
    )
    const finished = errorOf(writer.finish())
    await writer.discard()
    for (const error of [...(await Promise.all(waiting)), await finished]) {
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toMatch(/was discarded/)
    }
    expect(await readdir(parent)).toEqual([])
  })

  it('stops before it takes its place when it is discarded while it is completed', async () => {
    const parent = await temporaryFolder()
    let discarded: Promise<void> | undefined
    const system: FileSystem = {
      ...nodeFileSystem,
      rename: async (from, to) => {
        discarded ??= writer.discard()
        await nodeFileSystem.rename(from, to)
      },
    }
    const writer = await createCheckpointWriterOn(system, join(parent, 'out'))
    await addAll(writer, manyTensors)
    expect((await errorOf(writer.finish())).message).toMatch(/was discarded/)
    await discarded
    expect(await readdir(parent)).toEqual([])
  })

  it('writes through a link to the folder that it stands for', async () => {
    const parent = await temporaryFolder()
    await mkdir(join(parent, 'disk', 'model'), { recursive: true })
    await symlink(join(parent, 'disk', 'model'), join(parent, 'link'), 'junction')
    const writer = await createCheckpointWriter(join(parent, 'link'))
    expect((await readdir(join(parent, 'disk'))).length).toBe(2)
    await writer.addFile('config.json', '{}')
    await writer.finish()
    expect(await readdir(join(parent, 'disk'))).toEqual(['model'])
    expect((await readdir(join(parent, 'link'))).sort()).toEqual(['config.json', 'model.safetensors'])
  })
})

describe('while it is being written, a checkpoint', () => {
  it('is in a folder beside its place whose name tells what it is, and nowhere else', async () => {
    const parent = await temporaryFolder()
    const writer = await createCheckpointWriter(join(parent, 'tiny-vq'))
    await writer.add('w', 'U8', [4], new Uint8Array(4))
    const [partial, ...others] = await readdir(parent)
    expect(others).toEqual([])
    expect(partial).toMatch(new RegExp(`^\\.tiny-vq\\.partial-${process.pid}-[0-9a-f]{8}$`))
    const spilled = await Promise.all(
      (await readdir(join(parent, partial))).map((name) => readFile(join(parent, partial, name))),
    )
    expect(spilled.map((bytes) => bytes.length)).toEqual([4])
    await writer.discard()
    expect(await readdir(parent)).toEqual([])
  })

  it('leaves nothing when discarded at any time, parents created for it included', async () => {
    const steps: ((writer: CheckpointWriter) => Promise<unknown>)[] = [
      async () => {},
      (writer) => writer.add('a', 'U8', [9], new Uint8Array(9)),
      (writer) => writer.add('b', 'U8', [9], new Uint8Array(9)),
      (writer) => writer.addFile('config.json', '{}'),
    ]
    for (let count = 1; count <= steps.length; count++) {
      const parent = await temporaryFolder()
      const writer = await createCheckpointWriter(join(parent, 'new', 'deep', 'out'), { maxShardBytes: 10 })
      for (const step of steps.slice(0, count)) await step(writer)
      await writer.discard()
      await writer.discard()
      expect(await readdir(parent)).toEqual([])
      expect((await errorOf(writer.add('c', 'U8', [0], new Uint8Array(0)))).message).toMatch(
        /was discarded; begin again/,
      )
      expect(await errorOf(writer.finish())).toBeInstanceOf(CheckpointError)
    }
  })

  it('keeps a parent created for it when something else was put there meanwhile', async () => {
    const parent = await temporaryFolder()
    const writer = await createCheckpointWriter(join(parent, 'new', 'out'))
    await writeFile(join(parent, 'new', 'notes'), 'mine')
    await writer.discard()
    expect(await tree(parent)).toEqual({ 'new/': '', 'new/notes': Buffer.from('mine').toString('base64') })
  })

  it('is not touched by discard after finish, nor finished twice', async () => {
    const parent = await temporaryFolder()
    const writer = await createCheckpointWriter(join(parent, 'out'))
    await writer.addFile('config.json', '{}')
    await writer.finish()
    const before = await tree(parent)
    await writer.discard()
    expect(await tree(parent)).toEqual(before)
    expect((await errorOf(writer.finish())).message).toMatch(/already finished/)
    expect((await errorOf(writer.addFile('x.json', ''))).message).toMatch(/already finished/)
    expect(await tree(parent)).toEqual(before)
  })
})

describe('the writer refuses', () => {
  const open = async () => {
    const folder = join(await temporaryFolder(), 'out')
    return createCheckpointWriter(folder)
  }

  it('impossible tensors, and goes on after refusing', async () => {
    const writer = await open()
    const bytes = new Uint8Array(4)
    expect((await errorOf(writer.add('w', 'F32', [2], bytes))).message).toMatch(
      /tensor "w": the shape \[2\] of F32 needs 8 bytes, got 4/,
    )
    for (const shape of [[2], [-1], [0.5], [Number.NaN], [2 ** 53], [2 ** 40, 2 ** 40], Array(65).fill(1)]) {
      expect(await errorOf(writer.add('w', 'F32', shape, bytes))).toBeInstanceOf(ShapeError)
    }
    expect(await errorOf(writer.add('__metadata__', 'F32', [1], bytes))).toBeInstanceOf(CheckpointError)
    expect(await errorOf(writer.add('\ud800', 'F32', [1], bytes))).toBeInstanceOf(CheckpointError)
    expect((await errorOf(writer.add('w', 'F8' as Dtype, [4], bytes))).message).toMatch(/unknown dtype "F8"/)
    await writer.add('w', 'F32', [1], bytes)
    expect((await errorOf(writer.add('w', 'F32', [1], bytes))).message).toMatch(/"w" was already added/)
    await writer.addFile('config.json', '{}')
    expect((await writer.finish()).files).toEqual(['config.json', 'model.safetensors'])
  })

  it('files named like weights, with a path or twice', async () => {
    const writer = await open()
    const names = [
      'model.safetensors',
      'Model.SAFETENSORS',
      'model-00001-of-00002.safetensors',
      'model.safetensors.index.json',
      '../x',
      'a/b',
      'a\\b',
      '',
      '.',
      '..',
      '.shard-1.spill',
      'a\0',
    ]
    for (const name of names) {
      const error = await errorOf(writer.addFile(name, ''))
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toMatch(/cannot be added/)
    }
    await writer.addFile('config.json', '{}')
    expect((await errorOf(writer.addFile('CONFIG.json', ''))).message).toMatch(/already added/)
    expect((await errorOf(writer.copyFile('/elsewhere/config.json'))).message).toMatch(/already added/)
    await writer.discard()
  })

  it('copying what is not there or is no file, naming it, and leaves nothing', async () => {
    const parent = await temporaryFolder()
    for (const [path, message] of [
      [join(parent, 'none.json'), /cannot read .*none\.json: no such file/],
      [parent, /is no plain file/],
    ] as const) {
      const writer = await createCheckpointWriter(join(parent, 'out'))
      const error = await errorOf(writer.copyFile(path))
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toMatch(message)
      expect(await readdir(parent)).toEqual([])
      expect((await errorOf(writer.finish())).message).toMatch(/failed before/)
    }
  })

  it('impossible options, before it creates anything', async () => {
    const parent = await temporaryFolder()
    for (const maxShardBytes of [0, -1, Number.NaN]) {
      expect(
        await errorOf(createCheckpointWriter(join(parent, 'a', 'out'), { maxShardBytes })),
      ).toBeInstanceOf(OptionError)
    }
    expect(
      await errorOf(createCheckpointWriter(join(parent, 'out'), { metadata: { '\ud800': '' } })),
    ).toBeInstanceOf(CheckpointError)
    expect(await readdir(parent)).toEqual([])
  })
})
