import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ColumnKernels, ColumnWalkTask, RefineTask } from '../../src/kernels/contract.js'
import { referenceColumnKernels } from '../../src/kernels/reference/columns.js'
import { columnKernels } from '../../src/kernels/wasm/clustering/columns.js'
import type { Pool } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { FLOAT32_ROUNDING } from '../support/tolerance.js'
import { at, centroidOf, fresh, indexOf, refineTask, type Shape, walkTask, weightOf } from './column-tasks.js'

const pool = (build: KernelBuild, threads: number): Pool => ({
  runtime: startRuntime(build),
  threads,
  workers: 0,
})

const builds: KernelBuild[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']
const implementations: [string, ColumnKernels][] = [
  ['reference', referenceColumnKernels],
  ...builds.map((build): [string, ColumnKernels] => [build, columnKernels(pool(build, 2))]),
]

const shapes: fc.Arbitrary<Shape> = fc
  .record({
    rows: fc.integer({ min: 1, max: 45 }),
    vectors: fc.integer({ min: 1, max: 12 }),
    d: fc.constantFrom(1, 2, 4),
    k: fc.oneof(fc.integer({ min: 2, max: 20 }), fc.constantFrom(64, 255, 256)),
    firstRow: fc.integer({ min: 0, max: 20 }),
    rowsPerGroup: fc.integer({ min: 1, max: 60 }),
    gap: fc.integer({ min: 0, max: 5 }),
    seed: fc.integer({ min: 0, max: 1e6 }),
    vectorsPerScale: fc.option(fc.integer({ min: 1, max: 8 }), { nil: undefined }),
  })
  .map(({ vectors, vectorsPerScale, ...shape }) => ({
    ...shape,
    width: vectors * shape.d,
    ...(vectorsPerScale && { scaleBlockSize: vectorsPerScale * shape.d }),
  }))

/** The same, the last vector narrower than d. */
const raggedShapes = fc
  .tuple(shapes, fc.integer({ min: 0, max: 3 }))
  .map(([shape, lacking]) => ({ ...shape, width: shape.width - (lacking % shape.d) }))

/** Roundings in a distance or an error: a dozen operations, each half a unit in the last place of the largest term. */
const ROUNDINGS = 24

describe.each(implementations)('quantizeColumns (%s)', (_name, kernels) => {
  it('gives each vector the nearest centroid, its error and, by the errors, the columns behind it', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const task = walkTask(shape)
        const done = fresh(task)
        kernels.quantizeColumns(done)
        expect(mistakesOfWalk(done)).toEqual([])
      }),
      { numRuns: 60 },
    )
  })

  it('writes only inside its rows and columns, and none of its inputs', () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const task = walkTask({ ...shape, gap: 3 })
        const done = fresh(task)
        const work = task.work.data.slice()
        kernels.quantizeColumns(done)
        expect(task.work.data).toEqual(work)
        expectOutsideKept(done.errors.data, task.errors.data, done.errors.stride, shape.width)
        expectOutsideKept(done.indices, task.indices, done.indexStride, shape.width / shape.d)
      }),
      { numRuns: 20 },
    )
  })

  it('takes metrics near the end of the float32 range', () => {
    const task = walkTask({
      rows: 9,
      width: 16,
      d: 2,
      k: 16,
      firstRow: 0,
      rowsPerGroup: 4,
      gap: 0,
      seed: 1,
    })
    const [plain, huge] = [fresh(task), { ...fresh(task), metrics: task.metrics.map((m) => m * 2 ** 125) }]
    kernels.quantizeColumns(plain)
    kernels.quantizeColumns(huge)
    expect(huge.indices).toEqual(plain.indices)
  })
})

