import fc from 'fast-check'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import type { Block } from '../../src/kernels/contract.js'
import type {
  TrellisColumns,
  TrellisRefineTask,
  TrellisShape,
  TrellisTask,
  TrellisWalkTask,
} from '../../src/kernels/trellis-contract.js'
import { at, fresh, refineTask, walkTask } from './column-tasks.js'

export interface SearchShape extends TrellisShape {
  readonly rows: number
  readonly rowsPerStart: number
  readonly vectorDim: number
  readonly isScaled: boolean
  readonly seed: number
}

const codes: fc.Arbitrary<TrellisShape> = fc
  .tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 0, max: 8 }))
  .filter(([w, more]) => w + more <= 10)
  .map(([indexBits, more]) => ({ indexBits, stateBits: indexBits + more }))

/** The lengths in use, with any index; they take long, so that cases are few and low. */
const longCodes: fc.Arbitrary<TrellisShape> = fc
  .record({ indexBits: fc.integer({ min: 1, max: 12 }) })
  .map(({ indexBits }) => ({ indexBits, stateBits: 12 }))

/** One of a few cases with a long code, and no more than `most` rows. */
function mostlyShort<T>(
  short: fc.Arbitrary<TrellisShape>,
  most: { readonly short: number; readonly long: number },
  shapes: (codes: fc.Arbitrary<TrellisShape>, rows: fc.Arbitrary<number>) => fc.Arbitrary<T>,
): fc.Arbitrary<T> {
  return fc.oneof(
    { weight: 6, arbitrary: shapes(short, fc.integer({ min: 1, max: most.short })) },
    { weight: 1, arbitrary: shapes(longCodes, fc.integer({ min: 1, max: most.long })) },
  )
}

export const searchShapes: fc.Arbitrary<SearchShape> = mostlyShort(
  codes,
  { short: 40, long: 10 },
  (code, rows) =>
    fc
      .record({
        code,
        rows,
        rowsPerStart: fc.integer({ min: 0, max: 45 }),
        vectorDim: fc.constantFrom(1, 2, 4),
        isScaled: fc.boolean(),
        seed: fc.integer({ min: 0, max: 1e6 }),
      })
      .map(({ code, ...shape }) => ({ ...shape, ...code })),
)

/** Values of one sort: normal, or small whole numbers, which float32 adds and multiplies without rounding. */
export type Values = 'normal' | 'whole'

export function searchTask(shape: SearchShape, values: Values = 'normal'): TrellisTask {
  const { vectorDim: d, rows, rowsPerStart, isScaled, indexBits, stateBits } = shape
  const random = randomGenerator(shape.seed)
  const draw = drawOf(values, random)
  const scales = { data: Float32Array.from({ length: 3 * rows + 1 }, () => scaleOf(values, random)) }
  return {
    ...{ rows, rowsPerStart, vectorDim: d, indexBits, stateBits },
    targets: {
      data: Float32Array.from({ length: 1 + rows * (d + 2) }, () => 2 * draw()),
      offset: 1,
      stride: d + 2,
    },
    ...(isScaled && { scales: { ...scales, offset: 1, stride: 3 } }),
    metric: metricOf(d, draw),
    centroids: Float32Array.from({ length: 2 ** stateBits * d }, draw),
    keys: new Uint16Array(2 * rows + 1).fill(7),
    keyOffset: 1,
    keyStride: 2,
  }
}

function drawOf(values: Values, random: () => number): () => number {
  return values === 'normal' ? () => randomNormal(random) : () => Math.floor(7 * random()) - 3
}

function scaleOf(values: Values, random: () => number): number {
  return values === 'normal' ? 2 ** (-3 * random()) : 1 + Math.floor(3 * random())
}

/** `A A^T` with draws for A. */
function metricOf(d: number, draw: () => number): Float64Array {
  const root = Float64Array.from({ length: d * d }, draw)
  return Float64Array.from({ length: d * d }, (_, i) => {
    let sum = 0
    for (let c = 0; c < d; c++) sum += root[Math.floor(i / d) * d + c] * root[(i % d) * d + c]
    return sum
  })
}

