import { ShapeError } from '../../../errors.js'
import { forwardKernels } from '../../../kernels/forward-kernels.js'
import type { AttentionShape, KeyValueCache, TokenRows } from '../ops.js'
import { type KernelRows, newRows } from './kernel-scope.js'

/** Keys and values, each sequences x capacity x (kvHeads * headDim). */
interface KernelCache extends KeyValueCache {
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
  const { allocate } = forwardKernels()
  const size = sequences * capacity * kvHeads * headDim
  const cache: KernelCache = {
    sequences,
    capacity,
    positions: 0,
    keys: allocate(size),
    values: allocate(size),
  }
  caches.add(cache)
  return cache
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
