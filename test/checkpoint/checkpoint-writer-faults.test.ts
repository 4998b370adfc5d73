import { existsSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint.js'
import { type FileSystem, nodeFileSystem } from '../../src/checkpoint/file-system.js'
import {
  type CheckpointWriter,
  createCheckpointWriter,
  createCheckpointWriterOn,
} from '../../src/checkpoint/output/checkpoint-writer.js'
import { CheckpointError } from '../../src/common/errors.js'
import { errorOf, temporaryFolder, tree } from './fixtures.js'

const systemError = (code: string, syscall: string) =>
  Object.assign(new Error(`${code}: simulated, ${syscall}`), { code, syscall })

/** Passes every call on to the machine, each after `before` was asked with the name of the operation. */
function watched(before: (operation: string, path: string) => void): FileSystem {
  const watchHandle = (handle: FileHandle, path: string) =>
    new Proxy(handle, {
      get(target, key) {
        const member: unknown = Reflect.get(target, key)
        if (typeof member !== 'function') return member
        return async (...args: unknown[]) => {
          before(String(key), path)
          return member.apply(target, args)
        }
      },
    })
  return new Proxy(nodeFileSystem, {
    get(target, key) {
      const member: unknown = Reflect.get(target, key)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        before(String(key), String(args[0]))
        const result: unknown = await member.apply(target, args)
        return key === 'open' ? watchHandle(result as FileHandle, String(args[0])) : result
      }
    },
  })
}

const NEW_DATA = Uint8Array.from({ length: 64 }, (_, i) => i)

/** All kinds of steps: several shards, a written file, a copied one. */
async function writeAll(system: FileSystem, folder: string, options = {}): Promise<void> {
  let writer: CheckpointWriter | undefined
  try {
    writer = await createCheckpointWriterOn(system, folder, { maxShardBytes: 100, ...options })
    for (const name of ['a', 'b', 'c']) await writer.add(name, 'U8', [64], NEW_DATA)
    await writer.addFile('config.json', '{"new":true}')
    await writer.copyFile(join(folder, '..', 'tokenizer.json'))
    await writer.finish()
  } finally {
    await writer?.discard()
  }
}

async function parentWithTokenizer(): Promise<string> {
  const parent = await temporaryFolder()
  await writeFile(join(parent, 'tokenizer.json'), '{}')
  return parent
}

async function parentWithOutput(): Promise<string> {
  const parent = await parentWithTokenizer()
  await mkdir(join(parent, 'out'))
  await writeFile(join(parent, 'out', 'config.json'), '{"old":true}')
  await writeFile(join(parent, 'out', 'model.safetensors'), 'old weights')
  return parent
}

/** Operations of cleaning up: what happens when these fail is tested by itself. */
const CLEANING = ['rm', 'rmdir', 'close']

describe('when the operating system refuses any one operation', () => {
  const scenarios: [string, () => Promise<string>, string, object][] = [
    ['a new output', parentWithTokenizer, 'out', {}],
    ['an output replaced by force', parentWithOutput, 'out', { force: true }],
  ]
  it.each(scenarios)(
    '%s is either complete or untouched, and nothing temporary remains',
    async (_, prepare, out, options) => {
      const reference = await prepare()
      const operations: string[] = []
      await writeAll(
        watched((operation) => operations.push(operation)),
        join(reference, out),
        options,
      )
      const complete = await tree(reference)
      const outcomes = { failed: 0, complete: 0 }
      for (let fault = 0; fault < operations.length; fault++) {
        if (CLEANING.includes(operations[fault])) continue
        const parent = await prepare()
        const before = await tree(parent)
        let count = 0
        const system = watched((operation) => {
          if (count++ === fault) throw systemError('EIO', operation)
        })
        const error = await writeAll(system, join(parent, out), options).catch((thrown: unknown) => thrown)
        if (error === undefined) {
          outcomes.complete++
          expect(await tree(parent)).toEqual(complete)
        } else {
          outcomes.failed++
          expect(error).toBeInstanceOf(CheckpointError)
          expect((error as Error).message).toMatch(/the disk reports an input\/output error \(EIO\)/)
          expect(await tree(parent)).toEqual(before)
        }
      }
      // only asking for folders to be synchronized may fail unheeded: opening and synchronizing two folders
      expect(outcomes.complete).toBeLessThanOrEqual(4)
      expect(outcomes.failed).toBeGreaterThan(40)
    },
  )

  it('an empty output folder is there again when nothing could be moved into its place', async () => {
    const parent = await temporaryFolder()
    await mkdir(join(parent, 'out'))
    const system = watched((operation, path) => {
      if (operation === 'rename' && path.includes('.partial-') && !path.includes('.shard-'))
        throw systemError('EACCES', 'rename')
    })
    const writer = await createCheckpointWriterOn(system, join(parent, 'out'))
    const error = await errorOf(writer.finish())
    expect(error.message).toMatch(
      /cannot write .*out: permission denied \(EACCES\)\. Nothing of it is left behind; make room or choose another output$/,
    )
    expect(await tree(parent)).toEqual({ 'out/': '' })
  })
})