export interface BlockShape extends TrellisShape {
  readonly rows: number
  readonly width: number
  readonly d: number
  readonly group: number
  readonly rowsPerGroup: number
  readonly gap: number
  readonly seed: number
  readonly isShared: boolean
  readonly scaleBlockSize?: number
}

export const blockShapes: fc.Arbitrary<BlockShape> = mostlyShort(
  codes.filter(({ stateBits }) => stateBits <= 8),
  { short: 30, long: 6 },
  (code, rows) =>
    fc
      .record({
        code,
        rows,
        vectors: fc.integer({ min: 1, max: 5 }),
        d: fc.constantFrom(1, 2, 4),
        group: fc.integer({ min: 0, max: 2 }),
        rowsPerGroup: fc.integer({ min: 1, max: 40 }),
        gap: fc.integer({ min: 0, max: 3 }),
        seed: fc.integer({ min: 0, max: 1e6 }),
        isShared: fc.boolean(),
        vectorsPerScale: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
      })
      .map(({ code, vectors, vectorsPerScale, ...shape }) => ({
        ...shape,
        ...code,
        width: vectors * shape.d,
        ...(vectorsPerScale && { scaleBlockSize: vectorsPerScale * shape.d }),
      })),
)

/** The same, the last vector narrower than d. */
export const raggedBlocks = fc
  .tuple(blockShapes, fc.integer({ min: 0, max: 3 }))
  .map(([shape, lacking]) => ({ ...shape, width: shape.width - (lacking % shape.d) }))

const columnShape = ({ group, ...shape }: BlockShape) => ({
  ...shape,
  k: 2 ** shape.stateBits,
  firstRow: group * shape.rowsPerGroup,
})

/** Columns of vectors with indices of `indexBits` bits, and of others. */
export function columnsOf(shape: BlockShape, values: Values): TrellisColumns {
  const { indexBits, stateBits, width, d, seed } = shape
  const random = randomGenerator(seed + 1)
  const vectors = Math.ceil(width / d)
  const other = () => 1 + Math.floor(random() * stateBits)
  return {
    stateBits,
    widths: Uint8Array.from({ length: vectors }, () => (random() < 0.5 ? indexBits : other())),
    factors: Float32Array.from({ length: vectors }, () =>
      values === 'whole' ? 1 + Math.floor(2 * random()) : 0.5 + random(),
    ),
  }
}

export function trellisWalk(shape: BlockShape, values: Values = 'normal'): TrellisWalkTask {
  const task: TrellisWalkTask = { ...fresh(walkTask(columnShape(shape))), ...columnsOf(shape, values) }
  const shared = shape.isShared ? { ...task, codebookStride: 0 } : task
  if (values === 'normal') return shared
  const random = randomGenerator(shape.seed)
  const draw = drawOf(values, random)
  shared.work.data.forEach((_, i, data) => {
    data[i] = draw()
  })
  shared.codebooks.forEach((_, i, data) => {
    data[i] = draw()
  })
  // a unit diagonal: errors are whole numbers too
  const { data, offset, stride } = shared.factor
  for (let i = 0; i < shape.width; i++) {
    for (let j = 0; j < shape.width; j++) {
      const value = i === j ? 1 : Number(random() < 0.15)
      data[offset + i * stride + j] = i > j ? 0 : value
    }
  }
  for (let v = 0; v < shape.width / shape.d; v++) {
    shared.metrics.set(metricOf(shape.d, draw), v * shape.d ** 2)
  }
  wholeScales(shared, random)
  return shared
}

