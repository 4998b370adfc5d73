import { afterEach, describe, expect, it } from 'vitest'
import { setThreads, threadCount } from '../../../src/kernels/kernels.js'
import { enoughOfLayer, measureRows } from '../../../src/pipeline/estimate/measure-rows.js'

const threads = threadCount()
afterEach(() => setThreads(threads))

describe.each([1, 4])('the time of rows on %i threads', (count) => {
  /** Work of which 2 seconds are done once, and rows by as many threads as have 128 of them. */
  const measured: [number, number][] = []
  const time = async (rows: number) => {
    measured.push([rows, threadCount()])
    return 2 + (0.01 * rows) / Math.max(1, Math.min(threadCount(), rows / 128))
  }

  it('is that of enough rows, less what these take once', async () => {
    setThreads(count)
    measured.length = 0
    const enough = enoughOfLayer().rows
    const { once, rows } = await measureRows(time, enough, 65536, true)
    expect(once).toBeCloseTo(2, 9)
    expect(rows).toBeCloseTo(655.36 / count, 9)
    expect(measured[0]).toEqual([enough, count])
    expect(threadCount()).toBe(count)
  })

  it('tells them apart on one thread, which few rows keep busy', async () => {
    setThreads(count)
    measured.length = 0
    await measureRows(time, enoughOfLayer().rows, 65536, true)
    expect(measured.slice(1).map(([, threads]) => threads)).toEqual(count === 1 ? [1] : [1, 1])
  })

  it('leaves the threads as they were after a failure', async () => {
    setThreads(count)
    const failing = async (rows: number) => {
      if (rows < enoughOfLayer().rows) throw new Error('no more')
      return time(rows)
    }
    await expect(measureRows(failing, enoughOfLayer().rows, 65536, true)).rejects.toThrow('no more')
    expect(threadCount()).toBe(count)
  })

  it.each([
    ['all rows are measured', 256, 256, true],
    ['fewer rows would take no less', 256, 1024, false],
  ])('is not told apart where %s', async (_, some, all, alike) => {
    setThreads(count)
    const seconds = await time(some)
    expect(await measureRows(time, some, all, alike)).toEqual({ once: 0, rows: (seconds * all) / some })
  })
})

describe('what rows take once', () => {
  it('is at most what was measured, and at least nothing, whatever a busy machine shows', async () => {
    setThreads(1)
    const slowWithFew = await measureRows(async (rows) => (rows === 128 ? 9 : 3), 256, 4096, true)
    expect(slowWithFew).toEqual({ once: 3, rows: 0 })
    const quickWithFew = await measureRows(async (rows) => (rows === 128 ? 0 : 3), 256, 4096, true)
    expect(quickWithFew).toEqual({ once: 0, rows: 48 })
  })
})
