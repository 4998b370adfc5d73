import { type Block, wholeBlock } from '../../contract.js'
import { allocate, type KernelMemory, release } from './memory.js'

/** Copies between ordinary arrays and the kernels' memory. */

/** Writes a block (rows x cols) to `at`, its rows packed one after the other. */
export function copyIn(
  heap: KernelMemory,
  block: Block,
  row: number,
  column: number,
  rows: number,
  cols: number,
  at: number,
): void {
  const { data, stride } = block
  const target = new Float32Array(heap.memory.buffer, at, rows * cols)
  const start = block.offset + row * stride + column
  if (stride === cols) {
    target.set(data.subarray(start, start + rows * cols))
    return
  }
  for (let r = 0; r < rows; r++) {
    const from = start + r * stride
    target.set(data.subarray(from, from + cols), r * cols)
  }
}

/** The inverse of {@link copyIn}. */
export function copyOut(
  heap: KernelMemory,
  at: number,
  block: Block,
  row: number,
  column: number,
  rows: number,
  cols: number,
): void {
  const { data, stride } = block
  const source = new Float32Array(heap.memory.buffer, at, rows * cols)
  const start = block.offset + row * stride + column
  if (stride === cols) {
    data.set(source, start)
    return
  }
  for (let r = 0; r < rows; r++) data.set(source.subarray(r * cols, (r + 1) * cols), start + r * stride)
}

/** Copies a block of rows x width to `at`; zeros fill it up to `paddedRows` rows of `stride` values. */
export function padIn(
  memory: ArrayBufferLike,
  at: number,
  block: Block,
  rows: number,
  paddedRows: number,
  width: number,
  stride: number,
): void {
  const target = new Float32Array(memory, at, paddedRows * stride)
  if (stride > width || paddedRows > rows) target.fill(0)
  for (let r = 0; r < rows; r++) {
    const from = block.offset + r * block.stride
    target.set(block.data.subarray(from, from + width), r * stride)
  }
}

/** The inverse of {@link padIn}; what filled up is left out. */
export function padOut(
  memory: ArrayBufferLike,
  at: number,
  block: Block,
  rows: number,
  width: number,
  stride: number,
): void {
  const source = new Float32Array(memory, at, rows * stride)
  for (let r = 0; r < rows; r++) {
    const from = r * stride
    block.data.set(source.subarray(from, from + width), block.offset + r * block.stride)
  }
}

/** Runs `use` with memory for each of `bytes`, given back at the end. */
export function withMemory<T>(heap: KernelMemory, bytes: readonly number[], use: (...at: number[]) => T): T {
  const taken: number[] = []
  try {
    for (const count of bytes) taken.push(allocate(heap, count))
    return use(...taken)
  } finally {
    for (const at of taken) release(heap, at)
  }
}

/** Runs `use` with the addresses of copies of `arrays`, given back at the end. */
export function withCopies<T>(
  heap: KernelMemory,
  arrays: readonly Float32Array[],
  use: (...at: number[]) => T,
): T {
  const bytes = arrays.map(({ byteLength }) => byteLength)
  return withMemory(heap, bytes, (...at) => {
    for (const [i, array] of arrays.entries()) {
      copyIn(heap, wholeBlock(array, array.length), 0, 0, 1, array.length, at[i])
    }
    return use(...at)
  })
}
