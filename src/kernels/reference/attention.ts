import type { AttentionTask, HeldRows, RotateTask, SharesTask } from '../forward-contract.js'
import { softCapped } from './activation.js'

/** See `ForwardKernels`: every score of every query by itself. */
export function attend(task: AttentionTask): void {
  const { sequences, length, heads } = task
  for (let sequence = 0; sequence < sequences; sequence++) {
    for (let i = 0; i < length; i++) {
      for (let head = 0; head < heads; head++) attendFrom(task, sequence, i, head)
    }
  }
}

/** One head of query `i` of a sequence. */
function attendFrom(task: AttentionTask, sequence: number, i: number, head: number): void {
  const { length, position, capacity, heads, kvHeads, headDim, scale, softCap, window } = task
  const own = position + i
  const first = window === undefined ? 0 : Math.max(0, own + 1 - window)
  const kvHead = Math.floor((head * kvHeads) / heads)
  const at = ((sequence * length + i) * heads + head) * headDim
  const query = task.queries.subarray(at, at + headDim)
  const seenAt = (key: number) => ((sequence * capacity + key) * kvHeads + kvHead) * headDim
  const scores = Float64Array.from({ length: own + 1 - first }, (_, key) => {
    const start = seenAt(first + key)
    let sum = 0
    for (let j = 0; j < headDim; j++) sum += query[j] * heldValue(task.keys, start + j, headDim)
    return softCap === undefined ? scale * sum : softCapped(scale * sum, softCap)
  })
  const shares = softmax(scores)
  for (let j = 0; j < headDim; j++) {
    let sum = 0
    for (const [key, share] of shares.entries()) {
      sum += share * heldValue(task.values, seenAt(first + key) + j, headDim)
    }
    task.output[at + j] = sum
  }
}

function softmax(scores: Float64Array): Float64Array {
  const largest = scores.reduce((most, score) => Math.max(most, score), Number.NEGATIVE_INFINITY)
  const weights = scores.map((score) => Math.exp(score - largest))
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return weights.map((weight) => weight / total)
}

/** See `ForwardKernels`. */
export function shareAttention({ scores, rows, stride, queries, own, window, softCap }: SharesTask): void {
  for (let row = 0; row < rows; row++) {
    const behind = own + (row % queries) + 1
    const first = window === undefined ? 0 : Math.max(0, behind - window)
    const all = scores.subarray(row * stride, (row + 1) * stride)
    const seen = Float64Array.from(all.subarray(first, behind), (score) =>
      softCap === undefined ? score : softCapped(score, softCap),
    )
    all.fill(0)
    all.set(softmax(seen), first)
  }
}

function heldValue(rows: HeldRows, i: number, headDim: number): number {
  return 'codes' in rows ? rows.codes[i] * rows.scales[Math.floor(i / headDim)] : rows[i]
}

/** See `ForwardKernels`. */
export function rotate({
  sequences,
  length,
  position,
  heads,
  headDim,
  dims,
  cos,
  sin,
  x,
  y,
}: RotateTask): void {
  const half = dims / 2
  for (let vector = 0; vector < sequences * length * heads; vector++) {
    const angles = (position + (Math.floor(vector / heads) % length)) * dims
    const start = vector * headDim
    for (let i = 0; i < half; i++) {
      const [low, high] = [x[start + i], x[start + half + i]]
      const [c, s] = [cos[angles + i], sin[angles + i]]
      y[start + i] = low * c - high * s
      y[start + half + i] = high * c + low * s
    }
    for (let i = dims; i < headDim; i++) y[start + i] = x[start + i]
  }
}