describe.each(implementations)('refineColumns (%s)', (_name, kernels) => {
  it('moves a vector only where that lowers the loss, to the best centroid, and says by how much', () => {
    fc.assert(
      fc.property(raggedShapes, (shape) => {
        const { task } = refineTask(shape)
        const done = fresh(task)
        const changed = kernels.refineColumns(done)
        expect(mistakesOfRefinement(task, done)).toEqual([])
        let different = 0
        for (const [i, index] of done.indices.entries()) if (index !== task.indices[i]) different++
        expect(changed).toBe(different)
      }),
      { numRuns: 60 },
    )
  })

  it('never raises the loss of a row, summed in float64 by its definition', () => {
    fc.assert(
      fc.property(raggedShapes, (shape) => {
        const { task, weights } = refineTask(shape)
        const done = fresh(task)
        kernels.refineColumns(done)
        for (let r = 0; r < shape.rows; r++) {
          const before = rowLoss(weights, task, r)
          const after = rowLoss(weights, done, r)
          // the residual that decides is rounded to float32
          const tolerance = 1e-5 * before
          expect(done.changes[r]).toBeLessThanOrEqual(0)
          expect(after).toBeLessThanOrEqual(before + tolerance)
          expect(Math.abs(after - before - done.changes[r])).toBeLessThanOrEqual(tolerance)
        }
      }),
      { numRuns: 60 },
    )
  })

  it('changes nothing the second time where vectors do not pull at each other', () => {
    const { task } = refineTask({
      rows: 20,
      width: 12,
      d: 2,
      k: 16,
      firstRow: 3,
      rowsPerGroup: 7,
      gap: 0,
      seed: 5,
    })
    const apart = task.hessian.data.map((h, i) => ((i % 12) >> 1 === Math.floor(i / 12) >> 1 ? h : 0))
    const done = { ...fresh(task), hessian: { ...task.hessian, data: apart } }
    expect(kernels.refineColumns(done)).toBeGreaterThan(0)
    const residual = done.residual.data.slice()
    for (let r = 0; r < 20; r++) {
      for (let i = 0; i < 12; i++) {
        for (let j = 0; j < 12; j++) residual[r * 12 + j] -= at(done.steps, r, i) * apart[i * 12 + j]
      }
    }
    expect(kernels.refineColumns({ ...done, residual: { ...done.residual, data: residual } })).toBe(0)
    expect(done.steps.data.every((step) => step === 0)).toBe(true)
  })
})

it.each(implementations)('scales of 1 change nothing (%s)', (_name, kernels) => {
  const shape = { rows: 21, width: 24, d: 2, k: 16, firstRow: 1, rowsPerGroup: 6, gap: 0, seed: 3 }
  const [walk, { task: refine }] = [walkTask(shape), refineTask(shape)]
  const ones = { values: { data: new Float32Array(63).fill(1), offset: 0, stride: 3 }, blockSize: 8 }
  const [plainWalk, scaledWalk] = [fresh(walk), { ...fresh(walk), scales: ones }]
  const [plainRefine, scaledRefine] = [fresh(refine), { ...fresh(refine), scales: ones }]
  kernels.quantizeColumns(plainWalk)
  kernels.quantizeColumns(scaledWalk)
  expect(bytesOf(scaledWalk.indices, scaledWalk.errors.data)).toBe(
    bytesOf(plainWalk.indices, plainWalk.errors.data),
  )
  expect(kernels.refineColumns(scaledRefine)).toBe(kernels.refineColumns(plainRefine))
  expect(bytesOf(scaledRefine.indices, scaledRefine.steps.data)).toBe(
    bytesOf(plainRefine.indices, plainRefine.steps.data),
  )
})

describe.each(builds)('columns (%s)', (build) => {
  const one = columnKernels(pool(build, 1))
  const variants = [columnKernels(pool(build, 2)), columnKernels(pool(build, 2), 30_000)]
  const large = { rows: 200, d: 2, width: 130, k: 16, firstRow: 4, rowsPerGroup: 9, gap: 2, seed: 9 }
  const scaled = { ...large, scaleBlockSize: 32 }

  it('gives the same bits on one thread, on two, and a few rows at a time', () => {
    fc.assert(
      fc.property(fc.oneof(shapes, fc.constantFrom<Shape>(large, scaled)), (shape) => {
        const walk = walkTask(shape)
        const { task: refine } = refineTask(shape)
        const [walked, refined] = [fresh(walk), fresh(refine)]
        one.quantizeColumns(walked)
        const changed = one.refineColumns(refined)
        for (const other of variants) {
          const [walkedToo, refinedToo] = [fresh(walk), fresh(refine)]
          other.quantizeColumns(walkedToo)
          expect(other.refineColumns(refinedToo)).toBe(changed)
          expect(bytesOf(walkedToo.indices, walkedToo.errors.data)).toBe(
            bytesOf(walked.indices, walked.errors.data),
          )
          expect(bytesOf(refinedToo.indices, refinedToo.steps.data, refinedToo.changes)).toBe(
            bytesOf(refined.indices, refined.steps.data, refined.changes),
          )
        }
      }),
      { numRuns: 15 },
    )
  })
})

