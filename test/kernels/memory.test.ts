import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { UnsupportedError } from '../../src/common/errors.js'
import { allocate, createMemory, release } from '../../src/kernels/wasm/runtime/memory.js'
import { thrownBy } from '../support/tolerance.js'

describe('kernel memory', () => {
  it('never hands out overlapping stretches, and joins what is given back into one', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 300_000 }), fc.boolean()), { maxLength: 40 }),
        (steps) => {
          const heap = createMemory()
          const reserved = heap.memory.buffer.byteLength
          const taken: { at: number; bytes: number }[] = []
          for (const [bytes, returnsOne] of steps) {
            if (returnsOne && taken.length > 0) release(heap, taken.splice(bytes % taken.length, 1)[0].at)
            const at = allocate(heap, bytes)
            expect(at % 64).toBe(0)
            expect(at).toBeGreaterThanOrEqual(reserved)
            expect(at + bytes).toBeLessThanOrEqual(heap.memory.buffer.byteLength)
            for (const other of taken)
              expect(at + bytes <= other.at || other.at + other.bytes <= at).toBe(true)
            taken.push({ at, bytes })
          }
          for (const { at } of taken) release(heap, at)
          const end = heap.memory.buffer.byteLength
          expect(heap.free).toEqual(end > reserved ? [{ at: reserved, bytes: end - reserved }] : [])
        },
      ),
      { numRuns: 60 },
    )
  })

  it('uses again what was given back, instead of growing', () => {
    const heap = createMemory()
    release(heap, allocate(heap, 1e6))
    const size = heap.memory.buffer.byteLength
    for (let i = 0; i < 10; i++) release(heap, allocate(heap, 1e6 - i))
    expect(heap.memory.buffer.byteLength).toBe(size)
  })

  it('says how much was wanted and how much there is when it is exhausted', () => {
    const error = thrownBy(() => allocate(createMemory(), 2 ** 32))
    expect(error).toBeInstanceOf(UnsupportedError)
    expect(String(error)).toMatch(/4294967296 bytes wanted, 131072 in use/)
  })

  it('refuses to give back what is not in use', () => {
    expect(() => release(createMemory(), 64)).toThrow(/not in use/)
  })
})
