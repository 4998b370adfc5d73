import { mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { matrix } from '../../../src/common/matrix.js'
import { type CalibrationStream, forEachBatch } from '../../../src/pipeline/calibrate/calibration-stream.js'
import { spillBatch } from '../../../src/pipeline/calibrate/spilled-batch.js'
import { normals } from '../../support/random-matrix.js'
import { rejectionOf } from '../../support/tolerance.js'

let path: string
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'gptvq-spilled-'))
})
afterEach(() => rmSync(path, { recursive: true, force: true }))

const states = [0, 1, 2].map((seed) => ({
  residual: matrix(6, 4, normals(24, seed)),
  attended: matrix(6, 4, normals(24, 10 + seed)),
}))

async function spilled(): Promise<CalibrationStream> {
  const folder = { path, files: 0 }
  const batches = []
  for (const state of states) batches.push(await spillBatch(folder, 2, state))
  return { length: 3, batches }
}

describe('batches on the disk', () => {
  it('come back as they were', async () => {
    const found: unknown[] = []
    await forEachBatch(await spilled(), undefined, ({ state }) => {
      found.push(state)
    })
    expect(found).toEqual(states)
  })

  it('are asked for before the one in front of them is computed', async () => {
    let seen = 0
    await forEachBatch(await spilled(), undefined, ({ state }, index) => {
      expect(state).toEqual(states[index])
      // what is open already can be read still
      if (index === 0) for (const file of [2, 3]) rmSync(join(path, String(file)))
      seen++
    }).catch((error) => expect(String(error)).toMatch(/cannot read .*2: no such file/))
    expect(seen).toBe(3)
  })

  it('of which one was cut short are an error that names its file', async () => {
    const stream = await spilled()
    truncateSync(join(path, '2'), 40)
    const error = await rejectionOf(() => forEachBatch(stream, undefined, () => {}))
    expect(String(error)).toMatch(/2: ends at byte 40, 96 were written/)
    expect(await readdir(path)).toHaveLength(6)
  })
})
