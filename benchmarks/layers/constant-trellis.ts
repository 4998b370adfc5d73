import { constantCodebook, constantUnit, widthFactor } from '../../src/codebook/constant-codebook.js'
import { kernels } from '../../src/kernels/kernels.js'

export const DIM = 2
/** Bits of an index. */
export const WIDTH = 4

/** The first `2 ** keyBits` constant centroids, as they stand for normal weights. */
export function constantTable(keyBits: number): Float32Array {
  const unit = constantUnit(DIM) * widthFactor(DIM, WIDTH)
  return Float32Array.from(constantCodebook(DIM, 2 ** keyBits), (element) => element * unit)
}

/**
 * The best keys of columns of vectors by a table, in a metric without inputs.
 *
 * @param targets of each column rows x 2
 * @returns the keys of each column, and the squared error over the squares of the targets
 */
export function codeColumns(
  table: Float32Array,
  keyBits: number,
  targets: readonly Float32Array[],
): { readonly error: number; readonly keys: readonly Uint16Array[] } {
  const tasks = targets.map((data) => {
    const rows = data.length / DIM
    return {
      ...{ rows, rowsPerStart: 256, vectorDim: DIM, indexBits: WIDTH, stateBits: keyBits, centroids: table },
      metric: Float64Array.of(1, 0, 0, 1),
      targets: { data, offset: 0, stride: DIM },
      ...{ keys: new Uint16Array(rows), keyOffset: 0, keyStride: 1 },
    }
  })
  const loss = kernels()
    .searchTrellis(tasks)
    .reduce((a, b) => a + b, 0)
  let energy = 0
  for (const data of targets) for (const value of data) energy += value * value
  return { error: loss / energy, keys: tasks.map(({ keys }) => keys) }
}
