import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import { packedRowBytes } from '../../kernels/bits.js'
import type { LinearLayer } from '../../model/decoder/linears.js'
import { layoutOf, storedBits } from '../../packing/layout.js'
import { resolveLayoutOptions } from '../../packing/layout-options.js'
import { groupsPerRow } from '../../packing/scalar-layer.js'
import type { EndTensor } from '../quantize/end-tensors.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import { endSettings, GROUP_SIZE } from '../quantize/quantize-ends.js'
import type { MethodSettings } from '../quantize/quantize-options.js'

/** What a run will store. */
export interface StoredSizes {
  /** Of the quantized layers. */
  readonly layerBytes: number
  /** Over the weights of the quantized layers. */
  readonly bitsPerValue: number
  /** Over all tensors of the model. */
  readonly wholeModelBits: number
  /** Of all files. */
  readonly outputBytes: number
}

/** Bytes of a line of a layer in a header, and of its record, about. */
const BYTES_OF_RECORD = 900
/** Of what the model card tells of the run, about. */
const BYTES_OF_CARD = 2500

/** Counts the bytes that a run will write: those of the tensors exactly, with mixed bits at most the budget. */
export async function storedSizes({ checkpoint, settings, plan, ends }: PreparedRun): Promise<StoredSizes> {
  const { linears } = plan
  const weights = linears.reduce((sum, { rows, cols }) => sum + rows * cols, 0)
  const budget = settings.method === 'gptvq' ? settings.budget : undefined
  const layerBytes =
    budget === undefined
      ? linears.reduce((sum, linear) => sum + layerBytesOf(linear, plan.settingsOf(linear.name)!), 0)
      : Math.floor((budget * weights) / 8)
  const endBytes = ends.reduce((sum, end) => sum + endBytesOf(end), 0)
  const replaced = new Set([...linears, ...ends].map(({ name }) => name))
  const kept = [...checkpoint.tensors.values()].filter(({ name }) => !replaced.has(name))
  const after = layerBytes + endBytes + kept.reduce((sum, { bytes }) => sum + bytes, 0)
  return {
    layerBytes,
    bitsPerValue: (8 * layerBytes) / weights,
    wholeModelBits: (8 * after) / valuesOf(checkpoint),
    outputBytes: after + BYTES_OF_RECORD * linears.length + (await otherBytes(checkpoint)),
  }
}

/** Of the files that belong to any copy of the model. */
async function otherBytes({ folder, configText, otherFiles, madeFiles }: Checkpoint): Promise<number> {
  let bytes = configText.length + BYTES_OF_CARD
  for (const name of otherFiles) bytes += (await stat(join(folder, name))).size
  for (const [, text] of madeFiles?.() ?? []) bytes += text.length
  return bytes
}

function layerBytesOf({ rows, cols }: Pick<LinearLayer, 'rows' | 'cols'>, settings: MethodSettings): number {
  if (settings.method !== 'gptvq') {
    const { bits, groupSize = cols } = settings.options
    return scalarBytes({ rows, cols }, bits, groupSize)
  }
  const options = resolveLayoutOptions(settings.options)
  return storedBits(layoutOf(rows, cols, options), options) / 8
}

function endBytesOf(end: EndTensor): number {
  if (end.method === 'rtn') return scalarBytes(end, end.bits, GROUP_SIZE)
  return layerBytesOf(end, endSettings(end.bits, 0))
}

function scalarBytes(
  { rows, cols }: { readonly rows: number; readonly cols: number },
  bits: number,
  groupSize: number,
): number {
  const groups = rows * groupsPerRow(cols, groupSize)
  return rows * packedRowBytes(cols, bits) + 2 * groups + packedRowBytes(groups, bits)
}

function valuesOf({ tensors }: Checkpoint): number {
  let values = 0
  for (const { shape } of tensors.values()) values += shape.reduce((product, size) => product * size, 1)
  return values
}
