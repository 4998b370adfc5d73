import { ShapeError } from '../../../common/errors.js'
import { forwardKernels } from '../../../kernels/forward-kernels.js'
import type { AttentionShape, CachePrecision, KeyValueCache, TokenRows } from '../ops.js'
import { allocateRows, type CachedRows, copyRuns, releaseRows, storeRuns } from './held-rows.js'
import { type KernelRows, newRows } from './kernel-scope.js'

/** Keys and values, each sequences x capacity x (kvHeads * headDim). */
interface KernelCache extends KeyValueCache {
  readonly kvHeads: number
  readonly headDim: number
  readonly precision: CachePrecision
  readonly keys: CachedRows
  readonly values: CachedRows
}

const caches = new WeakSet<KeyValueCache>()

/** An empty cache. */
export function openKernelCache(
  sequences: number,
  capacity: number,
  { kvHeads, headDim }: Pick<AttentionShape, 'kvHeads' | 'headDim'>,
  precision: CachePrecision = 'float32',
): KernelCache {
  const allocate = () => allocateRows(sequences * capacity * kvHeads, headDim, precision)
  const keys = allocate()
  try {
    const values = allocate()
    const cache = { sequences, capacity, positions: 0, kvHeads, headDim, precision, keys, values }
    caches.add(cache)
    return cache
  } catch (error) {
    releaseRows(keys)
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
  const { sequences, kvHeads, headDim } = cache
  const copy = openKernelCache(sequences, capacity, cache, cache.precision)
  for (let sequence = 0; sequence < sequences; sequence++) {
    const from = sequence * cache.capacity * kvHeads
    const to = sequence * capacity * kvHeads
    copyRuns(cache.keys, from, positions * kvHeads, headDim, copy.keys, to)
    copyRuns(cache.values, from, positions * kvHeads, headDim, copy.values, to)
  }
  copy.positions = positions
  return copy
}

/** Gives back a cache's memory. */
export function closeKernelCache(cache: KeyValueCache): void {
  if (!isKernelCache(cache)) return
  caches.delete(cache)
  releaseRows(cache.keys)
  releaseRows(cache.values)
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

function store(target: CachedRows, { data, cols }: KernelRows, cache: KernelCache, length: number): void {
  const { sequences, capacity, positions, kvHeads, headDim } = cache
  for (let sequence = 0; sequence < sequences; sequence++) {
    const start = sequence * length * cols
    const own = data.subarray(start, start + length * cols)
    storeRuns(own, headDim, target, (sequence * capacity + positions) * kvHeads)
  }
}
