import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { cutWindows, evaluateModel, openModel, scoreModels } from '../../../src/model.js'
import { fixtureNames, openFixture } from './fixture.js'

// Gemma-7B without BOS has a perplexity of 6e9 on Lambada in the place of 3.5
// (https://github.com/EleutherAI/lm-evaluation-harness/pull/1465)
it.each(fixtureNames)('%s begins text with BOS if it is a Gemma', async (name) => {
  const { config } = await openFixture(name)
  expect(config.firstToken).toBe(name.startsWith('gemma') ? config.bosTokenId : undefined)
})

it('a Gemma is scored behind BOS in each window, another as the text is', async () => {
  for (const name of fixtureNames.filter((each) => /^(gemma|llama)/.test(each))) {
    const { folder, config } = await openFixture(name)
    const { vocab_size } = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
    const tokens = Int32Array.from({ length: 64 }, (_, i) => (7 * i + 3) % vocab_size)
    const { perplexity, windows } = await evaluateModel({
      model: folder,
      text: { tokens },
      context: 12,
      engine: 'wasm',
    })
    const model = await openModel(folder)
    const of = async (first: number | undefined) =>
      (await scoreModels({ candidates: [model], windows: cutWindows(tokens, 12, undefined, first) }))
        .candidates[0].perplexity
    expect(perplexity).toBe(await of(config.firstToken))
    expect(windows).toBe(5)
    if (name.startsWith('gemma')) expect(perplexity).not.toBe(await of(undefined))
    await model.close()
  }
})
