import { requireFields } from '../common/check-option.js'
import type { Matrix } from '../common/matrix.js'
import { type PackedLayer, packLayer, requirePackedLayer, unpackLayer } from './pack-layer.js'
import {
  dequantizeScalar,
  type PackedScalarLayer,
  packScalar,
  requirePackedScalar,
  type ScalarLayer,
  scalarRows,
  unpackScalar,
} from './scalar-layer.js'
import { dequantizeLayer, type VqLayer, vqRows } from './vq-layer.js'

/** A layer of any of the methods. */
export type QuantizedLayer = VqLayer | ScalarLayer

/** The packed arrays of a layer of any of the methods. */
export type PackedQuantizedLayer = PackedLayer | PackedScalarLayer

/** The float32 weights (rows x cols) that a layer stands for. */
export function dequantize(layer: QuantizedLayer): Matrix {
  requireFields(layer, 'a quantized layer', [])
  return 'layout' in layer ? dequantizeLayer(layer) : dequantizeScalar(layer)
}

/** The float32 weights of rows `first` to `first + count - 1`, count x cols. */
export function dequantizeRows(layer: QuantizedLayer, first: number, count: number): Float32Array {
  if (!('layout' in layer)) return dequantizeScalar(scalarRows(layer, first, count)).data
  const { cols, rowsPerGroup } = layer.layout
  const weights = new Float32Array(count * cols)
  const end = first + count
  for (let row = first; row < end; ) {
    const last = Math.min(end, (Math.floor(row / rowsPerGroup) + 1) * rowsPerGroup)
    weights.set(dequantizeLayer(vqRows(layer, row, last - row)).data, (row - first) * cols)
    row = last
  }
  return weights
}

/** The arrays of a layer exactly as a checkpoint stores them. */
export function pack(layer: QuantizedLayer): PackedQuantizedLayer {
  return 'layout' in layer ? packLayer(layer) : packScalar(layer)
}

/** The inverse of {@link pack}. */
export function unpack(packed: PackedQuantizedLayer): QuantizedLayer {
  return 'layout' in packed ? unpackLayer(packed) : unpackScalar(packed)
}

/** Checks that the arrays of a packed layer fit together. @throws ShapeError naming the one that does not */
export function requirePacked(packed: PackedQuantizedLayer): void {
  if ('layout' in packed) requirePackedLayer(packed)
  else requirePackedScalar(packed)
}
