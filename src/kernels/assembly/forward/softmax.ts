import { exponentialUpTo88 } from './exponential'

/**
 * Scores become `exp(score - the largest)`, along the lanes of whole vectors; what is not seen is minus infinity before and 0
 * behind. Returns the sum in all lanes.
 */
export function weighVectors(scores: usize, end: usize): v128 {
  let most = v128.load(scores)
  for (let at = scores + 16; at < end; at += 16) most = f32x4.max(most, v128.load(at))
  most = f32x4.max(most, v128.shuffle<f32>(most, most, 2, 3, 0, 1))
  most = f32x4.max(most, v128.shuffle<f32>(most, most, 1, 0, 3, 2))
  let sums = f32x4.splat(0)
  for (let at = scores; at < end; at += 16) {
    const weights = exponentialUpTo88(f32x4.sub(v128.load(at), most))
    v128.store(at, weights)
    sums = f32x4.add(sums, weights)
  }
  sums = f32x4.add(sums, v128.shuffle<f32>(sums, sums, 2, 3, 0, 1))
  return f32x4.add(sums, v128.shuffle<f32>(sums, sums, 1, 0, 3, 2))
}
