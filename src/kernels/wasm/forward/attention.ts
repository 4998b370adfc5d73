import type { ForwardKernels } from '../../forward-contract.js'
import { jobKinds } from '../runtime/job.js'
import { type Pool, runJob } from '../runtime/pool.js'
import type { ResidentArrays } from '../runtime/resident.js'
import { withCopies } from '../runtime/stage.js'

/** Queries of a tile of attention: the fewer, the more often a head's keys are packed. */
const TILE_QUERIES = 256
/** Up to so many queries of a sequence it takes longer to pack keys and values than to read them for each query. */
const FEW_QUERIES = 4
/** Values of the tokens of a tile of turns, about. */
const TILE_VALUES = 2 ** 14
/** As in `assembly/attention.ts`. */
const STRIP = 8

/** Attention and rotary turns, on arrays in the kernels' memory. */
export function attentionKernels(
  pool: Pool,
  { addressOf }: ResidentArrays,
): Pick<ForwardKernels, 'attend' | 'rotate'> {
  const { heap } = pool.runtime
  return {
    attend({ sequences, length, position, capacity, heads, kvHeads, headDim, scale, softCap, ...task }) {
      const arrays = [task.queries, task.keys, task.values, task.output].map(addressOf)
      const keys = position + length
      const seen = Math.min(task.window ?? keys, keys)
      const sizes = [length, position, capacity, heads, kvHeads, headDim, seen]
      const factors = [{ f32: scale }, { f32: softCap ?? 0 }]
      if (length <= FEW_QUERIES) {
        const scratch = directScratch(heads / kvHeads, seen, headDim)
        runJob(
          pool,
          jobKinds.attendDirect,
          sequences * kvHeads * length,
          [...arrays, ...sizes, 1, ...factors],
          scratch,
        )
        return
      }
      const perTile = Math.min(TILE_QUERIES, length)
      const tiles = sequences * kvHeads * Math.ceil(length / perTile)
      const scratch = tileScratch(Math.min(keys, seen + perTile), headDim)
      runJob(pool, jobKinds.attend, tiles, [...arrays, ...sizes, perTile, ...factors], scratch)
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

/** Bytes of scratch of a thread: the layout in `assembly/attention.ts`. */
function tileScratch(keys: number, headDim: number): number {
  const [n, d] = [keys, headDim].map(wholeVectors)
  return 4 * (STRIP * (2 * d + 1 + n) + 2 * n * d)
}

/** The same for `assembly/attention-direct.ts`. */
function directScratch(group: number, keys: number, headDim: number): number {
  return 4 * group * (wholeVectors(headDim) + wholeVectors(keys) + 4)
}

const wholeVectors = (count: number) => 4 * Math.ceil(count / 4)
