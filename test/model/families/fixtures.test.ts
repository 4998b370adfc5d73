import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { decodeFloats } from '../../../src/checkpoint/dtype.js'
import { openSafetensors } from '../../../src/checkpoint/sources/open-safetensors.js'
import { describeDecoder, supportedFamilies } from '../../../src/model/families/index.js'
import { describedTensors } from './described-tensors.js'
import { plainLogits } from './plain-decoder.js'

const folder = fileURLToPath(new URL('fixtures/', import.meta.url))
const variants = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())

/** What old checkpoints hold and nothing reads: masks, and frequencies that the configuration states. */
const unread = /attention\.(bias|masked_bias)$|rotary_emb\.inv_freq$/

interface Stored {
  readonly shape: readonly number[]
  readonly bytes: Uint8Array
  readonly floats: () => Float32Array
}

async function readAll(path: string): Promise<Map<string, Stored>> {
  const file = await openSafetensors(path)
  try {
    const found = new Map<string, Stored>()
    for (const { name, shape, dtype } of file.tensors.values()) {
      const bytes = await file.read(name)
      let floats: Float32Array | undefined
      found.set(name, {
        shape,
        bytes,
        floats: () => {
          floats ??= decodeFloats(dtype, bytes)
          return floats
        },
      })
    }
    return found
  } finally {
    await file.close()
  }
}

it('there is a fixture of every family', () => {
  const found = variants.map(({ name }) => name.slice(0, name.indexOf('-')).replace('gemma3', 'gemma3_text'))
  expect(supportedFamilies.filter((family) => !found.includes(family))).toEqual([])
})

describe.each(variants.map(({ name }) => name))('%s', (variant) => {
  const path = `${folder}${variant}/config.json`
  const description = describeDecoder(JSON.parse(readFileSync(path, 'utf8')), path)

  it('names every tensor of its checkpoint, with its shape, and no other', async () => {
    const tensors = await readAll(`${folder}${variant}/model.safetensors`)
    const stored = [...tensors].map(([name, { shape }]) => [name, shape] as const)
    const byName = (a: readonly [string, unknown], b: readonly [string, unknown]) => (a[0] < b[0] ? -1 : 1)
    expect([...describedTensors(description)].sort(byName)).toEqual(
      stored.filter(([name]) => !unread.test(name)).sort(byName),
    )
  })

  it('gives the logits of transformers when it is run plainly', async () => {
    const tensors = await readAll(`${folder}${variant}/model.safetensors`)
    const oracle = await readAll(`${folder}${variant}/oracle.safetensors`)
    const { bytes, shape } = oracle.get('tokens')!
    const length = shape[1]
    const ids = Array.from(new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4))
    const expected = oracle.get('logits')!.floats()
    const weights = (name: string) => tensors.get(name)!.floats()
    // one row of the batch tells as much as all of them
    const found = plainLogits(description, weights, ids.slice(0, length)).flat()
    const most = expected.reduce((top, one) => Math.max(top, Math.abs(one)), 0)
    const off = found.reduce((top, one, at) => Math.max(top, Math.abs(one - expected[at])), 0)
    expect(found.length).toBe(length * description.vocabSize)
    expect(off / most).toBeLessThan(1e-5)
  })
})
