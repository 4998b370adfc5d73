import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import { quantizeModel } from '../../src/model.js'
import { writeTinyModel } from '../support/tiny-model.js'
import type { BadInput } from './bad-input-cases.js'

let home: string

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'gptvq-bad-input-'))
  const { folder: model } = await writeTinyModel(join(home, 'sound'))
  await quantizeModel({ model, output: join(home, 'earlier'), method: 'rtn' })
})

afterAll(() => rm(home, { recursive: true, force: true }))

/** A sound quantized folder, the same for all tests of a file; removed after them. */
export const earlierOutput = () => join(home, 'earlier')

/** An empty folder, and where in it a model and an output go. */
export async function caseFolder(): Promise<{ folder: string; model: string; output: string }> {
  const folder = await mkdtemp(join(home, 'case-'))
  return { folder, model: join(folder, 'model'), output: join(folder, 'output') }
}

/** Checks the class of an error and that its message names all it should. */
export function expectError(error: Error, { error: type, says }: Pick<BadInput, 'error' | 'says'>): void {
  expect(error).toBeInstanceOf(type)
  for (const words of says) expect(error.message).toMatch(words)
}
