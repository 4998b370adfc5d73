import { type Matrix, matrix } from '../../common/matrix.js'
import { requireSymmetric } from '../../hessian/inverse-factor.js'
import type { ColumnOrder } from '../../packing/layout-options.js'
import { permuteColumns } from '../../packing/permutation.js'

/** A layer whose columns stand in the order in which they are quantized. */
export interface OrderedColumns {
  readonly weight: Matrix
  readonly hessian: Matrix
  /** Column `j` is column `permutation[j]` of the layer as it was given; undefined where that is no change. */
  readonly permutation?: Uint32Array
}

/**
 * Puts the columns of a layer (weight out x in, Hessian in x in) in the order asked for. `'activation'`: by falling
 * diagonal of the Hessian, equal ones by their index, as GPTQ's option of that name does: the inputs that weigh most
 * are quantized while the most columns are still free to absorb their errors.
 *
 * @throws NumericError naming the layer, for a Hessian with NaN or infinity or that is not symmetric
 */
export function orderColumns(
  weight: Matrix,
  hessian: Matrix,
  order: ColumnOrder,
  name: string,
): OrderedColumns {
  if (order === 'natural') return { weight, hessian }
  requireSymmetric(hessian, name)
  const permutation = activationOrder(hessian)
  const { rows, cols } = weight
  return {
    weight: matrix(rows, cols, permuteColumns(weight.data, permutation)),
    hessian: matrix(cols, cols, permuteColumns(permuteRows(hessian, permutation), permutation)),
    permutation,
  }
}

function activationOrder({ data, cols }: Matrix): Uint32Array {
  const diagonal = (i: number) => data[i * cols + i]
  return Uint32Array.from({ length: cols }, (_, i) => i).sort((i, j) => diagonal(j) - diagonal(i) || i - j)
}

function permuteRows({ rows, cols, data }: Matrix, permutation: Uint32Array): Float32Array {
  const permuted = new Float32Array(data.length)
  for (let i = 0; i < rows; i++) {
    const from = permutation[i] * cols
    permuted.set(data.subarray(from, from + cols), i * cols)
  }
  return permuted
}
