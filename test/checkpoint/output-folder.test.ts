import { chmod, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.js'
import { type Dtype, encodeFloats, tensorBytes } from '../../src/checkpoint/dtype.js'
import { type FileSystem, nodeFileSystem } from '../../src/checkpoint/file-system.js'
import {
  type CheckpointWriter,
  createCheckpointWriter,
  createCheckpointWriterOn,
} from '../../src/checkpoint/output/checkpoint-writer.js'
import { CheckpointError } from '../../src/common/errors.js'
import { errorOf, temporaryFolder, tree } from './fixtures.js'

const tensor = (name: string, dtype: Dtype, shape: number[], fill = 1) => ({
  name,
  dtype,
  shape,
  data: new Uint8Array(tensorBytes(dtype, shape)).fill(fill),
})

const addAll = async (writer: CheckpointWriter, tensors: readonly ReturnType<typeof tensor>[]) => {
  for (const { name, dtype, shape, data } of tensors) await writer.add(name, dtype, shape, data)
}

/** The folder of a complete checkpoint. */
async function written(...tensors: ReturnType<typeof tensor>[]): Promise<string> {
  const folder = join(await temporaryFolder(), 'out')
  const writer = await createCheckpointWriter(folder)
  await addAll(writer, tensors)
  await writer.addFile('config.json', '{}')
  await writer.finish()
  return folder
}

describe('an output that exists', () => {
  const refused = async (folder: string, force: boolean, message: RegExp) => {
    const before = await tree(resolve(folder, '..'))
    const error = await errorOf(createCheckpointWriter(folder, { force }))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(message)
    expect(await tree(resolve(folder, '..'))).toEqual(before)
  }

  it('is used when it is an empty folder, and stays when discarded', async () => {
    const folder = join(await temporaryFolder(), 'out')
    await mkdir(folder)
    await (await createCheckpointWriter(folder)).discard()
    expect(await readdir(folder)).toEqual([])
    const writer = await createCheckpointWriter(folder)
    await writer.finish()
    expect(await readdir(folder)).toEqual(['model.safetensors'])
    expect(await readdir(resolve(folder, '..'))).toEqual(['out'])
  })

  it('is refused without force, and the message says how to replace it', async () => {
    const folder = await written(tensor('old', 'U8', [1]))
    await refused(folder, false, /exists and is not empty.*--force/)
  })

  it('is kept with force until the new one is complete, then replaced whole', async () => {
    const folder = await written(tensor('old', 'U8', [1]))
    await writeFile(join(folder, 'tokenizer.json'), 'of the old')
    const before = await tree(folder)
    const abandoned = await createCheckpointWriter(folder, { force: true })
    await addAll(abandoned, [tensor('new', 'F32', [3], 0x40)])
    await abandoned.discard()
    expect(await tree(folder)).toEqual(before)
    const writer = await createCheckpointWriter(folder, { force: true })
    await addAll(writer, [tensor('new', 'F32', [3], 0x40)])
    await writer.addFile('config.json', '{"new":true}')
    expect(await tree(folder)).toEqual(before)
    await writer.finish()
    expect((await readdir(folder)).sort()).toEqual(['config.json', 'model.safetensors'])
    expect(await readdir(resolve(folder, '..'))).toEqual(['out'])
    const checkpoint = await openCheckpoint(folder)
    expect([...checkpoint.tensors.keys()]).toEqual(['new'])
    await checkpoint.close()
  })

  it('is never replaced when it does not look like a model folder', async () => {
    const folder = join(await temporaryFolder(), 'home')
    await mkdir(join(folder, 'documents'), { recursive: true })
    await writeFile(join(folder, 'thesis.txt'), 'years of work')
    await refused(folder, true, /does not look like a model folder \(no config\.json\).*--force/)
  })

  it('is refused when it is a file or a link to nowhere', async () => {
    const parent = await temporaryFolder()
    await writeFile(join(parent, 'file'), 'x')
    await refused(join(parent, 'file'), true, /is a file; the output must be a folder/)
    await symlink(join(parent, 'gone'), join(parent, 'link'), 'junction')
    const error = await errorOf(createCheckpointWriter(join(parent, 'link')))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/is a link that leads nowhere/)
  })

  it('is refused when it is the current folder or one above', async () => {
    for (const folder of ['.', '..', process.cwd(), resolve('/')]) {
      for (const force of [true, false]) {
        const error = await errorOf(createCheckpointWriter(folder, { force }))
        expect(error).toBeInstanceOf(CheckpointError)
        expect(error.message).toMatch(/is the folder you are in or one above it/)
      }
    }
  })

  it('is refused when it is a mount point, which no rename can replace', async () => {
    const folder = join(await temporaryFolder(), 'volume')
    await mkdir(folder)
    const stat = async (path: string) => {
      const found = await nodeFileSystem.stat(path)
      return path === folder ? Object.assign(found, { dev: found.dev + 1 }) : found
    }
    const system = { ...nodeFileSystem, stat: stat as FileSystem['stat'] }
    const error = await errorOf(createCheckpointWriterOn(system, folder))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/is a mount point.*Choose a new folder inside it/)
    expect(await readdir(folder)).toEqual([])
  })

  it('is refused when it filled up while the new one was written, and both the message and the content say so', async () => {
    const parent = await temporaryFolder()
    const writer = await createCheckpointWriter(join(parent, 'out'))
    await mkdir(join(parent, 'out'))
    await writeFile(join(parent, 'out', 'config.json'), 'of another run')
    const error = await errorOf(writer.finish())
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/exists and is not empty/)
    expect(await tree(parent)).toEqual({
      'out/': '',
      'out/config.json': Buffer.from('of another run').toString('base64'),
    })
  })

  it('can be replaced though its files are read-only', async () => {
    const folder = await written(tensor('old', 'U8', [1]))
    await chmod(join(folder, 'model.safetensors'), 0o444)
    const writer = await createCheckpointWriter(folder, { force: true })
    await writer.add('f', 'F16', [2], encodeFloats('F16', Float32Array.of(1, 2)))
    await writer.finish()
    expect(await readdir(folder)).toEqual(['model.safetensors'])
  })
})
