import { beforeAll, describe, expect, it } from 'vitest'
import { createScheduler } from '../../src/generate/batch/scheduler.js'
import { startEngine } from '../../src/model/ops/engine.js'
import { disposeDecoder, loadDecoder } from '../../src/model/passes/cached-decoder.js'
import { fixtureNames, openFixture } from '../model/families/fixture.js'
import { type KernelArrays, watchKernelArrays } from '../support/kernel-arrays.js'
import { choicesAfter, likeliestAfter } from './write-tokens.js'

/** Beyond the original length its angles change with every token; a cache has them for each doubling of it. */
const dynamic = 'llama-dynamic'

let arrays: KernelArrays
beforeAll(async () => {
  await startEngine('wasm')
  arrays = watchKernelArrays()
})

describe('three sequences at once, their prompts in parts', () => {
  it.each(fixtureNames.filter((name) => name !== dynamic))(
    '%s: each gets the tokens that whole forward passes find likeliest',
    async (name) => {
      const { source, config, tokens } = await openFixture(name)
      const prompts = [
        [...tokens.subarray(0, 14)],
        [...tokens.subarray(20, 23)],
        // shares its beginning with the first
        [...tokens.subarray(0, 9), ...tokens.subarray(20, 31)],
      ]
      const before = arrays.inUse()
      const decoder = await loadDecoder(source, config, { keepsExperts: true })
      const limits = { sequences: 3, promptTokens: 8, cacheBytes: 2 ** 24 }
      const scheduler = createScheduler(decoder, limits)
      const found = await Promise.all(prompts.map((prompt) => choicesAfter(scheduler, prompt, 6)))
      await scheduler.close()
      disposeDecoder(decoder)
      expect(arrays.inUse()).toBe(before)
      for (const [i, prompt] of prompts.entries()) {
        const expected = await likeliestAfter(source, config, prompt, 6)
        expect(found[i].map(({ token }) => token)).toEqual(expected)
      }
    },
  )
})