describe.each(builds)('columns searched by trees (%s)', (build) => {
  const [all, tree] = (['all', 'tree'] as const).map((search) => {
    return columnKernels(pool(build, 1), undefined, search)
  })
  const treeShapes = fc
    .record({
      shape: raggedShapes,
      d: fc.constantFrom(2, 4),
      k: fc.oneof(fc.integer({ min: 1, max: 70 }), fc.constantFrom(256, 700)),
    })
    .filter(({ shape, d }) => (shape.scaleBlockSize ?? 0) % d === 0)
    .map(({ shape, d, k }) => ({ ...shape, d, k }))

  it('gives the bits that going through all centroids gives', () => {
    fc.assert(
      fc.property(treeShapes, (shape) => {
        const walk = walkTask({ ...shape, width: Math.ceil(shape.width / shape.d) * shape.d })
        const { task: refine } = refineTask(shape)
        const [walked, walkedToo, refined, refinedToo] = [
          fresh(walk),
          fresh(walk),
          fresh(refine),
          fresh(refine),
        ]
        all.quantizeColumns(walked)
        tree.quantizeColumns(walkedToo)
        expect(walkedToo.indices).toEqual(walked.indices)
        expect(walkedToo.errors.data).toEqual(walked.errors.data)
        expect(tree.refineColumns(refinedToo)).toBe(all.refineColumns(refined))
        expect(refinedToo.indices).toEqual(refined.indices)
        expect(refinedToo.steps.data).toEqual(refined.steps.data)
        expect(refinedToo.changes).toEqual(refined.changes)
      }),
      { numRuns: 100 },
    )
  })
})

const bytesOf = (...arrays: (Uint16Array | Float32Array | Float64Array)[]) =>
  arrays.map((array) => Buffer.from(array.buffer).toString('base64')).join()

/** Checks a walk against float64, each vector by the errors the kernel itself spread before it. */
function mistakesOfWalk(task: ColumnWalkTask): string[] {
  const mistakes: string[] = []
  const { width, vectorDim: d, centroids: k, metrics } = task
  for (let r = 0; r < task.rows; r++) {
    const row = Float64Array.from({ length: width }, (_, j) => at(task.work, r, j))
    const size = row.map(Math.abs)
    for (let column = 0; column < width; column += d) {
      const x = row.slice(column, column + d)
      const metric = metrics.subarray(column * d, (column + d) * d)
      const distances = Array.from({ length: k }, (_, j) =>
        distance(x, centroidOf(task, r, column, j), metric),
      )
      const reach = d * Math.max(...size.slice(column, column + d), 4)
      const slack = ROUNDINGS * FLOAT32_ROUNDING * (d + column) * Math.max(...metric) * reach ** 2
      const chosen = indexOf(task, r, column)
      if (!(distances[chosen] <= Math.min(...distances) + slack)) mistakes.push(`row ${r}, column ${column}`)
      const same = centroidOf(task, r, column, chosen).join()
      for (let j = 0; j < chosen; j++) {
        if (centroidOf(task, r, column, j).join() === same) mistakes.push(`tie in row ${r}, column ${column}`)
      }
      const c = centroidOf(task, r, column, chosen)
      const errors = Array.from({ length: d }, (_, a) => at(task.errors, r, column + a))
      for (let a = 0; a < d; a++) {
        // errors U_PP must give back x - c
        let difference = x[a] - c[a]
        for (let b = 0; b <= a; b++) difference -= errors[b] * at(task.factor, column + b, column + a)
        if (!(Math.abs(difference) <= ROUNDINGS * FLOAT32_ROUNDING * (d + column) * reach)) {
          mistakes.push(`error in row ${r}, column ${column + a}`)
        }
        for (let j = column + d; j < width; j++) {
          const moved = errors[a] * at(task.factor, column + a, j)
          row[j] -= moved
          size[j] += Math.abs(moved)
        }
      }
    }
  }
  return mistakes
}

