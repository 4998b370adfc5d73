/** Bits of a stored scale. */
export const SCALE_BITS = 4
/** Bits of the ratio that a layer's scales share. */
export const RATIO_BITS = 32

/** Scales that a block can have. */
export const SCALE_LEVELS = 2 ** SCALE_BITS

/** Weights that may share a scale. */
export const scaleBlockSizes = [16, 32, 64, 128] as const

/** How many consecutive weights of a row share a scale: 16, 32, 64 or 128. */
export type ScaleBlockSize = (typeof scaleBlockSizes)[number]

/** Scales on a logarithmic grid, one per block of a row (van Baalen et al. 2024, section 3.3). */
export interface BlockScales {
  /** rows x blocksPerRow, each less than 16. */
  readonly codes: Uint8Array
  /** The next smaller scale divided by a scale, a float32 between 0 and 1. */
  readonly ratio: number
}

/**
 * The scale of each code: 1 for code 0, each further one `float32(scale before * ratio)`. Repeated multiplication, not
 * a power, so that every reader gets the same bits.
 */
export function scaleLevels(ratio: number): Float32Array {
  const levels = new Float32Array(SCALE_LEVELS).fill(1)
  for (let code = 1; code < SCALE_LEVELS; code++) levels[code] = levels[code - 1] * ratio
  return levels
}

/** The scales of all blocks, rows x blocksPerRow. */
export function decodeScales({ codes, ratio }: BlockScales): Float32Array {
  const levels = scaleLevels(ratio)
  const scales = new Float32Array(codes.length)
  for (let i = 0; i < codes.length; i++) scales[i] = levels[codes[i]]
  return scales
}

/**
 * Multiplies the values from `start` to `end` by scales, in place.
 *
 * @param start where a block starts
 * @param scales of blocks, the first of them `scales[block]`
 */
export function multiplyByScales(
  values: Float32Array,
  start: number,
  end: number,
  scales: Float32Array,
  block: number,
  blockSize: number,
): void {
  for (let at = start, next = block; at < end; next++) {
    const scale = scales[next]
    const blockEnd = Math.min(at + blockSize, end)
    for (; at < blockEnd; at++) values[at] *= scale
  }
}
