import type { ForwardKernels, HeldRows } from '../../forward-contract.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import type { ResidentArrays } from '../runtime/resident.js'
import { withCopies } from '../runtime/stage.js'

/** Queries of a tile of attention: the fewer, the more often a head's keys are packed. */
const TILE_QUERIES = 256
/** Up to so many queries of a sequence it takes longer to pack keys and values than to read them for each query. */
const FEW_QUERIES = 4
/** Values of the tokens of a tile of turns, or of the rows of a tile of scores, about. */
const TILE_VALUES = 2 ** 14
/** As in `assembly/forward/attention.ts`. */
const STRIP = 8
/** As in `assembly/forward/held-rows.ts`. */
const ROWS_AT_ONCE = 64

/** Attention and rotary turns, on arrays in the kernels' memory. */
export function attentionKernels(
  pool: Pool,
  { addressOf }: ResidentArrays,
): Pick<ForwardKernels, 'attend' | 'shareAttention' | 'rotate'> {
  const { heap } = pool.runtime
  return {
    attend({ sequences, length, position, capacity, heads, kvHeads, headDim, scale, softCap, ...task }) {
      const held = [task.keys, task.values]
      const arrays = [task.queries, ...held.map(valuesOf), task.output].map(addressOf)
      const scales = held.map((rows) => ('scales' in rows ? addressOf(rows.scales) : 0))
      const keys = position + length
      const seen = Math.min(task.window ?? keys, keys)
      const sizes = [length, position, capacity, heads, kvHeads, headDim, seen]
      const rest = [{ f32: scale }, { f32: softCap ?? 0 }, ...scales]
      if (length <= FEW_QUERIES) {
        const scratch = directScratch(heads / kvHeads, seen, headDim)
        const tiles = sequences * kvHeads * length
        runJob(pool, jobKinds.attendDirect, tiles, [...arrays, ...sizes, 1, ...rest], scratch)
        return
      }
      const perTile = Math.min(TILE_QUERIES, length)
      const tiles = sequences * kvHeads * Math.ceil(length / perTile)
      const scratch = tileScratch(Math.min(keys, seen + perTile), headDim)
      runJob(pool, jobKinds.attend, tiles, [...arrays, ...sizes, perTile, ...rest], scratch)
    },

    shareAttention({ scores, rows, stride, queries, own, window, softCap }) {
      const perTile = Math.max(1, Math.floor(TILE_VALUES / stride))
      const sizes = [rows, stride, queries, own, Math.min(window ?? stride, stride), perTile]
      const params = [addressOf(scores), ...sizes, { f32: softCap ?? 0 }]
      runJob(pool, jobKinds.shareAttention, Math.ceil(rows / perTile), params, 0)
    },

    rotate({ sequences, length, position, heads, headDim, dims, cos, sin, x, y }) {
      const tables = [cos, sin].map((table) => table.subarray(position * dims, (position + length) * dims))
      const tokens = sequences * length
      const perTile = Math.max(1, Math.floor(TILE_VALUES / (heads * headDim)))
      withCopies(heap, tables, (...angles) => {
        const sizes = [tokens, length, heads, headDim, dims, perTile]
        const params = [addressOf(x), addressOf(y), ...angles, ...sizes]
        runJob(pool, jobKinds.rotate, Math.ceil(tokens / perTile), params, 0)
      })
    },
  }
}

const valuesOf = (rows: HeldRows) => ('codes' in rows ? rows.codes : rows)

/** Bytes of scratch of a thread: the layout in `assembly/forward/attention.ts`. */
function tileScratch(keys: number, headDim: number): number {
  const [n, d] = [keys, headDim].map(wholeVectors)
  return 4 * (STRIP * (2 * d + 1 + n) + (2 * n + ROWS_AT_ONCE) * d)
}

/** The same for `assembly/forward/attention-direct.ts`. */
function directScratch(group: number, keys: number, headDim: number): number {
  const d = wholeVectors(headDim)
  return 4 * (group * (d + wholeVectors(keys) + 4) + ROWS_AT_ONCE * d)
}

const wholeVectors = (count: number) => 4 * Math.ceil(count / 4)
