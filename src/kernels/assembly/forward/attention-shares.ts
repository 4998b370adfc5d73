import { capScores } from './attention'
import { param } from '../job'
import { weighVectors } from './softmax'

/**
 * Scores of attention become the shares that the values have in the output, in place: see `ForwardKernels`. For products that
 * are done elsewhere.
 *
 * Parameters: address of the scores; rows, floats of a row (whole vectors of 4), queries of a head, place of the first query
 * among the keys, window, rows of a tile; the cap of scores (0: none).
 */
export function shareAttentionTile(tile: i32): void {
  const rowBytes = <usize>param<i32>(2) << 2
  const queries = param<i32>(3)
  const perTile = param<i32>(6)
  const first = tile * perTile
  const last = min(first + perTile, param<i32>(1))
  for (let row = first; row < last; row++) {
    const own = param<i32>(4) + (row % queries)
    const from = <usize>max(0, own - param<i32>(5) + 1) << 2
    const to = <usize>(own + 1) << 2
    const scores = param<usize>(0) + <usize>row * rowBytes
    const start = from & ~15
    const end = (to + 15) & ~15
    memory.fill(scores, 0, start)
    memory.fill(scores + end, 0, rowBytes - end)
    shareRow(scores + start, scores + end, scores + from, scores + to)
  }
}

/** Of whole vectors; what is before `from` and from `to` on is not seen. */
function shareRow(start: usize, end: usize, from: usize, to: usize): void {
  const cap = param<f32>(7)
  if (cap != 0) capScores(start, end, cap)
  for (let at = start; at < from; at += 4) store<f32>(at, -Infinity)
  for (let at = to; at < end; at += 4) store<f32>(at, -Infinity)
  const factor = f32x4.div(f32x4.splat(1), weighVectors(start, end))
  for (let at = start; at < end; at += 16) v128.store(at, f32x4.mul(factor, v128.load(at)))
}
