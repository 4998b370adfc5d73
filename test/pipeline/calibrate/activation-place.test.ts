import { open, readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { CheckpointError } from '../../../src/common/errors.js'
import { matrix } from '../../../src/common/matrix.js'
import { quantizeModel } from '../../../src/model.js'
import { openActivations } from '../../../src/pipeline/calibrate/activation-place.js'
import { leastMemory } from '../../../src/pipeline/calibrate/memory-bound.js'
import { prepareRun } from '../../../src/pipeline/quantize/prepare-run.js'
import { temporaryFolder } from '../../checkpoint/fixtures.js'
import { rejectionOf } from '../../support/tolerance.js'
import { baseOptions, filesOf, writeFourBlocks } from '../resume/models.js'

const state = { residual: matrix(2, 2, Float32Array.of(1, 2, 3, 4)) }

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** From now on the disk takes no bytes while `isFull` says so. */
async function fillDisk(isFull: () => boolean): Promise<void> {
  const handle = await open(process.execPath)
  const prototype = Object.getPrototypeOf(handle)
  await handle.close()
  const { write } = prototype
  vi.spyOn(prototype, 'write').mockImplementation(function (this: unknown, ...args: unknown[]) {
    if (!isFull()) return write.apply(this, args)
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), {
      code: 'ENOSPC',
      syscall: 'write',
    })
  })
}

describe('activations that have no room in memory', () => {
  const refusalOf = async (folder: string | undefined) => {
    const activations = await openActivations(0, folder)
    const error = await rejectionOf(() => activations.place(0, 1, state))
    await activations.close()
    expect(error).toBeInstanceOf(CheckpointError)
    return (error as Error).message
  }

  it('are refused with the folder and the ways on where it cannot be made', async () => {
    const gone = join(await temporaryFolder(), 'gone')
    const words = (path: string, reason: string) =>
      `cannot spill activations to ${path}, make room there or raise --memory (option memory): ${reason}`
    const missing = words(gone, 'no such file or folder (ENOENT)')
    expect(await refusalOf(gone)).toBe(missing)
    vi.stubEnv('TMPDIR', gone)
    expect(tmpdir()).toBe(gone)
    expect(await refusalOf(undefined)).toBe(missing)
  })

  it('are refused so where the disk is full, in the middle of a run too, which goes on later', async () => {
    let isFull = true
    await fillDisk(() => isFull)
    const place = await temporaryFolder()
    expect(await refusalOf(place)).toMatch(
      /cannot spill activations to .*spill, make room .*: no space left on the disk \(ENOSPC\)$/,
    )
    isFull = false
    const model = join(place, 'model')
    await writeFourBlocks(model)
    const options = { ...baseOptions, model }
    const prepared = await prepareRun(options)
    const memory = Math.ceil(leastMemory(prepared))
    await prepared.checkpoint.close()
    const output = join(place, 'out')
    const onProgress = ({ step }: { step: string }) => {
      isFull ||= step.includes('block 3 of 4: running')
    }
    const error = await rejectionOf(() => quantizeModel({ ...options, output, memory, onProgress }))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(
      /^cannot spill activations to .*unfinished.spill, .*\(ENOSPC\)\. What was done is kept for --resume .*2 of 4 blocks/,
    )
    isFull = false
    await quantizeModel({ ...options, output, memory, resume: true })
    const whole = join(place, 'whole')
    await quantizeModel({ ...options, output: whole })
    expect(await filesOf(output)).toEqual(await filesOf(whole))
    expect((await readdir(place)).filter((name) => name.startsWith('.'))).toEqual([])
  })
})