describe('when the operating system writes and reads less at a time than asked', () => {
  it('the files are the same', async () => {
    const [whole, piecemeal] = [await parentWithTokenizer(), await parentWithTokenizer()]
    const few = (length: number) => Math.min(length, 7)
    const inPieces = (handle: FileHandle) =>
      new Proxy(handle, {
        get(target, key) {
          const member: unknown = Reflect.get(target, key)
          if (typeof member !== 'function') return member
          if (key !== 'write' && key !== 'read') return member.bind(target)
          return (bytes: Uint8Array, offset: number, length: number, position: number) =>
            member.call(target, bytes, offset, few(length), position)
        },
      })
    const system: FileSystem = {
      ...nodeFileSystem,
      open: async (...args: Parameters<FileSystem['open']>) => inPieces(await nodeFileSystem.open(...args)),
    }
    await writeAll(nodeFileSystem, join(whole, 'out'))
    await writeAll(system, join(piecemeal, 'out'))
    expect(await tree(piecemeal)).toEqual(await tree(whole))
  })
})

describe('when the disk is full', () => {
  /** A disk with room for `room` bytes: the write that exceeds it is cut short, as on a real one, the next refused. */
  const diskOf = (room: number): FileSystem => {
    let left = room
    const limit = (handle: FileHandle) =>
      new Proxy(handle, {
        get(target, key) {
          const member: unknown = Reflect.get(target, key)
          if (typeof member !== 'function') return member
          if (key !== 'write') return member.bind(target)
          return async (bytes: Uint8Array, offset: number, length: number, position: number) => {
            if (left === 0 && length > 0) throw systemError('ENOSPC', 'write')
            const result = await target.write(bytes, offset, Math.min(length, left), position)
            left -= result.bytesWritten
            return result
          }
        },
      })
    return {
      ...nodeFileSystem,
      open: async (...args: Parameters<FileSystem['open']>) => limit(await nodeFileSystem.open(...args)),
    }
  }

  it('at any byte, the error says so, the earlier output is intact and nothing temporary remains', async () => {
    const reference = await parentWithOutput()
    await writeAll(nodeFileSystem, join(reference, 'out'), { force: true })
    const complete = await tree(reference)
    let room = 0
    for (; ; room += 17) {
      const parent = await parentWithOutput()
      const before = await tree(parent)
      const error = await writeAll(diskOf(room), join(parent, 'out'), { force: true }).catch(
        (thrown: unknown) => thrown,
      )
      if (error === undefined) {
        expect(await tree(parent)).toEqual(complete)
        break
      }
      expect(error).toBeInstanceOf(CheckpointError)
      expect((error as Error).message).toContain(
        `cannot write ${join(parent, 'out')}: no space left on the disk (ENOSPC)`,
      )
      expect(await tree(parent)).toEqual(before)
    }
    // three tensors of 64 bytes are written twice, once as spill
    expect(room).toBeGreaterThan(2 * 3 * 64)
  })

  it('the kernel itself refuses where it has a device for that', async () => {
    const device = '/dev/full'
    const real = existsSync(device)
    const system: FileSystem = real
      ? {
          ...nodeFileSystem,
          open: (path, flags, mode) =>
            String(path).endsWith('.spill')
              ? nodeFileSystem.open(device, 'r+')
              : nodeFileSystem.open(path, flags, mode),
        }
      : diskOf(0)
    const parent = await temporaryFolder()
    const writer = await createCheckpointWriterOn(system, join(parent, 'new', 'out'))
    const error = await errorOf(writer.add('w', 'U8', [64], NEW_DATA))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/cannot write .*out: no space left on the disk \(ENOSPC\)/)
    expect(await readdir(parent)).toEqual([])
    expect((await errorOf(writer.add('v', 'U8', [64], NEW_DATA))).message).toMatch(
      /failed before \(no space left on the disk/,
    )
    await writer.discard()
  })
})

