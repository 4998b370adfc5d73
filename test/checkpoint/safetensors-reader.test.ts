import { truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { decodeFloats } from '../../src/checkpoint/dtype.js'
import { readSafetensors } from '../../src/checkpoint/safetensors/safetensors-reader.js'
import { createFilePool } from '../../src/checkpoint/sources/file-pool.js'
import { openSafetensors } from '../../src/checkpoint/sources/open-safetensors.js'
import { CheckpointError, ShapeError } from '../../src/common/errors.js'
import { arraySource, close, errorOf, fileOf, temporaryFolder, validFile } from './fixtures.js'

const A = {
  name: 'a',
  dtype: 'F32',
  shape: [2, 2],
  data: Uint8Array.from({ length: 16 }, (_, i) => i),
} as const
const B = { name: 'b', dtype: 'I16', shape: [3], data: Uint8Array.of(1, 2, 3, 4, 5, 6) } as const

async function fileWith(bytes: Uint8Array): Promise<string> {
  const path = join(await temporaryFolder(), 'x.safetensors')
  await writeFile(path, bytes)
  return path
}

describe('openSafetensors', () => {
  it('reads tensors, metadata and ranges from a file', async () => {
    const path = await fileWith(validFile([A, B], { format: 'pt' }))
    const file = await openSafetensors(path)
    expect(file.path).toBe(path)
    expect([...file.metadata]).toEqual([['format', 'pt']])
    expect([...file.tensors.values()]).toEqual([
      { name: 'a', dtype: 'F32', shape: [2, 2], bytes: 16, file: path },
      { name: 'b', dtype: 'I16', shape: [3], bytes: 6, file: path },
    ])
    expect(await file.read('a')).toEqual(A.data)
    expect(await file.read('b')).toEqual(B.data)
    expect(await file.readRange('b', 1, 4)).toEqual(Uint8Array.of(2, 3, 4))
    expect(await file.readRange('b', 6, 6)).toEqual(new Uint8Array(0))
    await file.close()
    await file.close()
    expect((await errorOf(file.read('a'))).message).toMatch(/was closed/)
  })

  it('reads a header whose data is at an odd position', async () => {
    const file = fileOf(
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      Uint8Array.of(0, 0, 0x80, 0x3f),
    )
    const { read } = await readSafetensors(arraySource(file), close)
    expect([...decodeFloats('F32', await read('a'))]).toEqual([1])
  })

  it('asks for the header when opened, and later for nothing but the bytes wanted', async () => {
    const bytes = validFile([A, B])
    const source = arraySource(bytes)
    const file = await readSafetensors(source, close)
    const dataStart = bytes.length - 22
    expect(source.asked).toEqual([
      [0, 8],
      [8, dataStart - 8],
    ])
    source.asked.length = 0
    await file.read('b')
    await file.readRange('a', 4, 12)
    expect(source.asked).toEqual([
      [dataStart + 16, 6],
      [dataStart + 4, 8],
    ])
  })

  it('refuses tensors that are not there and ranges outside a tensor', async () => {
    const { read, readRange } = await readSafetensors(arraySource(validFile([A, B])), close)
    expect((await errorOf(read('c'))).message).toMatch(/has no tensor "c" among its 2/)
    expect(await errorOf(read('__proto__'))).toBeInstanceOf(CheckpointError)
    for (const [start, end] of [
      [0, 7],
      [-1, 2],
      [3, 2],
      [0.5, 2],
      [0, Number.NaN],
    ]) {
      expect(await errorOf(readRange('b', start, end))).toBeInstanceOf(ShapeError)
    }
  })

  it('refuses a file cut off anywhere, and says how much is missing', async () => {
    const bytes = validFile([A, B], { format: 'pt' })
    for (let kept = 0; kept < bytes.length; kept++) {
      const error = await errorOf(readSafetensors(arraySource(bytes.slice(0, kept)), close))
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toMatch(kept < 8 ? /too few/ : /truncated/)
      if (kept > bytes.length - 22)
        expect(error.message).toContain(` ${bytes.length - kept} bytes are missing`)
    }
  })

  it('refuses a real model truncated halfway', async () => {
    const path = await fileWith(
      validFile([{ name: 'w', dtype: 'U8', shape: [1e6], data: new Uint8Array(1e6) }]),
    )
    await truncate(path, 500_000)
    const error = await errorOf(openSafetensors(path))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/truncated.*5000\d\d bytes are missing/)
  })

  it('notices that the file shrank after it was opened', async () => {
    const path = await fileWith(
      validFile([{ name: 'w', dtype: 'U8', shape: [10_000], data: new Uint8Array(10_000) }]),
    )
    const file = await openSafetensors(path)
    await truncate(path, 5000)
    const error = await errorOf(file.read('w'))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/ends at byte 5000, though it had 100\d\d bytes when it was opened/)
    await file.close()
  })

  it('refuses a missing file, a folder and a path through a file, each in words', async () => {
    const folder = await temporaryFolder()
    const plain = join(folder, 'plain')
    await writeFile(plain, 'x')
    expect((await errorOf(openSafetensors(join(folder, 'none')))).message).toMatch(
      /no such file or folder \(ENOENT\)/,
    )
    expect((await errorOf(openSafetensors(folder))).message).toMatch(/is a folder, expected a file/)
    for (const path of [join(folder, 'none'), folder, join(plain, 'x')]) {
      expect(await errorOf(openSafetensors(path))).toBeInstanceOf(CheckpointError)
    }
  })

  it('reads the embedded model', async () => {
    const path = fileURLToPath(new URL('../../examples/models/tiny-llama/model.safetensors', import.meta.url))
    const file = await openSafetensors(path)
    expect(file.metadata.get('format')).toBe('pt')
    let parameters = 0
    for (const { dtype, bytes } of file.tensors.values()) {
      expect(dtype).toBe('BF16')
      parameters += bytes / 2
    }
    expect(parameters).toBe(4_196_608)
    const norm = decodeFloats('BF16', await file.read('model.norm.weight'))
    expect(norm.length).toBe(256)
    expect(norm.every((value) => Number.isFinite(value) && value > 0)).toBe(true)
    await file.close()
  })
})

