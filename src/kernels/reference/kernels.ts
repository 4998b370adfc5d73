import type { Block } from '../contract.js'
import type { LayerKernels } from '../trellis-contract.js'
import { openClustering } from './clustering.js'
import { referenceColumnKernels } from './columns.js'
import { dot, multiplyAdd, multiplyTransposedAdd } from './product.js'
import { referenceTrellisKernels } from './trellis.js'

/** The plain kernels: readable, and the oracle that faster ones are held to. */
export const referenceKernels: LayerKernels = {
  name: 'reference',
  openClustering,
  ...referenceColumnKernels,
  ...referenceTrellisKernels,
  gemm(form, m, n, k, alpha, a, b, beta, c) {
    if (beta === 0) for (let i = 0; i < m; i++) c.data.fill(0, rowOf(c, i), rowOf(c, i) + n)
    const left = form === 'AtB' ? transposed(a, k, m) : a
    const multiply = form === 'ABt' ? multiplyTransposedAdd : multiplyAdd
    multiply(
      ...([m, n, k, alpha] as const),
      ...([left.data, left.offset, left.stride] as const),
      ...([b.data, b.offset, b.stride] as const),
      ...([c.data, c.offset, c.stride] as const),
    )
  },
  gram(tokens, n, x, c) {
    const features = transposed(x, tokens, n)
    for (let i = 0; i < n; i++) {
      for (let j = i; j < n; j++) {
        c.data[rowOf(c, i) + j] = dot(
          features.data,
          rowOf(features, i),
          features.data,
          rowOf(features, j),
          tokens,
        )
      }
    }
  },
}

function rowOf(block: Block, row: number): number {
  return block.offset + row * block.stride
}

/** A copy of a rows x cols block, cols x rows. */
function transposed(block: Block, rows: number, cols: number): Block {
  const data = new Float32Array(rows * cols)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) data[j * rows + i] = block.data[rowOf(block, i) + j]
  }
  return { data, offset: 0, stride: rows }
}
