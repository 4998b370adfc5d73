import type { Block, ProductForm } from '../contract.js'
import type { AttentionTask, ForwardKernels } from '../forward-contract.js'

/** Operands and result of products of one shape; those in one place of the triples have one stride. */
export type ProductBlocks = readonly (readonly [a: Block, b: Block, c: Block])[]

/** `C = alpha A B` of all blocks. */
export type MultiplyAll = (
  form: ProductForm,
  m: number,
  n: number,
  k: number,
  alpha: number,
  blocks: ProductBlocks,
) => void

/**
 * Queries of a tile, which all have the scores of its last one computed. In a sequence of fewer, what products gain is lost on
 * scores that nothing sees.
 */
const TILE_QUERIES = 256
/** Bytes of scores at a time, about: threads are woken three times for them, which takes longer than a cache that they leave. */
const SCORE_BYTES = 2 ** 25

/**
 * Attention by the products of a library, of many queries over keys and values in float32; of others by `kernels`. A value
 * that is not finite may reach all queries of a tile, as 0 times that value.
 */
export function libraryAttention(
  multiplyAll: MultiplyAll,
  kernels: ForwardKernels,
): ForwardKernels['attend'] {
  return (task) => {
    const { keys, values, length } = task
    if (length < TILE_QUERIES || 'codes' in keys || 'codes' in values) return kernels.attend(task)
    const most = Math.min(task.position + length, (task.window ?? Number.POSITIVE_INFINITY) + TILE_QUERIES)
    const heads = Math.max(1, Math.min(task.heads, Math.floor(SCORE_BYTES / (4 * TILE_QUERIES * most))))
    const scores = kernels.allocate(heads * TILE_QUERIES * wholeVectors(most))
    try {
      for (let sequence = 0; sequence < task.sequences; sequence++) {
        for (let first = 0; first < length; first += TILE_QUERIES) {
          for (let head = 0; head < task.heads; head += heads) {
            const last = Math.min(first + TILE_QUERIES, length)
            const headCount = Math.min(heads, task.heads - head)
            attendTile({ ...task, keys, values }, { sequence, first, last, head, headCount, scores })
          }
        }
      }
    } finally {
      kernels.release(scores)
    }
  }

  function attendTile(
    task: AttentionTask & { readonly keys: Float32Array; readonly values: Float32Array },
    { sequence, first, last, head, headCount, scores: room }: Tile,
  ): void {
    const { length, position, capacity, heads, kvHeads, headDim, window, softCap } = task
    const queries = last - first
    const firstKey = window === undefined ? 0 : Math.max(0, position + first - window + 1)
    const keys = position + last - firstKey
    const stride = wholeVectors(keys)
    const scores = room.subarray(0, headCount * queries * stride)
    const ofHead = (data: Float32Array, i: number) => {
      const offset = ((sequence * length + first) * heads + head + i) * headDim
      return { data, offset, stride: heads * headDim }
    }
    const ofKeys = (data: Float32Array, i: number) => {
      const kvHead = Math.floor(((head + i) * kvHeads) / heads)
      const offset = ((sequence * capacity + firstKey) * kvHeads + kvHead) * headDim
      return { data, offset, stride: kvHeads * headDim }
    }
    const ofScores = (i: number) => ({ data: scores, offset: i * queries * stride, stride })
    const all = Array.from({ length: headCount }, (_, i) => i)
    const products = all.map((i) => [ofHead(task.queries, i), ofKeys(task.keys, i), ofScores(i)] as const)
    multiplyAll('ABt', queries, keys, headDim, task.scale, products)
    const own = position + first - firstKey
    const rows = headCount * queries
    kernels.shareAttention({ scores, rows, stride, queries, own, window, softCap })
    const outputs = all.map((i) => [ofScores(i), ofKeys(task.values, i), ofHead(task.output, i)] as const)
    multiplyAll('AB', queries, headDim, keys, 1, outputs)
  }
}

const wholeVectors = (count: number) => 4 * Math.ceil(count / 4)

/** Queries of some heads of a sequence. */
interface Tile {
  readonly sequence: number
  readonly first: number
  readonly last: number
  readonly head: number
  readonly headCount: number
  /** Room for their scores. */
  readonly scores: Float32Array
}