export function trellisRefinement(shape: BlockShape, values: Values = 'normal'): TrellisRefineTask {
  const task: TrellisRefineTask = {
    ...fresh(refineTask(columnShape(shape)).task),
    ...columnsOf(shape, values),
  }
  const shared = shape.isShared ? { ...task, codebookStride: 0 } : task
  const random = randomGenerator(shape.seed)
  startStreams(shared, shape, random)
  if (values === 'normal') return shared
  const draw = drawOf(values, random)
  shared.residual.data.forEach((_, i, data) => {
    data[i] = 5 * draw()
  })
  shared.codebooks.forEach((_, i, data) => {
    data[i] = draw()
  })
  const { data, offset, stride } = shared.hessian
  const hessian = metricOf(shape.width, () => Number(random() < 0.2) - Number(random() < 0.2))
  for (let i = 0; i < shape.width; i++) {
    for (let j = 0; j < shape.width; j++) data[offset + i * stride + j] = hessian[i * shape.width + j]
  }
  wholeScales(shared, random)
  return shared
}

/** Keys that follow from each other, down every column. */
function startStreams(task: TrellisRefineTask, shape: BlockShape, random: () => number): void {
  for (let v = 0; v < Math.ceil(shape.width / shape.d); v++) {
    const inputs = 2 ** task.widths[v]
    for (let r = 0, key = 0; r < shape.rows; r++) {
      if (r % shape.rowsPerGroup === 0) key = 0
      key = (Math.floor(random() * inputs) + key * inputs) % 2 ** shape.stateBits
      task.indices[task.indexOffset + r * task.indexStride + v] = key
    }
  }
}

function wholeScales(task: TrellisWalkTask | TrellisRefineTask, random: () => number): void {
  task.scales?.values.data.forEach((_, i, data) => {
    data[i] = scaleOf('whole', random)
  })
}

/** `(t - s c_key)^T M (t - s c_key)`. */
export function rowLoss(task: TrellisTask, row: number, key: number): number {
  const { vectorDim: d, targets, scales, metric, centroids } = task
  const scale = scales ? at(scales, row, 0) : 1
  const difference = Array.from({ length: d }, (_, a) => {
    return at(targets, row, a) - Math.fround(scale * centroids[key * d + a])
  })
  let sum = 0
  for (let a = 0; a < d; a++) {
    for (let b = 0; b < d; b++) sum += difference[a] * metric[a * d + b] * difference[b]
  }
  return sum
}

/**
 * By how much float32 may miss the least loss: in each row some `2 d + 6` roundings of sums that hold the costs of as many
 * rows as a key remembers, and of one more; what is found and what is best are off by that much each.
 */
export function slackOf(task: TrellisTask): number {
  const { rows, vectorDim: d, targets, scales, metric, centroids, indexBits, stateBits } = task
  const largest = centroids.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const size = metric.reduce((sum, value) => sum + Math.abs(value), 0)
  let sum = 0
  for (let r = 0; r < rows; r++) {
    const reach = (scales ? at(scales, r, 0) : 1) * largest
    let target = 0
    for (let a = 0; a < d; a++) target = Math.max(target, Math.abs(at(targets, r, a)))
    sum += size * reach * (reach + 2 * target)
  }
  return 2 ** -24 * 2 * (2 * d + 6) * (Math.ceil(stateBits / indexBits) + 1) * sum
}

/** A block without offset or gaps. */
export function packedBlock(rows: number, cols: number, value: (i: number, j: number) => number): Block {
  const data = Float32Array.from({ length: rows * cols }, (_, i) => value(Math.floor(i / cols), i % cols))
  return { data, offset: 0, stride: cols }
}

/** Every key follows from the one above by a new index. */
export function isStream(
  { indexBits, stateBits }: TrellisShape,
  rows: number,
  rowsPerStart: number,
  key: (row: number) => number,
): boolean {
  for (let r = 0; r < rows; r++) {
    const above = r % rowsPerStart === 0 ? 0 : key(r - 1)
    if (key(r) >> indexBits !== (above & (2 ** (stateBits - indexBits) - 1))) return false
    if (key(r) >= 2 ** stateBits) return false
  }
  return true
}
