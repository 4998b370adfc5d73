import type { RotaryTables } from '../ops/ops.js'
import type { RotaryDescription } from './description.js'

/**
 * The angle per position of each of the `dims / 2` pairs, in radians, and what cosines and sines are multiplied by.
 *
 * @param length of the sequence in tokens; matters for dynamic and longrope scaling only
 */
export function rotaryFrequencies(
  rotary: RotaryDescription,
  length: number,
): { frequencies: Float64Array; attentionFactor: number } {
  const { dims, theta, scaling } = rotary
  const plain = (base: number) =>
    Float64Array.from({ length: dims / 2 }, (_, pair) => base ** ((-2 * pair) / dims))
  switch (scaling.kind) {
    case 'default':
      return { frequencies: plain(theta), attentionFactor: 1 }
    case 'linear':
      return { frequencies: plain(theta).map((one) => one / scaling.factor), attentionFactor: 1 }
    case 'dynamic': {
      const stretch = Math.max(length, scaling.originalMaxPositions) / scaling.originalMaxPositions
      const base = theta * (scaling.factor * stretch - (scaling.factor - 1)) ** (dims / (dims - 2))
      return { frequencies: plain(base), attentionFactor: 1 }
    }
    case 'llama3': {
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling
      const frequencies = plain(theta).map((frequency) => {
        // turns of this pair over the original context: few turns are stretched, many are kept, a ramp in between
        const turns = (originalMaxPositions * frequency) / (2 * Math.PI)
        const kept = between01((turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor))
        return kept * frequency + ((1 - kept) * frequency) / factor
      })
      return { frequencies, attentionFactor: 1 }
    }
    case 'yarn': {
      const { factor, attentionFactor } = scaling
      const [low, high] = yarnRamp(dims, theta, scaling)
      const frequencies = plain(theta).map((frequency, pair) => {
        const stretched = between01((pair - low) / (high - low))
        return (1 - stretched) * frequency + (stretched * frequency) / factor
      })
      return { frequencies, attentionFactor }
    }
    case 'longrope': {
      const { shortFactors, longFactors, originalMaxPositions, attentionFactor } = scaling
      const factors = length > originalMaxPositions ? longFactors : shortFactors
      return { frequencies: plain(theta).map((one, pair) => one / factors[pair]), attentionFactor }
    }
  }
}

/** The pairs at which the ramp from kept to stretched frequencies begins and ends. */
function yarnRamp(
  dims: number,
  theta: number,
  scaling: Extract<RotaryDescription['scaling'], { kind: 'yarn' }>,
): [low: number, high: number] {
  // the pair that makes so many turns over the original context
  const pairOf = (turns: number) =>
    (dims * Math.log(scaling.originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta))
  const first = pairOf(scaling.betaFast)
  const last = pairOf(scaling.betaSlow)
  const low = Math.max(scaling.truncate ? Math.floor(first) : first, 0)
  const high = Math.min(scaling.truncate ? Math.ceil(last) : last, dims - 1)
  return [low, low === high ? high + 0.001 : high]
}

function between01(x: number): number {
  return Math.min(1, Math.max(0, x))
}

interface KnownTables {
  readonly tables: RotaryTables
  readonly positions: number
}

/** Tables by description, and of a description by {@link lengthClass}. */
const known = new WeakMap<RotaryDescription, Map<number, KnownTables>>()

/** Sequences of the same class share their frequencies. */
export function lengthClass({ scaling }: RotaryDescription, length: number): number {
  if (scaling.kind === 'dynamic') return Math.max(length, scaling.originalMaxPositions)
  return scaling.kind === 'longrope' && length > scaling.originalMaxPositions ? 1 : 0
}

/**
 * Cosines and sines for the positions 0 to `positions - 1`, multiplied by the attention factor; remembered as long as
 * `rotary` lives. There may be more rows than asked for.
 *
 * With dynamic and longrope scaling the angles depend on the length of the sequence, which is taken to be `positions`:
 * a sequence that outgrows the original length has other angles from then on, at all its positions. Keys that lie in a
 * cache keep the angles they were stored with: who wants those of one pass over the whole runs it anew at that length.
 */
export function rotaryTables(rotary: RotaryDescription, positions: number): RotaryTables {
  const classes = known.get(rotary) ?? new Map<number, KnownTables>()
  known.set(rotary, classes)
  const kind = lengthClass(rotary, positions)
  const found = classes.get(kind)
  if (found !== undefined && found.positions >= positions) return found.tables
  // room for a sequence to grow, so that its next token needs no new tables
  const rows = 2 ** Math.ceil(Math.log2(Math.max(positions, FEWEST_ROWS)))
  const tables = makeTables(rotary, positions, rows)
  // a growing sequence with dynamic scaling has a class at every step: only the last is worth its memory
  if (rotary.scaling.kind === 'dynamic') classes.clear()
  classes.set(kind, { tables, positions: rows })
  return tables
}

const FEWEST_ROWS = 64

function makeTables(rotary: RotaryDescription, length: number, positions: number): RotaryTables {
  const { frequencies, attentionFactor } = rotaryFrequencies(rotary, length)
  const { dims } = rotary
  const half = dims / 2
  const cos = new Float32Array(positions * dims)
  const sin = new Float32Array(positions * dims)
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < half; pair++) {
      const at = position * dims + pair
      cos[at] = cos[at + half] = Math.cos(position * frequencies[pair]) * attentionFactor
      sin[at] = sin[at + half] = Math.sin(position * frequencies[pair]) * attentionFactor
    }
  }
  return { dims, cos, sin }
}
