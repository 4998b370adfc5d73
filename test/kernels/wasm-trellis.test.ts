import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { referenceTrellisKernels } from '../../src/kernels/reference/trellis.js'
import type {
  TrellisKernels,
  TrellisRefineTask,
  TrellisTask,
  TrellisWalkTask,
} from '../../src/kernels/trellis-contract.js'
import { createPool } from '../../src/kernels/wasm/runtime/pool.js'
import { bestBuild, type KernelBuild, startRuntime } from '../../src/kernels/wasm/runtime/runtime.js'
import { trellisKernels } from '../../src/kernels/wasm/trellis/trellis.js'
import { FLOAT32_ROUNDING } from '../support/tolerance.js'
import { at, centroidOf, fresh } from './column-tasks.js'
import {
  blockShapes,
  isStream,
  packedBlock,
  raggedBlocks,
  rowLoss,
  searchShapes,
  searchTask,
  slackOf,
  trellisRefinement,
  trellisWalk,
} from './trellis-tasks.js'

const builds: KernelBuild[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']
const poolOf = (build: KernelBuild, threads: number) => createPool(startRuntime(build), threads)

describe.each(builds)('searchTrellis (%s)', (build) => {
  const kernels = trellisKernels(poolOf(build, 2))

  it('finds a stream whose loss is the least but for rounding, and tells its loss', () => {
    fc.assert(
      fc.property(fc.array(searchShapes, { minLength: 1, maxLength: 4 }), (shapes) => {
        const tasks = shapes.map((shape) => searchTask(shape))
        const least = referenceTrellisKernels.searchTrellis(shapes.map((shape) => searchTask(shape)))
        const losses = kernels.searchTrellis(tasks)
        for (const [i, task] of tasks.entries()) {
          let sum = 0
          for (let r = 0; r < task.rows; r++) sum += rowLoss(task, r, keyOf(task, r))
          expect(isStream(task, task.rows, task.rowsPerStart || task.rows, (r) => keyOf(task, r))).toBe(true)
          expect(Math.abs(losses[i] - sum)).toBeLessThanOrEqual(1e-10 * sum)
          expect(losses[i]).toBeLessThanOrEqual(least[i] + slackOf(task))
        }
      }),
      { numRuns: 60 },
    )
  })

  it('finds the very keys of the reference where nothing is rounded, ties included', () => {
    fc.assert(
      fc.property(searchShapes, (shape) => {
        const [task, expected] = [searchTask(shape, 'whole'), searchTask(shape, 'whole')]
        expect(kernels.searchTrellis([task])).toEqual(referenceTrellisKernels.searchTrellis([expected]))
        expect(task.keys).toEqual(expected.keys)
      }),
      { numRuns: 100 },
    )
  })

  it('stays that close over thousands of rows, of metrics near the ends of the range as well', () => {
    for (const unit of [1, 2 ** 1000, 2 ** -1000]) {
      const shape = { indexBits: 2, stateBits: 6, rowsPerStart: 0, vectorDim: 2, isScaled: true, seed: 3 }
      const long = (): TrellisTask => {
        const task = searchTask({ ...shape, rows: 6000 })
        return { ...task, metric: task.metric.map((value) => value * unit) }
      }
      const [least] = referenceTrellisKernels.searchTrellis([long()])
      const [loss] = kernels.searchTrellis([long()])
      // what one row may be off by, a hundred times: roundings do not add up over rows
      expect(loss - least).toBeLessThanOrEqual((100 * slackOf(long())) / 6000)
    }
  })

  it('takes no tasks, and tasks without rows', () => {
    const empty = searchTask({
      ...{ indexBits: 2, stateBits: 4, rows: 0, rowsPerStart: 0 },
      vectorDim: 2,
      isScaled: true,
      seed: 1,
    })
    expect(kernels.searchTrellis([])).toEqual(new Float64Array(0))
    expect(kernels.searchTrellis([empty])).toEqual(new Float64Array(1))
  })
})

describe.each(builds)('quantizeTrellis (%s)', (build) => {
  const kernels = trellisKernels(poolOf(build, 2))

  it('gives each column the keys of least distance, its errors and, by them, the columns behind it', () => {
    fc.assert(
      fc.property(blockShapes, (shape) => {
        const task = trellisWalk(shape)
        kernels.quantizeTrellis(task)
        expect(mistakesOfWalk(task)).toEqual([])
      }),
      { numRuns: 60 },
    )
  })

  it('gives what the reference gives where nothing is rounded, and writes nothing else', () => {
    fc.assert(
      fc.property(blockShapes, (shape) => {
        const [task, expected] = [trellisWalk(shape, 'whole'), trellisWalk(shape, 'whole')]
        kernels.quantizeTrellis(task)
        referenceTrellisKernels.quantizeTrellis(expected)
        expect(task).toEqual(expected)
      }),
      { numRuns: 60 },
    )
  })
})

describe.each(builds)('refineTrellis (%s)', (build) => {
  const kernels = trellisKernels(poolOf(build, 2))

  it('gives each column keys of least loss where that lowers the loss, and says by how much', () => {
    fc.assert(
      fc.property(raggedBlocks, (shape) => {
        const before = trellisRefinement(shape)
        const after = fresh(before)
        const changed = kernels.refineTrellis(after)
        let different = 0
        for (const [i, key] of after.indices.entries()) if (key !== before.indices[i]) different++
        expect(changed).toBe(different)
        expect(mistakesOfRefinement(before, after)).toEqual([])
      }),
      { numRuns: 60 },
    )
  })

  it('gives what the reference gives where nothing is rounded, and writes nothing else', () => {
    fc.assert(
      fc.property(raggedBlocks, (shape) => {
        const [task, expected] = [trellisRefinement(shape, 'whole'), trellisRefinement(shape, 'whole')]
        expect(kernels.refineTrellis(task)).toBe(referenceTrellisKernels.refineTrellis(expected))
        expect(task).toEqual(expected)
      }),
      { numRuns: 60 },
    )
  })
})

describe.each(builds)('trellis (%s)', (build) => {
  const one = trellisKernels(poolOf(build, 1))
  const others: TrellisKernels[] = [
    trellisKernels(poolOf(build, 3)),
    trellisKernels(poolOf(build, 2), { stagedValues: 200, windowBytes: 64 }),
  ]

  it('gives the same bits on one thread, on three, and with little memory', () => {
    fc.assert(
      fc.property(searchShapes, raggedBlocks, blockShapes, (search, refine, walk) => {
        const run = (kernels: TrellisKernels) => {
          const [searched, refined, walked] = [
            [searchTask(search), searchTask({ ...search, rows: 300 })],
            trellisRefinement(refine),
            trellisWalk(walk),
          ]
          kernels.quantizeTrellis(walked)
          const changed = kernels.refineTrellis(refined)
          return { losses: kernels.searchTrellis(searched), searched, refined, walked, changed }
        }
        const expected = run(one)
        for (const other of others) expect(run(other)).toEqual(expected)
      }),
      { numRuns: 30 },
    )
  })
})

function keyOf({ keys, keyOffset, keyStride }: TrellisTask, row: number): number {
  return keys[keyOffset + row * keyStride]
}

/** One column of vectors of a row group as a task of its own, with the keys that a kernel found. */
function columnOf(
  task: TrellisWalkTask | TrellisRefineTask,
  top: number,
  column: number,
  metric: Float64Array,
  target: (row: number, a: number) => number,
): TrellisTask {
  const { vectorDim: d, rowsPerGroup, firstRow, centroids, stateBits, scales } = task
  const indexBits = task.widths[Math.floor(column / d)]
  const factor = task.factors[Math.floor(column / d)]
  const rows = Math.min(rowsPerGroup, task.rows - top)
  const from = task.codebookOffset + ((firstRow + top) / rowsPerGroup) * task.codebookStride
  const first = task.indexOffset + top * task.indexStride + Math.floor(column / d)
  return {
    ...{ rows, rowsPerStart: 0, vectorDim: d, metric, indexBits, stateBits },
    targets: packedBlock(rows, d, (r, a) => target(top + r, a)),
    ...(scales && {
      scales: packedBlock(rows, 1, (r) => at(scales.values, top + r, Math.floor(column / scales.blockSize))),
    }),
    centroids: task.codebooks.subarray(from, from + centroids * d).map((value) => value * factor),
    keys: Uint16Array.from({ length: rows }, (_, r) => task.indices[first + r * task.indexStride]),
    keyOffset: 0,
    keyStride: 1,
  }
}

/** What the keys of a column lose more than the best, less what rounding may do. */
function excessOf(task: TrellisTask): number {
  let loss = 0
  for (let r = 0; r < task.rows; r++) loss += rowLoss(task, r, keyOf(task, r))
  const [least] = referenceTrellisKernels.searchTrellis([{ ...task, keys: new Uint16Array(task.rows) }])
  return loss - least - slackOf(task)
}

/** Checks a walk against float64, each column by the errors the kernel itself spread before it. */
function mistakesOfWalk(task: TrellisWalkTask): string[] {
  const mistakes: string[] = []
  const { rows, width, vectorDim: d, metrics, rowsPerGroup } = task
  const work = Float64Array.from({ length: rows * width }, (_, i) =>
    at(task.work, Math.floor(i / width), i % width),
  )
  const size = work.map(Math.abs)
  for (let column = 0; column < width; column += d) {
    for (let top = 0; top < rows; top += rowsPerGroup) {
      const metric = metrics.slice(column * d, (column + d) * d)
      const path = columnOf(task, top, column, metric, (r, a) => work[r * width + column + a])
      if (!isStream(path, path.rows, path.rows, (r) => keyOf(path, r)))
        mistakes.push(`stream at ${top}, ${column}`)
      // the kernel's columns are rounded by each vector before
      if (!(excessOf(path) <= column * slackOf(path))) mistakes.push(`keys at ${top}, ${column}`)
      for (let r = top; r < top + path.rows; r++) {
        const c = centroidOf(task, r, column, keyOf(path, r - top))
        for (let a = 0; a < d; a++) {
          let difference = work[r * width + column + a] - c[a]
          for (let b = 0; b <= a; b++) {
            difference -= at(task.errors, r, column + b) * at(task.factor, column + b, column + a)
          }
          const reach = size[r * width + column + a] + 8 * d
          if (!(Math.abs(difference) <= 24 * FLOAT32_ROUNDING * (d + column) * reach)) {
            mistakes.push(`error at ${r}, ${column + a}`)
          }
          for (let j = column + d; j < width; j++) {
            const moved = at(task.errors, r, column + a) * at(task.factor, column + a, j)
            work[r * width + j] -= moved
            size[r * width + j] += Math.abs(moved)
          }
        }
      }
    }
  }
  return mistakes
}

/** Checks a refinement against float64, each column by the steps the kernel itself made before it. */
function mistakesOfRefinement(before: TrellisRefineTask, after: TrellisRefineTask): string[] {
  const mistakes: string[] = []
  const { rows, width, vectorDim: d, rowsPerGroup } = before
  const residual = Float64Array.from({ length: rows * width }, (_, i) => {
    return at(before.residual, Math.floor(i / width), i % width)
  })
  const told = new Float64Array(rows)
  for (let column = 0; column < width; column += d) {
    const own = Math.min(d, width - column)
    for (let top = 0; top < rows; top += rowsPerGroup) {
      const bottom = Math.min(top + rowsPerGroup, rows)
      const changeOf = (r: number, step: readonly number[]) => {
        let sum = 0
        for (let a = 0; a < own; a++) {
          let slope = -2 * residual[r * width + column + a]
          for (let b = 0; b < own; b++) slope += at(before.hessian, column + a, column + b) * step[b]
          sum += step[a] * slope
        }
        return sum
      }
      const stepTo = (r: number, key: number) => {
        const present = centroidOf(before, r, column, keyAt(before, r, column))
        return centroidOf(before, r, column, key).map((value, a) => value - present[a])
      }
      let total = 0
      let size = 0
      for (let r = top; r < bottom; r++) {
        const step = stepTo(r, keyAt(after, r, column))
        const change = changeOf(r, step)
        total += change
        told[r] += change
        for (let a = 0; a < own; a++) {
          size +=
            16 *
            d *
            (Math.abs(residual[r * width + column + a]) + 8 * d * at(before.hessian, column + a, column + a))
          if (at(after.steps, r, column + a) !== Math.fround(step[a]))
            mistakes.push(`step at ${r}, ${column + a}`)
        }
      }
      const best = leastChange(before, column, top, bottom, (r, key) => changeOf(r, stepTo(r, key)))
      const slack =
        24 * FLOAT32_ROUNDING * (d + column) * (1 + before.stateBits / before.widths[column / d]) * size
      if (!(total <= slack && total <= best + slack))
        mistakes.push(`keys at ${top}, ${column}: ${total}, ${best}`)
      for (let r = top; r < bottom; r++) {
        for (let a = 0; a < own; a++) {
          for (let j = column + d; j < width; j++) {
            residual[r * width + j] -= at(after.steps, r, column + a) * at(before.hessian, column + a, j)
          }
        }
      }
    }
  }
  for (let r = 0; r < rows; r++) {
    if (!(Math.abs(after.changes[r] - told[r]) <= 1e-5 * (100 + Math.abs(told[r]))))
      mistakes.push(`change of ${r}`)
  }
  return mistakes
}

function keyAt(task: TrellisRefineTask, row: number, column: number): number {
  return task.indices[task.indexOffset + row * task.indexStride + Math.floor(column / task.vectorDim)]
}

/** The least sum of what keys cost down a path, by the Viterbi algorithm written once more. */
function leastChange(
  { widths, stateBits, vectorDim }: TrellisRefineTask,
  column: number,
  top: number,
  bottom: number,
  cost: (row: number, key: number) => number,
): number {
  const indexBits = widths[column / vectorDim]
  let sums = new Map([[0, 0]])
  for (let r = top; r < bottom; r++) {
    const next = new Map<number, number>()
    for (const [above, sum] of sums) {
      for (let index = 0; index < 2 ** indexBits; index++) {
        const key = (index + 2 ** indexBits * above) % 2 ** stateBits
        const total = sum + cost(r, key)
        const kept = key % 2 ** (stateBits - indexBits)
        if (!(total >= (next.get(kept) ?? Infinity))) next.set(kept, total)
      }
    }
    sums = next
  }
  return Math.min(...sums.values())
}