describe('an output that cannot be written', () => {
  it('under a plain file is refused by name, and the file is kept', async () => {
    const parent = await temporaryFolder()
    await writeFile(join(parent, 'file'), 'content')
    for (const folder of [join(parent, 'file', 'out'), join(parent, 'file', 'deep', 'out')]) {
      const error = await errorOf(createCheckpointWriter(folder))
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toContain(`cannot write ${folder}, choose another output: `)
      expect(error.message).toMatch(/file/)
    }
    expect(await readFile(join(parent, 'file'), 'utf8')).toBe('content')
    expect(await readdir(parent)).toEqual(['file'])
  })

  it.each([
    ['EACCES', 'permission denied'],
    ['EROFS', 'the file system is read-only'],
    ['ENOTDIR', 'a part of the path is a file'],
  ])('for %s is refused in words, before anything is created', async (code, words) => {
    const parent = await temporaryFolder()
    const system = watched((operation, path) => {
      if (operation === 'mkdir' && path.includes('.partial-')) throw systemError(code, operation)
    })
    const error = await errorOf(createCheckpointWriterOn(system, join(parent, 'new', 'out')))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toContain(
      `cannot write ${join(parent, 'new', 'out')}, choose another output: ${words}`,
    )
    expect(await readdir(parent)).toEqual([])
  })

  it('because its name is too long says so', async () => {
    const parent = await temporaryFolder()
    const error = await errorOf(createCheckpointWriter(join(parent, 'n'.repeat(5000))))
    expect(error).toBeInstanceOf(CheckpointError)
    expect(await readdir(parent)).toEqual([])
  })
})

describe('when an output is replaced and', () => {
  const renameTo = (matches: (from: string, to: string) => boolean): FileSystem => ({
    ...nodeFileSystem,
    rename: async (from, to) => {
      if (matches(String(from), String(to))) throw systemError('EBUSY', 'rename')
      await rename(from, to)
    },
  })
  const isAside = (path: string) => path.includes('.replaced-')
  const fill = async (writer: CheckpointWriter) => {
    await writer.add('w', 'U8', [64], NEW_DATA)
    await writer.addFile('config.json', '{"new":true}')
  }

  it('the new one cannot be moved in, the old one is moved back', async () => {
    const parent = await parentWithOutput()
    const before = await tree(parent)
    const system = renameTo((_, to) => to === join(parent, 'out') && !isAside(_))
    const writer = await createCheckpointWriterOn(system, join(parent, 'out'), { force: true })
    await fill(writer)
    const error = await errorOf(writer.finish())
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toMatch(/cannot write .*out: it is in use/)
    expect(await tree(parent)).toEqual(before)
  })

  it('the old one cannot be moved back either, the message says where it is', async () => {
    const parent = await parentWithOutput()
    const old = await tree(join(parent, 'out'))
    const writer = await createCheckpointWriterOn(
      renameTo((_, to) => to === join(parent, 'out')),
      join(parent, 'out'),
      { force: true },
    )
    await fill(writer)
    const { message } = await errorOf(writer.finish())
    const aside = (await readdir(parent)).find(isAside)
    expect(message).toContain(`is in ${join(parent, aside!)}: rename it yourself`)
    expect(await tree(join(parent, aside!))).toEqual(old)
    expect((await readdir(parent)).sort()).toEqual([aside, 'tokenizer.json'])
  })

  it('the old one cannot be removed, the new one stays and the message says what remains', async () => {
    const parent = await parentWithOutput()
    const system: FileSystem = {
      ...nodeFileSystem,
      rm: async (path, options) => {
        if (isAside(String(path))) throw systemError('EPERM', 'rm')
        await nodeFileSystem.rm(path, options)
      },
    }
    const writer = await createCheckpointWriterOn(system, join(parent, 'out'), { force: true })
    await fill(writer)
    const { message } = await errorOf(writer.finish())
    await writer.discard()
    const aside = (await readdir(parent)).find(isAside)
    expect(message).toMatch(/is written, complete and in its place.*the operation is not permitted/)
    expect(message).toContain(`Remove ${join(parent, aside!)} yourself`)
    expect((await readdir(join(parent, 'out'))).sort()).toEqual(['config.json', 'model.safetensors'])
  })
})