function distance(x: ArrayLike<number>, c: readonly number[], metric: Float64Array): number {
  const d = c.length
  let sum = 0
  for (let a = 0; a < d; a++) {
    for (let b = 0; b < d; b++) sum += (x[a] - c[a]) * metric[a * d + b] * (x[b] - c[b])
  }
  return sum
}

/** Checks a refinement against float64, each vector by the steps the kernel itself made before it. */
function mistakesOfRefinement(before: RefineTask, after: RefineTask): string[] {
  const mistakes: string[] = []
  const { width, vectorDim: d, centroids: k, hessian } = before
  for (let r = 0; r < before.rows; r++) {
    const row = Float64Array.from({ length: width }, (_, j) => at(before.residual, r, j))
    const size = row.map(Math.abs)
    let total = 0
    for (let column = 0; column < width; column += d) {
      const own = Math.min(d, width - column)
      const present = centroidOf(before, r, column, indexOf(before, r, column))
      const change = (to: readonly number[]) => {
        let sum = 0
        for (let a = 0; a < own; a++) {
          let slope = -2 * row[column + a]
          for (let b = 0; b < own; b++) slope += at(hessian, column + a, column + b) * (to[b] - present[b])
          sum += (to[a] - present[a]) * slope
        }
        return sum
      }
      const chosen = change(centroidOf(after, r, column, indexOf(after, r, column)))
      const best = Math.min(...Array.from({ length: k }, (_, j) => change(centroidOf(before, r, column, j))))
      let diagonal = 0
      for (let a = 0; a < own; a++) diagonal = Math.max(diagonal, at(hessian, column + a, column + a))
      const scale = Math.max(...size.slice(column, column + own)) + 4 * d * diagonal
      const slack = ROUNDINGS * FLOAT32_ROUNDING * (d + column) * scale * 4 * d
      if (!(chosen <= best + slack && chosen <= slack)) mistakes.push(`row ${r}, column ${column}`)
      total += chosen
      for (let a = 0; a < own; a++) {
        const step = at(after.steps, r, column + a)
        const moved = weightOf(after, r, column + a) - present[a]
        if (step !== Math.fround(moved)) mistakes.push(`step in row ${r}, column ${column + a}`)
        for (let j = column + d; j < width; j++) {
          row[j] -= step * at(hessian, column + a, j)
          size[j] += Math.abs(step * at(hessian, column + a, j))
        }
      }
    }
    const slack = 1e-5 * Math.max(1, Math.abs(total))
    if (!(Math.abs(after.changes[r] - total) <= slack)) mistakes.push(`change of row ${r}`)
  }
  return mistakes
}

/** `(w - q) H (w - q)^T` of one row in float64. */
function rowLoss(weights: Float64Array, task: RefineTask, row: number): number {
  const { width } = task
  const difference = Float64Array.from(
    { length: width },
    (_, j) => weights[row * width + j] - weightOf(task, row, j),
  )
  let loss = 0
  for (let i = 0; i < width; i++) {
    for (let j = 0; j < width; j++) loss += difference[i] * difference[j] * at(task.hessian, i, j)
  }
  return loss
}

/** Both arrays start with a gap of 3 and have rows of `stride` elements of which the first `width` may differ. */
function expectOutsideKept(
  after: ArrayLike<number>,
  before: ArrayLike<number>,
  stride: number,
  width: number,
): void {
  const touched = Array.from(after).filter((value, i) => {
    const isInside = i >= 3 && (i - 3) % stride < width
    return !isInside && value !== before[i]
  })
  expect(touched).toEqual([])
}
