import { describe, expect, it } from 'vitest'
import { randomGenerator, randomNormal } from '../../src/common/random.js'
import { referenceKernels } from '../../src/kernels/reference/kernels.js'
import type { TrellisShape, TrellisTask } from '../../src/kernels/trellis-contract.js'
import { at, fresh, refineTask, walkTask } from './column-tasks.js'

const shapes = [
  { vectorDim: 1, indexBits: 1, stateBits: 1, rows: 6, rowsPerStart: 0 },
  { vectorDim: 1, indexBits: 1, stateBits: 4, rows: 9, rowsPerStart: 0 },
  { vectorDim: 2, indexBits: 2, stateBits: 5, rows: 5, rowsPerStart: 0 },
  { vectorDim: 2, indexBits: 2, stateBits: 4, rows: 7, rowsPerStart: 3 },
  { vectorDim: 2, indexBits: 3, stateBits: 4, rows: 4, rowsPerStart: 0 },
  { vectorDim: 4, indexBits: 2, stateBits: 7, rows: 5, rowsPerStart: 0 },
] as const

describe('searchTrellis', () => {
  for (const shape of shapes) {
    it(`finds the best of all streams: ${JSON.stringify(shape)}`, () => {
      const task = randomTask(shape, 7)
      const [loss] = referenceKernels.searchTrellis([task])
      expect(loss).toBeCloseTo(leastLoss(task), 9)
      expect(loss).toBeCloseTo(
        lossOf(task, (r) => task.keys[keyAt(task, r)]),
        9,
      )
      expectStream(task, shape.rows, shape.rowsPerStart || shape.rows, (r) => task.keys[keyAt(task, r)])
    })
  }

  it('takes the lowest keys of equally good ones', () => {
    const task = randomTask(shapes[2], 3)
    task.centroids.fill(0.5)
    referenceKernels.searchTrellis([task])
    for (let r = 0; r < task.rows; r++) expect(task.keys[keyAt(task, r)]).toBe(0)
  })
})

const columns = { rows: 12, width: 8, d: 2, firstRow: 6, rowsPerGroup: 6, gap: 3, seed: 5, scaleBlockSize: 4 }

/** All columns of vectors alike, as the trellis makes them and no other. */
const uniform = (indexBits: number, stateBits: number) => ({
  stateBits,
  widths: new Uint8Array(columns.width / columns.d).fill(indexBits),
  factors: new Float32Array(columns.width / columns.d).fill(1),
})

describe('quantizeTrellis', () => {
  it('is the plain walk where a key is one index', () => {
    const task = walkTask({ ...columns, k: 16 })
    const [plain, trellis] = [fresh(task), { ...fresh(task), ...uniform(4, 4) }]
    referenceKernels.quantizeColumns(plain)
    referenceKernels.quantizeTrellis(trellis)
    expect(trellis.indices).toEqual(plain.indices)
    expect(trellis.errors.data).toEqual(plain.errors.data)
  })

  it('writes keys of one stream in every row group', () => {
    const task = { ...walkTask({ ...columns, k: 64 }), ...uniform(2, 6) }
    referenceKernels.quantizeTrellis(task)
    for (let v = 0; v < columns.width / columns.d; v++) {
      expectStream(
        { indexBits: 2, stateBits: 6 },
        columns.rows,
        columns.rowsPerGroup,
        (r) => task.indices[task.indexOffset + r * task.indexStride + v],
      )
    }
  })
})

describe('refineTrellis', () => {
  for (const width of [8, 7]) {
    it(`is the plain refinement where a key is one index, ${width} columns`, () => {
      const { task } = refineTask({ ...columns, width, rowsPerGroup: 1, k: 16 })
      const [plain, trellis] = [fresh(task), { ...fresh(task), ...uniform(4, 4) }]
      expect(referenceKernels.refineTrellis(trellis)).toBe(referenceKernels.refineColumns(plain))
      expect(trellis.indices).toEqual(plain.indices)
      for (let r = 0; r < columns.rows; r++) {
        expect(trellis.changes[r]).toBeCloseTo(plain.changes[r], 9)
        for (let j = 0; j < width; j++) expect(at(trellis.steps, r, j)).toBe(at(plain.steps, r, j))
      }
    })
  }

  it('lowers the loss of every row group by what it says', () => {
    const { task } = refineTask({ ...columns, k: 64 })
    const trellis = { ...fresh(task), ...uniform(3, 6) }
    // some stream to start from
    for (let i = 0; i < trellis.indices.length; i++) trellis.indices[i] = 0
    referenceKernels.refineTrellis(trellis)
    for (let top = 0; top < columns.rows; top += columns.rowsPerGroup) {
      let change = 0
      for (let r = top; r < top + columns.rowsPerGroup; r++) change += trellis.changes[r]
      expect(change).toBeLessThan(0)
      let told = 0
      for (let r = top; r < top + columns.rowsPerGroup; r++) told += quadraticChange(trellis, r)
      expect(change).toBeCloseTo(told, 4)
    }
    for (let v = 0; v < columns.width / columns.d; v++) {
      expectStream(
        { indexBits: 3, stateBits: 6 },
        columns.rows,
        columns.rowsPerGroup,
        (r) => trellis.indices[trellis.indexOffset + r * trellis.indexStride + v],
      )
    }
  })
})

