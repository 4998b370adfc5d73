import { mkdir, readdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type FileSystem, nodeFileSystem, writeAt } from '../../../src/checkpoint/file-system.js'
import { CheckpointError, OptionError } from '../../../src/common/errors.js'
import { matrix } from '../../../src/common/matrix.js'
import { describeDecoder } from '../../../src/model.js'
import { calibrationStream } from '../../../src/pipeline/calibrate/calibration-stream.js'
import type { RunIdentity } from '../../../src/pipeline/resume/identity.js'
import { openJournal } from '../../../src/pipeline/resume/journal.js'
import { readStream, writeStream } from '../../../src/pipeline/resume/saved-streams.js'
import { temporaryFolder } from '../../checkpoint/fixtures.js'
import { gaussianMatrix } from '../../support/random-matrix.js'
import { tinyConfig } from '../../support/tiny-model.js'
import { rejectionOf } from '../../support/tolerance.js'

const identity: RunIdentity = {
  method: 'gptvq',
  settings: { bits: 2 },
  config: 'c',
  run: {
    options: {},
    version: '1',
    node: '20',
    engine: null,
    products: 'wasm',
    kernels: 'baseline',
    weights: 'w',
    calibration: null,
  },
}

const open = (output: string, resume: boolean, system: FileSystem = nodeFileSystem) =>
  openJournal(output, identity, { resume, blocks: 3, system })

const text = (words: string) => (handle: Parameters<typeof writeAt>[0]) =>
  writeAt(handle, new TextEncoder().encode(words), 0)

describe('a journal', () => {
  it('is after every failure of the system what it was before or what it was to be', async () => {
    let failures = 0
    for (let turn = 0; ; turn++) {
      const output = join(await temporaryFolder(), 'deep', 'out')
      const first = await open(output, true)
      await first.save({ blocks: ['block-1.layers'] }, { 'block-1.layers': text('one') })
      await first.keep()
      let left = turn
      const system = failing(() => left-- === 0)
      const error = await (async () => {
        const journal = await open(output, true, system)
        await journal.save(
          { blocks: ['block-1.layers', 'block-2.layers'], streams: { present: 'block-2.present' } },
          { 'block-2.layers': text('two'), 'block-2.present': text('stream') },
        )
        await journal.keep()
      })().catch((error: unknown) => error)
      if (error !== undefined) {
        failures++
        expect(error).toBeInstanceOf(CheckpointError)
        expect((error as Error).message).toMatch(/no space left/)
        // as after a crash: what held the lock is gone
        await nodeFileSystem.rm(join(output, '..', '.out.unfinished', 'lock-1.json'), { force: true })
      }
      const again = await openAfterCrash(output)
      const { blocks } = again.state
      expect([1, 2]).toContain(blocks.length)
      expect(await readFile(join(again.folder, blocks[0]), 'utf8')).toBe('one')
      const expected = ['journal.json', 'lock-1.json', ...blocks, ...(blocks[1] ? ['block-2.present'] : [])]
      expect((await readdir(again.folder)).sort()).toEqual(expected.sort())
      if (error === undefined) expect(blocks.length).toBe(2)
      await again.remove()
      if (left >= 0) break
    }
    expect(failures).toBeGreaterThan(8)
  })

  it('is not taken from a process that runs, and taken over from one that does not', async () => {
    const output = join(await temporaryFolder(), 'out')
    const first = await open(output, false)
    const error = await rejectionOf(() => open(output, false))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(new RegExp(`the process ${process.pid} is writing it`))
    await first.keep()
    const lock = join(first.folder, 'lock-1.json')
    await writeFile(lock, JSON.stringify({ pid: process.ppid, host: hostname() }))
    expect(((await rejectionOf(() => open(output, false))) as Error).message).toMatch(/remove .*lock-1\.json/)
    for (const gone of [
      { pid: 2 ** 22 + 1, host: hostname() },
      { pid: process.ppid, host: 'another' },
      'torn',
    ]) {
      await writeFile(lock, typeof gone === 'string' ? '{"pid":' : JSON.stringify(gone))
      await (await open(output, false)).keep()
    }
    await (await open(output, false)).remove()
    expect(await readdir(join(output, '..'))).toEqual([])
  })

  it('is given back when what a killed run left cannot be removed, and the error says where that is', async () => {
    const output = join(await temporaryFolder(), 'out')
    const first = await open(output, false)
    await first.save({ blocks: ['block-1.layers'] }, { 'block-1.layers': text('one') })
    await writeFile(join(first.folder, 'half-written'), '')
    await first.keep()
    const rm: FileSystem['rm'] = async (path, options) => {
      if (!String(path).endsWith('half-written')) return nodeFileSystem.rm(path, options)
      throw Object.assign(new Error('EACCES'), { code: 'EACCES', syscall: 'unlink' })
    }
    const error = await rejectionOf(() => open(output, true, { ...nodeFileSystem, rm }))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(
      /cannot use .*unfinished, make it writable .*: permission denied/,
    )
    const again = await open(output, true)
    expect(again.state.blocks).toEqual(['block-1.layers'])
    await again.remove()
  })

  it('is not gone on with by other products, whichever of them it was begun with', async () => {
    const blas = { ...identity, run: { ...identity.run, products: 'blas (OpenBLAS 0.3.21 Haswell)' } }
    for (const [begun, now, words] of [
      [identity, blas, 'products wasm (now "blas (OpenBLAS 0.3.21 Haswell)")'],
      [blas, identity, 'products "blas (OpenBLAS 0.3.21 Haswell)" (now wasm)'],
    ] as const) {
      const output = join(await temporaryFolder(), 'out')
      const first = await openJournal(output, begun, { resume: false, blocks: 3 })
      await first.save({ blocks: ['block-1.layers'] }, { 'block-1.layers': text('one') })
      await first.keep()
      const error = await rejectionOf(() => openJournal(output, now, { resume: true, blocks: 3 }))
      expect(error).toBeInstanceOf(OptionError)
      expect((error as Error).message).toContain(`was begun with ${words}. Go on with what it was begun with`)
    }
  })

  it('of another form is refused by name', async () => {
    const output = join(await temporaryFolder(), 'out')
    const folder = join(output, '..', '.out.unfinished')
    await mkdir(folder)
    await writeFile(join(folder, 'journal.json'), '{"version":7}')
    const error = await rejectionOf(() => open(output, true))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(
      /journal\.json: is no journal that this version reads \(version 7\)/,
    )
  })
})

