import { readdirSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { decodeBfloats } from '../../../src/kernels/half.js'
import type { DecoderDescription } from '../../../src/model/decoder/description.js'
import type { WeightSource } from '../../../src/model/decoder/weights.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { sourceOf, type TestTensor } from '../tiny-llama.js'

/** Tiny models of every family and what `transformers` computes of them: see their README.md. */
export const fixtureFolder = fileURLToPath(new URL('./fixtures/', import.meta.url))

/** Their names. */
export const fixtureNames = readdirSync(fixtureFolder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)

/** The first of each family. */
export const fixtureOfEachFamily = fixtureNames.filter(
  (name, i) => fixtureNames.findIndex((other) => other.split('-')[0] === name.split('-')[0]) === i,
)

/** A tiny model, and what it was found to compute. */
export interface Fixture {
  readonly folder: string
  readonly config: DecoderDescription
  readonly source: WeightSource
  /** How many sequences there are, of one length. */
  readonly sequences: number
  /** Sequence after sequence; in the fixtures two of 20. */
  readonly tokens: Int32Array
  /** tokens x vocabSize. */
  readonly logits: Float32Array
  /** In front of each block and behind the last, tokens x hiddenSize. */
  readonly hidden: readonly Float32Array[]
  /** What some linear layers read, tokens x in, by their names in the checkpoint. */
  readonly inputs: ReadonlyMap<string, TestTensor>
}

export function openFixture(name: string): Promise<Fixture> {
  return openFixtureFolder(join(fixtureFolder, name))
}

/** A folder with a model and an `oracle.safetensors`. */
export async function openFixtureFolder(folder: string): Promise<Fixture> {
  const config = describeDecoder(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')), 'config.json')
  const oracle = await readTensors(join(folder, 'oracle.safetensors'))
  const inputs = Array.from(oracle, ([key, tensor]) => [key.replace(/^input\./, ''), tensor] as const)
  return {
    folder,
    config,
    source: sourceOf(await readTensors(join(folder, 'model.safetensors'))),
    sequences: oracle.get('tokens')!.shape[0],
    tokens: Int32Array.from(oracle.get('tokens')!.values),
    logits: oracle.get('logits')!.values,
    hidden: Array.from({ length: config.blocks.length + 1 }, (_, i) => oracle.get(`hidden.${i}`)!.values),
    inputs: new Map(inputs.filter(([key]) => oracle.has(`input.${key}`))),
  }
}

/** All tensors of a file, through a reader that shares nothing with the library's own. */
export async function readTensors(file: string): Promise<Map<string, TestTensor>> {
  const bytes = await readFile(file)
  const headerLength = Number(bytes.readBigUInt64LE(0))
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> =
    JSON.parse(bytes.toString('utf8', 8, 8 + headerLength))
  const data = bytes.buffer.slice(bytes.byteOffset + 8 + headerLength, bytes.byteOffset + bytes.length)
  const tensors = new Map<string, TestTensor>()
  for (const [name, { dtype, shape, data_offsets: range }] of Object.entries(header)) {
    if (name === '__metadata__') continue
    tensors.set(name, { shape, values: valuesOf(dtype, data.slice(...range)) })
  }
  return tensors
}

function valuesOf(dtype: string, data: ArrayBuffer): Float32Array {
  if (dtype === 'F32') return new Float32Array(data)
  if (dtype === 'I32') return Float32Array.from(new Int32Array(data))
  if (dtype !== 'BF16') throw new Error(`a fixture holds ${dtype}`)
  const values = new Float32Array(data.byteLength / 2)
  decodeBfloats(new Uint16Array(data), values)
  return values
}

/** The largest magnitude of a difference. */
export function worstDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`)
  return a.reduce((worst, value, i) => {
    const difference = Math.abs(value - b[i])
    return difference <= worst ? worst : difference
  }, 0)
}

/** The distance from the least value to the largest. */
export function rangeOf(values: Float32Array): number {
  return (
    values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY) -
    values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY)
  )
}
