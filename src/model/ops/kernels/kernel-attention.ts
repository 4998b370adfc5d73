import { ShapeError } from '../../../errors.js'
import { forwardKernels } from '../../../kernels/forward-kernels.js'
import type { AttentionShape, KeyValueCache, TokenRows } from '../ops.js'
import { type KernelRows, newRows } from './kernel-scope.js'

/** Keys and values, each sequences x capacity x (kvHeads * headDim). */
interface KernelCache extends KeyValueCache {
  /** kvHeads * headDim. */
  readonly cols: number
  readonly keys: Float32Array
  readonly values: Float32Array
}

const caches = new WeakSet<KeyValueCache>()

/** An empty cache. */
export function openKernelCache(
  sequences: number,
  capacity: number,
  { kvHeads, headDim }: AttentionShape,
): KeyValueCache {
  return newCache(sequences, capacity, kvHeads * headDim)
}

function newCache(sequences: number, capacity: number, cols: number): KernelCache {
  const { allocate, release } = forwardKernels()
  const keys = allocate(sequences * capacity * cols)
  try {
    const values = allocate(keys.length)
    const cache: KernelCache = { sequences, capacity, positions: 0, cols, keys, values }
    caches.add(cache)
    return cache
  } catch (error) {
    release(keys)
    throw error
  }
}

/** See `Ops.copyCache`. */
export function copyKernelCache(cache: KeyValueCache, positions: number, capacity: number): KeyValueCache {
  if (!isKernelCache(cache) || positions > cache.positions || positions > capacity) {
    throw new ShapeError(
      `${positions} positions cannot be copied into a cache of ${capacity} from one with ${cache.positions}` +
        `${isKernelCache(cache) ? '' : ', which is closed'}`,
    )
  }
  const { sequences, cols } = cache
  const copy = newCache(sequences, capacity, cols)
  for (let sequence = 0; sequence < sequences; sequence++) {
    const from = sequence * cache.capacity * cols
    const to = sequence * capacity * cols
    copy.keys.set(cache.keys.subarray(from, from + positions * cols), to)
    copy.values.set(cache.values.subarray(from, from + positions * cols), to)
  }
  copy.positions = positions
  return copy
}

/** Gives back a cache's memory. */
export function closeKernelCache(cache: KeyValueCache): void {
  if (!isKernelCache(cache)) return
  caches.delete(cache)
  forwardKernels().release(cache.keys)
  forwardKernels().release(cache.values)
}

function isKernelCache(cache: KeyValueCache): cache is KernelCache {
  return caches.has(cache)
}

/** See `Ops.attend`. */
export function attendRows(
  queries: KernelRows,
  keys: KernelRows,
  values: KernelRows,
  { sequences, length }: TokenRows,
  shape: AttentionShape,
  cache?: KeyValueCache,
): KernelRows {
  const output = newRows(queries.rows, queries.cols)
  const task = { ...shape, sequences, length, queries: queries.data, output: output.data }
  if (cache === undefined) {
    const own = { keys: keys.data, values: values.data }
    forwardKernels().attend({ ...task, ...own, position: 0, capacity: length })
    return output
  }
  const held = requireRoom(cache, sequences, length)
  const position = held.positions
  store(held.keys, keys, held, length)
  store(held.values, values, held, length)
  held.positions = position + length
  const all = { keys: held.keys, values: held.values }
  forwardKernels().attend({ ...task, ...all, position, capacity: held.capacity })
  return output
}

function requireRoom(cache: KeyValueCache, sequences: number, length: number): KernelCache {
  if (isKernelCache(cache) && cache.sequences === sequences && cache.positions + length <= cache.capacity) {
    return cache
  }
  throw new ShapeError(
    `${sequences} sequences of ${length} more tokens do not fit the cache of ${cache.sequences} sequences, with ` +
      `${cache.positions} of ${cache.capacity} positions taken${isKernelCache(cache) ? '' : ', which is closed'}`,
  )
}

function store(
  target: Float32Array,
  { data, cols }: KernelRows,
  { sequences, capacity, positions }: KeyValueCache,
  length: number,
): void {
  for (let sequence = 0; sequence < sequences; sequence++) {
    const start = sequence * length * cols
    target.set(data.subarray(start, start + length * cols), (sequence * capacity + positions) * cols)
  }
}