/** `s H s^T - 2 s . R` of a row's steps. */
function quadraticChange(
  { steps, hessian, residual, width }: ReturnType<typeof refineTask>['task'],
  row: number,
): number {
  let change = 0
  for (let i = 0; i < width; i++) {
    change -= 2 * at(steps, row, i) * at(residual, row, i)
    for (let j = 0; j < width; j++) change += at(steps, row, i) * at(hessian, i, j) * at(steps, row, j)
  }
  return change
}

function randomTask(
  shape: TrellisShape & Pick<TrellisTask, 'vectorDim' | 'rows' | 'rowsPerStart'>,
  seed: number,
): TrellisTask {
  const random = randomGenerator(seed)
  const { vectorDim: d, rows } = shape
  const normals = (length: number) => Float32Array.from({ length }, () => randomNormal(random))
  const root = normals(d * d)
  const metric = Float64Array.from({ length: d * d }, (_, i) => {
    let sum = 0
    for (let c = 0; c < d; c++) sum += root[Math.floor(i / d) * d + c] * root[(i % d) * d + c]
    return sum
  })
  return {
    ...shape,
    targets: { data: normals(1 + rows * (d + 2)), offset: 1, stride: d + 2 },
    scales: { data: Float32Array.from({ length: 3 * rows + 1 }, () => 0.5 + random()), offset: 1, stride: 3 },
    metric,
    centroids: normals(2 ** shape.stateBits * d),
    keys: new Uint16Array(2 * rows + 1),
    keyOffset: 1,
    keyStride: 2,
  }
}

function keyAt({ keyOffset, keyStride }: TrellisTask, row: number): number {
  return keyOffset + row * keyStride
}

/** Tries every stream of every start. */
function leastLoss(task: TrellisTask): number {
  const { rows, rowsPerStart, indexBits, stateBits } = task
  const height = rowsPerStart || rows
  const best = (row: number, key: number): number => {
    if (row === rows) return 0
    const above = row % height === 0 ? 0 : key
    let least = Number.POSITIVE_INFINITY
    for (let index = 0; index < 2 ** indexBits; index++) {
      const next = (index + 2 ** indexBits * above) % 2 ** stateBits
      least = Math.min(least, rowLoss(task, row, next) + best(row + 1, next))
    }
    return least
  }
  return best(0, 0)
}

function lossOf(task: TrellisTask, key: (row: number) => number): number {
  let sum = 0
  for (let r = 0; r < task.rows; r++) sum += rowLoss(task, r, key(r))
  return sum
}

function rowLoss(
  { vectorDim: d, targets, scales, metric, centroids }: TrellisTask,
  row: number,
  key: number,
): number {
  const difference = Array.from({ length: d }, (_, a) => {
    const scale = scales ? at(scales, row, 0) : 1
    return at(targets, row, a) - Math.fround(scale * centroids[key * d + a])
  })
  let sum = 0
  for (let a = 0; a < d; a++)
    for (let b = 0; b < d; b++) sum += difference[a] * metric[a * d + b] * difference[b]
  return sum
}

/** Every key follows from the one above by a new index. */
function expectStream(
  { indexBits, stateBits }: TrellisShape,
  rows: number,
  rowsPerStart: number,
  key: (row: number) => number,
): void {
  for (let r = 0; r < rows; r++) {
    const above = r % rowsPerStart === 0 ? 0 : key(r - 1)
    expect(key(r) >> indexBits).toBe(above & (2 ** (stateBits - indexBits) - 1))
    expect(key(r)).toBeLessThan(2 ** stateBits)
  }
}