describe('a saved stream', () => {
  const config = describeDecoder(tinyConfig, 'config.json')
  const length = 24

  it('is read as it was written, and refused when it is cut off', async () => {
    const folder = await temporaryFolder()
    const hidden = gaussianMatrix(100 * length, config.hiddenSize, 1)
    const stream = calibrationStream(config, hidden.data, length)
    const handle = await nodeFileSystem.open(join(folder, 'stream'), 'wx')
    await writeStream(stream)(handle)
    await handle.close()
    const read = await readStream(folder, 'stream', config, 100, length)
    expect(read.batches.map(({ sequences }) => sequences)).toEqual([85, 15])
    const values = await Promise.all(read.batches.map((batch) => batch.read()))
    const joined = values.flatMap(({ residual }) => Array.from(residual!.data))
    expect(matrix(hidden.rows, hidden.cols, Float32Array.from(joined))).toEqual(hidden)
    await truncate(join(folder, 'stream'), 1000)
    const error = await rejectionOf(() => readStream(folder, 'stream', config, 100, length))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(/stream: has 1000 bytes, expected 307200/)
  })
})

/** The file system with a disk that is full at one call. */
function failing(isFull: () => boolean): FileSystem {
  const guarded =
    (name: 'open' | 'rename' | 'mkdir') =>
    async (...args: unknown[]) => {
      // what is only read needs no room
      const writes = name !== 'open' || args[1] !== 'r'
      if (writes && isFull()) {
        throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC', syscall: name })
      }
      const result = await (nodeFileSystem[name] as (...args: unknown[]) => Promise<unknown>)(...args)
      if (name !== 'open' || !writes) return result
      return new Proxy(result as object, {
        get(handle, member) {
          const value = Reflect.get(handle, member)
          if (member === 'write' || member === 'sync') {
            return async (...rest: unknown[]) => {
              if (isFull()) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'write' })
              return value.apply(handle, rest)
            }
          }
          return typeof value === 'function' ? value.bind(handle) : value
        },
      })
    }
  return {
    ...nodeFileSystem,
    open: guarded('open') as FileSystem['open'],
    rename: guarded('rename') as FileSystem['rename'],
    mkdir: guarded('mkdir') as FileSystem['mkdir'],
  }
}

/** Opens a journal that this process may still hold, which a process that crashed would not. */
async function openAfterCrash(output: string) {
  const journal = await open(output, true).catch(() => undefined)
  if (journal) return journal
  throw new Error('the journal is still held')
}
