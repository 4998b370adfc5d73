import { matrix } from '../../src/common/matrix.js'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { vectorMetrics } from '../../src/gptvq/walk/vector-metric.js'
import type { Block, ColumnTask, ColumnWalkTask, RefineTask } from '../../src/kernels/contract.js'
import type { TrellisColumns } from '../../src/kernels/trellis-contract.js'
import { randomHessian } from '../support/random-matrix.js'

export interface Shape {
  readonly rows: number
  readonly width: number
  readonly d: number
  readonly k: number
  readonly firstRow: number
  readonly rowsPerGroup: number
  readonly gap: number
  readonly seed: number
  /** A multiple of d; no scales without. */
  readonly scaleBlockSize?: number
}

/** Codebooks drawn from the standard normal distribution, every fifth centroid the same as the one before. */
function columnTask(shape: Shape, random: () => number): ColumnTask {
  const { rows, width, d, k, firstRow, rowsPerGroup, gap, scaleBlockSize } = shape
  const groups = Math.floor((firstRow + rows - 1) / rowsPerGroup) + 1
  const codebookStride = k * d + gap
  const codebooks = Float32Array.from({ length: gap + groups * codebookStride }, () => randomNormal(random))
  for (let g = 0; g < groups; g++) {
    for (let j = 4; j < k; j += 5) {
      const at = gap + g * codebookStride + j * d
      codebooks.copyWithin(at, at - d, at)
    }
  }
  const vectors = Math.ceil(width / d)
  const indexStride = vectors + gap
  const indices = Uint16Array.from({ length: gap + rows * indexStride }, () => Math.floor(k * random()))
  return {
    ...{ rows, width, vectorDim: d, centroids: k, firstRow, rowsPerGroup },
    ...{ codebooks, codebookOffset: gap, codebookStride },
    ...{ indices, indexOffset: gap, indexStride },
    ...(scaleBlockSize !== undefined && {
      scales: {
        blockSize: scaleBlockSize,
        values: block(rows, Math.ceil(width / scaleBlockSize), gap, () => 2 ** (-5 * random())),
      },
    }),
  }
}

function block(rows: number, cols: number, gap: number, value: (i: number, j: number) => number): Block {
  const stride = cols + gap
  const data = new Float32Array(gap + rows * stride).fill(7)
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) data[gap + i * stride + j] = value(i, j)
  return { data, offset: gap, stride }
}

export const at = (b: Block, i: number, j: number) => b.data[b.offset + i * b.stride + j]

export function walkTask(shape: Shape): ColumnWalkTask {
  const random = randomGenerator(shape.seed)
  const { rows, width, d, gap } = shape
  const factor = matrix(width, width)
  for (let i = 0; i < width; i++) {
    factor.data[i * width + i] = 0.5 + random()
    for (let j = i + 1; j < width; j++) factor.data[i * width + j] = (2 * randomNormal(random)) / width
  }
  return {
    ...columnTask(shape, random),
    work: block(rows, width, gap, () => randomNormal(random)),
    factor: block(width, width, gap, (i, j) => factor.data[i * width + j]),
    metrics: vectorMetrics(factor, d, 'full'),
    errors: block(rows, width, gap, () => 7),
  }
}

/** A layer of one block: its weights, float64 row-major, and the task to refine it. */
export function refineTask(shape: Shape): { weights: Float64Array; task: RefineTask } {
  const random = randomGenerator(shape.seed)
  const { rows, width, gap } = shape
  const task = columnTask(shape, random)
  const hessian = randomHessian(width, 2 * width + 5, shape.seed + 1)
  const weights = Float64Array.from({ length: rows * width }, () => randomNormal(random))
  const difference = weights.map((w, i) => w - weightOf(task, Math.floor(i / width), i % width))
  const residual = block(rows, width, gap, (r, j) => {
    let sum = 0
    for (let i = 0; i < width; i++) sum += difference[r * width + i] * hessian.data[i * width + j]
    return sum
  })
  return {
    weights,
    task: {
      ...task,
      residual,
      hessian: block(width, width, gap, (i, j) => hessian.data[i * width + j]),
      steps: block(rows, width, gap, () => 7),
      changes: new Float64Array(rows).fill(7),
    },
  }
}

/** A copy whose arrays a kernel may write. */
export function fresh<T extends ColumnWalkTask | RefineTask>(task: T): T {
  const copy = { ...task, indices: task.indices.slice() }
  if ('errors' in copy) return { ...copy, errors: { ...copy.errors, data: copy.errors.data.slice() } }
  return {
    ...copy,
    steps: { ...copy.steps, data: copy.steps.data.slice() },
    changes: copy.changes.slice(),
  }
}

export function indexOf(task: ColumnTask, row: number, column: number): number {
  return task.indices[task.indexOffset + row * task.indexStride + Math.floor(column / task.vectorDim)]
}

/** The weights that centroid `j` stands for in a vector at (row, column). */
export function centroidOf(task: ColumnTask, row: number, column: number, j: number): number[] {
  const group = Math.floor((task.firstRow + row) / task.rowsPerGroup)
  const from = task.codebookOffset + group * task.codebookStride + j * task.vectorDim
  const { scales } = task
  const scale = scales ? at(scales.values, row, Math.floor(column / scales.blockSize)) : 1
  const factor =
    'factors' in task ? (task as ColumnTask & TrellisColumns).factors[Math.floor(column / task.vectorDim)] : 1
  const centroid = task.codebooks.subarray(from, from + task.vectorDim)
  return Array.from(centroid.map((value) => Math.fround(value * factor) * scale))
}

/** The value that a task's indices give the weight at (row, column). */
export function weightOf(task: ColumnTask, row: number, column: number): number {
  return centroidOf(task, row, column, indexOf(task, row, column))[column % task.vectorDim]
}
