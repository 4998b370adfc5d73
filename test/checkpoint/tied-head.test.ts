import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { exportGguf } from '../../src/export.js'
import { describeDecoder } from '../../src/model/families/index.js'
import {
  dequantizeModel,
  estimateModel,
  evaluateModel,
  inspectModel,
  openCheckpoint,
  openModel,
  quantizeModel,
  quantizeTensors,
} from '../../src/model.js'
import { fixtureFolder, fixtureOfEachFamily } from '../model/families/fixture.js'
import { addTensor, withConfig, withWeights } from '../support/edit-model.js'
import { type TinyTensor, tinyText, writeTinyModel } from '../support/tiny-model.js'
import { errorOf, temporaryFolder } from './fixtures.js'

const embedding = 'model.embed_tokens.weight'
const head = 'lm_head.weight'

type Tensors = Map<string, TinyTensor>

const alone = (tensors: Tensors) => tensors.delete(head)
const twice = (tensors: Tensors) => tensors.set(head, tensors.get(embedding)!)
const apart = (tensors: Tensors) => {
  const { shape, values } = tensors.get(embedding)!
  tensors.set(head, { shape, values: values.with(values.length - 1, 3) })
}
const headAlone = (tensors: Tensors) => {
  tensors.set(head, tensors.get(embedding)!)
  tensors.delete(embedding)
}

async function tiedModel(folder: string, tensors: (tensors: Tensors) => unknown): Promise<string> {
  const config = { tie_word_embeddings: true }
  return (await writeTinyModel(folder, { config, tensors })).folder
}

/** All files of a folder; the hashes of the weights that it was made from are those of another file. */
async function contents(folder: string): Promise<Map<string, string>> {
  const files = (await readdir(folder)).sort()
  const read = (name: string) => readFile(join(folder, name), 'latin1')
  return new Map(
    await Promise.all(
      files.map(async (name) => [name, (await read(name)).replaceAll(/\b[0-9a-f]{64}\b/g, '')] as const),
    ),
  )
}

describe('a head that is tied to the embedding and stored again', () => {
  it('leaves every output as it is without the copy, where the two are equal', async () => {
    const work = await temporaryFolder()
    const made = async (name: string, tensors: (tensors: Tensors) => unknown) => {
      const at = (step: string) => join(work, name, step)
      // the same path, as errors and cards may name it
      const model = await tiedModel(at('model'), tensors)
      const rounded = { model, method: 'rtn', embeddingBits: 4 } as const
      const { wholeModel } = await quantizeModel({ ...rounded, output: at('quantized') })
      await dequantizeModel({ model: at('quantized'), output: at('plain') })
      await quantizeTensors({ model, output: at('tensors') })
      await exportGguf({ model, output: at('model.gguf'), type: 'f32' })
      const folders = await Promise.all(['quantized', 'plain', 'tensors'].map((step) => contents(at(step))))
      const { weights, bytes } = await inspectModel(model)
      const { outputBytes, wholeModelBits } = await estimateModel(rounded)
      const gguf = await readFile(at('model.gguf'), 'latin1')
      return { folders, wholeModel, weights, bytes, outputBytes, wholeModelBits, gguf }
    }
    const [found, expected] = [await made('twice', twice), await made('once', alone)]
    expect(found).toEqual(expected)
    const { weights } = await inspectModel(join(work, 'twice', 'quantized'))
    expect(weights.find(({ name }) => name === embedding)?.bitsPerValue).toBeLessThan(5)
    expect(weights.some(({ name }) => name === head)).toBe(false)
  })

  it('is refused where the two differ, in the last value, naming both and what to do', async () => {
    const work = await temporaryFolder()
    const model = await tiedModel(join(work, 'model'), apart)
    const output = join(work, 'output')
    const says = `${model}: ${head} is stored beside ${embedding} and holds other values`
    const text = { text: tinyText(300) }
    for (const refused of [
      () => openCheckpoint(model),
      () => openModel(model),
      () => inspectModel(model),
      () => quantizeModel({ model, output, method: 'rtn' }),
      () => estimateModel({ model, method: 'rtn' }),
      () => evaluateModel({ model, text }),
      () => exportGguf({ model, output }),
    ]) {
      const { message } = await errorOf(refused())
      expect(message).toContain(says)
      expect(message).toMatch(/tie_word_embeddings to false there if .* is meant, or else remove lm_head/)
    }
    expect(await readdir(work)).toEqual(['model'])
    const untied = await withConfig(model, join(work, 'untied'), (config) => {
      config.tie_word_embeddings = false
    })
    const opened = await openModel(untied)
    expect(opened.config.head.tensor).toBe(head)
    await opened.close()
  })

  it('stands for the embedding where that is not stored', async () => {
    const work = await temporaryFolder()
    const model = await tiedModel(join(work, 'model'), headAlone)
    const usual = await tiedModel(join(work, 'usual'), alone)
    const [found, expected] = [await openModel(model), await openModel(usual)]
    expect(await found.source.floats(embedding)).toEqual(await expected.source.floats(embedding))
    expect(await found.source.rows(embedding, 7, 2)).toEqual(await expected.source.rows(embedding, 7, 2))
    await found.close()
    await expected.close()
    const rounded = { method: 'rtn', embeddingBits: 4 } as const
    await quantizeModel({ ...rounded, model, output: join(work, 'found') })
    await quantizeModel({ ...rounded, model: usual, output: join(work, 'expected') })
    const weights = async (name: string) => (await inspectModel(join(work, name))).weights
    expect(new Set(await weights('found'))).toEqual(new Set(await weights('expected')))
  })

  it('is refused where the embedding is quantized and the head is not', async () => {
    const work = await temporaryFolder()
    const model = await tiedModel(join(work, 'model'), alone)
    await quantizeModel({ model, output: join(work, 'quantized'), method: 'rtn', embeddingBits: 4 })
    const plain = await openCheckpoint(model)
    const bytes = await plain.readBytes(embedding)
    await plain.close()
    const both = await withWeights(join(work, 'quantized'), join(work, 'both'), (file) =>
      addTensor(file, head, 'F32', [258, 32], bytes),
    )
    expect((await errorOf(openModel(both))).message).toContain(`${head} is stored beside ${embedding}`)
  })

  it.each(fixtureOfEachFamily)('is known by its name: %s', async (fixture) => {
    const work = await temporaryFolder()
    const from = join(fixtureFolder, fixture)
    const config = JSON.parse(await readFile(join(from, 'config.json'), 'utf8'))
    const own = describeDecoder({ ...config, tie_word_embeddings: false }, fixture)
    const tied = await withConfig(from, join(work, 'tied'), (json) => {
      json.tie_word_embeddings = true
    })
    const model = join(work, 'model')
    await withWeights(tied, model, (file) => {
      const { vocabSize, hiddenSize } = own
      if (own.head.tensor in file.header) return
      addTensor(
        file,
        own.head.tensor,
        'F32',
        [vocabSize, hiddenSize],
        new Uint8Array(4 * vocabSize * hiddenSize),
      )
    })
    expect(own.head.tensor).not.toBe(own.embedding.tensor)
    expect((await errorOf(openModel(model))).message).toContain(
      `${own.head.tensor} is stored beside ${own.embedding.tensor} and holds other values`,
    )
  })
})
