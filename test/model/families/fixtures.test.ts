import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { openSafetensors } from '../../../src/checkpoint/safetensors-reader.js'
import { describeDecoder, supportedFamilies } from '../../../src/model/families/index.js'
import { describedTensors } from './described-tensors.js'

const folder = fileURLToPath(new URL('fixtures/', import.meta.url))
const variants = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())

/** What old checkpoints hold and nothing reads: masks, and frequencies that the configuration states. */
const unread = /attention\.(bias|masked_bias)$|rotary_emb\.inv_freq$/

it('there is a fixture of every family', () => {
  const found = variants.map(({ name }) => name.slice(0, name.indexOf('-')).replace('gemma3', 'gemma3_text'))
  expect(supportedFamilies.filter((family) => !found.includes(family))).toEqual([])
})

describe.each(variants.map(({ name }) => name))('%s', (variant) => {
  const path = `${folder}${variant}/config.json`
  const description = describeDecoder(JSON.parse(readFileSync(path, 'utf8')), path)

  it('names every tensor of its checkpoint, with its shape, and no other', async () => {
    const file = await openSafetensors(`${folder}${variant}/model.safetensors`)
    try {
      const stored = [...file.tensors.values()]
        .filter(({ name }) => !unread.test(name))
        .map(({ name, shape }) => [name, shape] as const)
      const byName = (a: readonly [string, unknown], b: readonly [string, unknown]) => (a[0] < b[0] ? -1 : 1)
      expect([...describedTensors(description)].sort(byName)).toEqual(stored.sort(byName))
    } finally {
      await file.close()
    }
  })
})
