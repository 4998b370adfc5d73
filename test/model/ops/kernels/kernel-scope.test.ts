import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  freeRows,
  type KernelRows,
  newRows,
  tidyRows,
} from '../../../../src/model/ops/kernels/kernel-scope.js'
import { type KernelArrays, watchKernelArrays } from '../../../support/kernel-arrays.js'

let arrays: KernelArrays
beforeEach(() => {
  arrays = watchKernelArrays()
})
afterEach(() => {
  expect(arrays.inUse()).toBe(0)
  arrays.stop()
})

/** A matrix of one value. */
function made(value: number): KernelRows {
  const x = newRows(1, 1)
  x.data[0] = value
  return x
}

describe('tidyRows', () => {
  it('frees all that was made in it, except for what it returns', () => {
    const kept = tidyRows(() => {
      made(1)
      const result = made(2)
      made(3)
      return result
    })
    expect(arrays.allocated()).toBe(3)
    expect(arrays.inUse()).toBe(1)
    expect(kept.data[0]).toBe(2)
    freeRows(kept)
  })

  it('keeps what it returns within objects and arrays, each once', () => {
    const result = tidyRows(() => {
      made(0)
      const shared = made(1)
      return { a: shared, inner: { list: [shared, made(2)], tokens: [Int32Array.of(1, 2)] }, none: undefined }
    })
    expect(arrays.inUse()).toBe(2)
    expect(result.inner.list.map(({ data }) => data[0])).toEqual([1, 2])
    result.inner.list.forEach(freeRows)
  })

  it('returns objects that refer to themselves', () => {
    interface Ring {
      x: KernelRows
      self?: Ring
    }
    const ring = tidyRows(() => {
      const result: Ring = { x: made(1) }
      result.self = result
      return result
    })
    expect(arrays.inUse()).toBe(1)
    freeRows(ring.x)
  })

  it('leaves what was made before alone, returned or not', () => {
    const before = made(5)
    expect(tidyRows(() => before)).toBe(before)
    tidyRows(() => made(1).data[0] + before.data[0])
    expect(arrays.inUse()).toBe(1)
    expect(before.data[0]).toBe(5)
    freeRows(before)
  })

  it('hands what an inner one returns to the outer one, which frees it unless it returns it too', () => {
    const [kept] = tidyRows(() => {
      const inner = tidyRows(() => {
        made(1)
        return [made(2), made(3)]
      })
      expect(arrays.inUse()).toBe(2)
      made(4)
      return [inner[1]]
    })
    expect(arrays.inUse()).toBe(1)
    expect(kept.data[0]).toBe(3)
    freeRows(kept)
  })

  it('goes on with the outer one behind an inner one', () => {
    tidyRows(() => {
      const first = made(1)
      tidyRows(() => made(2).data[0])
      const second = made(3)
      expect(arrays.inUse()).toBe(2)
      expect([first.data[0], second.data[0]]).toEqual([1, 3])
    })
  })

  it('frees everything when it fails, also what an inner one had returned, and the next one works', () => {
    const failing = () =>
      tidyRows(() => {
        tidyRows(() => made(1))
        made(2)
        throw new Error('it fails')
      })
    expect(failing).toThrow('it fails')
    expect(arrays.inUse()).toBe(0)
    expect(() => tidyRows(() => failing())).toThrow('it fails')
    const kept = tidyRows(() => made(3))
    expect(arrays.inUse()).toBe(1)
    freeRows(kept)
  })

  it('does not free again what was freed in it', () => {
    tidyRows(() => {
      const x = made(1)
      freeRows(x)
      made(2)
    })
  })

  it('made outside of any is kept until it is freed', () => {
    const x = made(1)
    tidyRows(() => made(2).data[0])
    expect(arrays.inUse()).toBe(1)
    freeRows(x)
  })
})
