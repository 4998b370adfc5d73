import { ShapeError } from '../../errors.js'
import { allocate, type KernelMemory, release } from './memory.js'

/** Arrays that live in the kernels' memory, and where. */
export interface ResidentArrays {
  allocate(length: number): Float32Array
  release(array: Float32Array): void
  /** Whether `array` is one of them or a part of one. */
  has(array: Float32Array): boolean
  /** @throws ShapeError when it is not */
  addressOf(array: Float32Array): number
}

export function residentArrays(heap: KernelMemory): ResidentArrays {
  // a shared memory that grows gets another buffer over the same bytes; the old ones stay valid
  const buffers = new WeakSet<ArrayBufferLike>()
  const has = (array: Float32Array) => buffers.has(array.buffer)
  const addressOf = (array: Float32Array) => {
    if (has(array)) return array.byteOffset
    throw new ShapeError(
      `an array of ${array.length} values is not in the kernels' memory: allocate it there`,
    )
  }
  return {
    allocate: (length) => {
      const at = allocate(heap, 4 * length)
      const { buffer } = heap.memory
      buffers.add(buffer)
      return new Float32Array(buffer, at, length)
    },
    release: (array) => release(heap, addressOf(array)),
    has,
    addressOf,
  }
}
