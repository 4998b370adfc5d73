import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Matrix, matrix } from 'gptvq'
import { type OpenModel, readTokens } from 'gptvq/model'
import { decodeFloats } from '../../src/checkpoint/dtype.js'
import { openSafetensors } from '../../src/checkpoint/sources/open-safetensors.js'

/** A row of figures that the published code reaches. */
export interface ReferenceRow {
  readonly name: string
  readonly nominal_bpv: number
  readonly ppl: number
  readonly kl: number
  readonly top1: number
  readonly mean_layer_error: number
  readonly layers: Readonly<Record<string, { readonly error: number; readonly heldout: number }>>
}

/** Tokens of a calibration sequence and of an evaluation window in the reference's protocol. */
export const WINDOW = 256

async function readJson<T>(folder: string, path: string): Promise<T> {
  return JSON.parse(await readFile(join(folder, path), 'utf8')) as T
}

export async function referenceRows(folder: string): Promise<readonly ReferenceRow[]> {
  return (await readJson<{ rows: ReferenceRow[] }>(folder, 'reference/tiny-llama.json')).rows
}

/**
 * The calibration sequences of the reference's protocol: the offsets that it used, 64 of them. More are spread evenly
 * over the same text.
 */
export async function calibrationSequences(
  folder: string,
  { config }: OpenModel,
  model: string,
  count = 64,
): Promise<Int32Array[]> {
  const tokens = await readTokens(join(folder, 'data/calibration/wiki.txt'), model, config)
  const { calibration_starts: starts } = await readJson<{ calibration_starts: number[] }>(
    folder,
    'reference/calibration.json',
  )
  const step = Math.floor((tokens.length - WINDOW) / count)
  const offsets = count === starts.length ? starts : Array.from({ length: count }, (_, i) => i * step)
  return offsets.map((start) => tokens.slice(start, start + WINDOW))
}

/** The tokens of the evaluation text. */
export function evaluationTokens(folder: string, { config }: OpenModel, model: string): Promise<Int32Array> {
  return readTokens(join(folder, 'data/wikitext2-test.txt'), model, config)
}

/** A layer of the full model, the Hessian of its calibration inputs, and one of held-out inputs. */
export async function referenceLayer(
  folder: string,
  name: string,
): Promise<{ weight: Matrix; hessian: Matrix; heldOut: Matrix }> {
  const file = await openSafetensors(join(folder, 'reference/layers', `${name}.safetensors`))
  try {
    const read = async (tensor: string) => {
      const { shape } = file.tensors.get(tensor)!
      return matrix(shape[0], shape[1], decodeFloats('F32', await file.read(tensor)))
    }
    return {
      weight: await read('weight'),
      hessian: await read('hessian'),
      heldOut: await read('hessian_heldout'),
    }
  } finally {
    await file.close()
  }
}
