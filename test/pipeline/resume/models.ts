import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { QuantizeModelOptions } from '../../../src/model.js'
import { tinyText, writeTinyModel } from '../../support/tiny-model.js'

/** Writes a model of four blocks, so that there is a middle. */
export async function writeFourBlocks(folder: string): Promise<void> {
  await writeTinyModel(folder, {
    config: { num_hidden_layers: 4 },
    tensors(tensors) {
      for (const [name, tensor] of [...tensors]) {
        const copy = name.replace(/layers\.([01])\./, (_, index) => `layers.${Number(index) + 2}.`)
        if (copy === name) continue
        const values = tensor.values.map((value, i) => value * (1 + 0.1 * Math.sin(i)))
        tensors.set(copy, { shape: tensor.shape, values })
      }
    },
  })
}

/** Options under which a run on that model has drift, several batches and an embedding to round. */
export const baseOptions: Omit<QuantizeModelOptions, 'model'> = {
  calibration: { text: tinyText(2600, 3) },
  sequenceLength: 40,
  sequences: 54,
  columnsPerGroup: 16,
  refinementRounds: 1,
  embeddingBits: 8,
}

/** SHA-256 of every file of a folder, by its name. */
export async function filesOf(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder)).sort()
  const digests = names.map(async (name) => {
    const path = join(folder, name)
    if ((await stat(path)).isDirectory()) return [name, JSON.stringify(await filesOf(path))]
    return [
      name,
      createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
    ]
  })
  return Object.fromEntries(await Promise.all(digests))
}
