import { codebookElements, storeCodebook } from '../../codebook/store-codebook.js'
import { allColumns } from '../../gptvq/refine/column-strip.js'
import { sumByCentroid } from '../../gptvq/refine/normal-equations.js'
import { wholeBlock } from '../../kernels/contract.js'
import { permuteColumns } from '../../packing/permutation.js'
import { decodeBlockScales, rowGroupsOf, type VqLayer } from '../../packing/vq-layer.js'

/**
 * The same layer with other codebooks, rounded to the form they are stored in.
 *
 * @param values groups x k x d
 * @throws NumericError when a value is NaN or infinite
 */
export function withCodebooks(layer: VqLayer, values: Float64Array): VqLayer {
  const codebooks = codebookElements(layer.codebookBits, values.length)
  const codebookScales = new Float32Array(layer.codebookScales.length)
  const size = values.length / codebookScales.length
  for (let group = 0; group < codebookScales.length; group++) {
    const at = group * size
    codebookScales[group] = storeCodebook(Float32Array.from(values.subarray(at, at + size)), codebooks, at)
  }
  return { ...layer, codebooks, codebookScales }
}

/**
 * Adds the gradient on a layer's weights to that on the codebook values they share.
 *
 * @param onWeights rows x cols, columns as the model has them
 * @param onCodebooks groups x k x d
 */
export function addCodebookGradient(
  layer: VqLayer,
  onWeights: Float32Array,
  onCodebooks: Float64Array,
): void {
  const { layout, permutation } = layer
  const stored = permutation ? permuteColumns(onWeights, permutation) : onWeights
  const rowGroups = rowGroupsOf(layout)
  const sums = new Float64Array(onCodebooks.length / rowGroups)
  const values = decodeBlockScales(layer)
  const whole = { layout, indices: layer.indices, ...(values && { scales: { values } }) }
  for (let group = 0; group < rowGroups; group++) {
    const rows = { ...wholeBlock(stored, layout.cols), offset: group * layout.rowsPerGroup * layout.cols }
    sumByCentroid(whole, allColumns(layout), group, rows, sums)
    const at = group * sums.length
    for (let i = 0; i < sums.length; i++) onCodebooks[at + i] += sums[i]
  }
}

/** The root mean square of each codebook, given for each of its values: groups x k x d. */
export function codebookSizes(values: Float64Array, groups: number): Float64Array {
  const sizes = new Float64Array(values.length)
  const size = values.length / groups
  for (let at = 0; at < values.length; at += size) {
    let sum = 0
    for (let i = at; i < at + size; i++) sum += values[i] ** 2
    sizes.fill(Math.sqrt(sum / size), at, at + size)
  }
  return sizes
}