describe('what a power failure can take', () => {
  it('is never both contents of a folder: the earlier one is removed when the new one has its name on the disk', async () => {
    const parent = await parentWithOutput()
    const steps: string[] = []
    const system = watched((operation, path) => steps.push(`${operation} ${path}`))
    await writeAll(system, join(parent, 'out'), { force: true })
    const moved = steps.findLastIndex((step) => step.startsWith('rename'))
    const removed = steps.findIndex((step) => step.startsWith('rm ') && step.includes('.replaced-'))
    const between = steps.slice(moved, removed)
    expect(steps[moved]).toMatch(/\.partial-/)
    expect(removed).toBeGreaterThan(moved)
    expect(between).toContain(`sync ${parent}`)
  })

  it('is no folder that was created for the output: each has its entry on the disk', async () => {
    const parent = await parentWithTokenizer()
    const steps: string[] = []
    const system = watched((operation, path) => steps.push(`${operation} ${path}`))
    const writer = await createCheckpointWriterOn(system, join(parent, 'a', 'b', 'out'))
    await writer.finish()
    for (const folder of [parent, join(parent, 'a'), join(parent, 'a', 'b')]) {
      expect(steps).toContain(`sync ${folder}`)
    }
  })
})

describe('after a process was killed between the renames', () => {
  it('reading and writing say where the earlier content is, and go on once it is moved back', async () => {
    const parent = await parentWithOutput()
    const out = join(parent, 'out')
    const aside = join(parent, '.out.replaced-4711-0123abcd')
    await rename(out, aside)
    for (const failed of [openCheckpoint(out), createCheckpointWriter(out, { force: true })]) {
      const error = await errorOf(failed)
      expect(error).toBeInstanceOf(CheckpointError)
      expect(error.message).toContain(`its earlier content is in ${aside}: rename that back`)
    }
    await rename(aside, out)
    await writeAll(nodeFileSystem, out, { force: true })
    expect(await readdir(out)).toContain('config.json')
  })
})

describe('temporary files that cannot be removed', () => {
  it('are named, after a failure and by discard', async () => {
    const parent = await temporaryFolder()
    let full = false
    const system = watched((operation) => {
      if (full && operation === 'write') throw systemError('ENOSPC', operation)
      if (operation === 'rm') throw systemError('EPERM', operation)
    })
    const writer = await createCheckpointWriterOn(system, join(parent, 'out'))
    full = true
    const failure = await errorOf(writer.add('w', 'U8', [64], NEW_DATA))
    const [partial] = await readdir(parent)
    expect(failure.message).toMatch(/no space left on the disk/)
    expect(failure.message).toContain(`temporary folder ${join(parent, partial)} could not be removed`)
    const discarded = await errorOf(writer.discard())
    expect(discarded).toBeInstanceOf(CheckpointError)
    expect(discarded.message).toContain(join(parent, partial))
  })
})
