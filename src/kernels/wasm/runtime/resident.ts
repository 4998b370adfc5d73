import { ShapeError } from '../../../common/errors.js'
import type { Block } from '../../contract.js'
import { allocate, type KernelMemory, release } from './memory.js'

/** An array of float32, or the same memory seen as other numbers. */
export type ResidentArray = Float32Array | Int8Array | Uint16Array

/** Arrays that live in the kernels' memory, and where. */
export interface ResidentArrays {
  allocate(length: number): Float32Array
  release(array: Float32Array): void
  /** Whether `array` is one of them or a part of one, perhaps seen as other numbers. */
  has(array: ResidentArray): boolean
  /** @throws ShapeError when it is not */
  addressOf(array: ResidentArray): number
}

/** An operand in the kernels' memory: its address and the floats between its rows. */
export interface Place {
  readonly at: number
  readonly stride: number
}

/** Where a block of one of the arrays is. @throws ShapeError when its array is elsewhere */
export function placeOfBlock(arrays: ResidentArrays, { data, offset, stride }: Block): Place {
  return { at: arrays.addressOf(data) + 4 * offset, stride }
}

export function residentArrays(heap: KernelMemory): ResidentArrays {
  // a shared memory that grows gets another buffer over the same bytes; the old ones stay valid
  const buffers = new WeakSet<ArrayBufferLike>()
  const has = (array: ResidentArray) => buffers.has(array.buffer)
  const addressOf = (array: ResidentArray) => {
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