describe('createFilePool', () => {
  it('serves more files than stay open, in any order and at once', async () => {
    const folder = await temporaryFolder()
    const pool = createFilePool(2)
    const paths = Array.from({ length: 6 }, (_, i) => join(folder, `${i}`))
    await Promise.all(paths.map((path, i) => writeFile(path, Uint8Array.of(i, i + 100))))
    const sources = await Promise.all(paths.map((path) => pool.open(path)))
    for (const order of [
      [0, 1, 2, 3, 4, 5],
      [5, 0, 5, 0, 3],
      [2, 2, 2],
    ]) {
      for (const i of order) expect(await sources[i].readAt(1, 1)).toEqual(Uint8Array.of(i + 100))
      const all = await Promise.all(order.map((i) => sources[i].readAt(0, 2)))
      expect(all).toEqual(order.map((i) => Uint8Array.of(i, i + 100)))
    }
    await pool.close()
    expect(await errorOf(sources[0].readAt(0, 1))).toBeInstanceOf(CheckpointError)
  })

  it('refuses a file that was replaced while it was not open, and reads it again once it is as before', async () => {
    const path = await fileWith(Uint8Array.of(1, 2, 3))
    const time = new Date(1_700_000_000_000)
    await utimes(path, time, time)
    const pool = createFilePool(1)
    const source = await pool.open(path)
    await writeFile(path, 'longer than before')
    expect((await errorOf(source.readAt(0, 1))).message).toMatch(
      /was changed while it was in use \(3 bytes before, 18 now\)/,
    )
    await writeFile(path, Uint8Array.of(1, 2, 3))
    await utimes(path, time, time)
    expect(await source.readAt(0, 3)).toEqual(Uint8Array.of(1, 2, 3))
    await pool.close()
  })
})
