import { requireFields, requireList, requireWhole } from '../../common/check-option.js'
import { OptionError } from '../../common/errors.js'
import { shownValue } from '../../common/shown-value.js'
import { columnGroupsOf, isTrellis, rowGroupsOf, type VqLayer } from '../../packing/vq-layer.js'
import { groupCounts } from './codebook-group.js'

/** How evenly a layer uses its centroids. */
export interface IndexUsage {
  /** k shares that sum to 1: of a group's vectors, the share on its most used centroid first, mean over groups. */
  readonly shares: Float64Array
  /** Bits that the number of a centroid takes. */
  readonly storedBits: number
  /**
   * Bits that it needs: the entropy of these numbers in each group, mean over its vectors. An ideal code would take as
   * many; the room for its tables is not counted. With a trellis most bits of a number are those of the rows above.
   */
  readonly entropyBits: number
  /** Share of the centroids of all groups that no index names. */
  readonly unused: number
  /** Where `true`, an index is a part of the number only: nothing can be saved by an entropy code of these. */
  readonly isTrellis?: boolean
}

/** Counts how often each centroid is used in its group. */
export function indexUsage(layer: VqLayer): IndexUsage {
  requireFields(layer, 'a layer that quantizeLayer gave', [
    'layout',
    'indices',
    'codebooks',
    'codebookScales',
  ])
  const { layout } = layer
  const groups = rowGroupsOf(layout) * columnGroupsOf(layout)
  const usage = usageOfCounts(Array.from({ length: groups }, (_, group) => groupCounts(layer, group)))
  return isTrellis(layout) ? { ...usage, isTrellis: true } : usage
}

/**
 * The same from counts: for each group, how often each of its k centroids is used.
 *
 * @param storedBits bits that an index takes, default `log2(k)` rounded up
 * @throws OptionError when there is no vector, groups differ in k, or a count is not a whole number of at least 0
 */
export function usageOfCounts(groups: readonly ArrayLike<number>[], storedBits?: number): IndexUsage {
  if (!Array.isArray(groups) || groups.some((counts) => typeof counts?.length !== 'number')) {
    throw new OptionError('groups', `expected a list of counts for each group, got ${shownValue(groups)}`)
  }
  const k = groups[0]?.length ?? 0
  const shares = new Float64Array(k)
  let vectors = 0
  let bits = 0
  let unused = 0
  for (const [g, counts] of groups.entries()) {
    if (counts.length !== k) {
      throw new OptionError(
        'groups',
        `group ${g} has ${counts.length} counts, group 0 has ${k}; expected as many`,
      )
    }
    const ordered = Float64Array.from(counts).sort().reverse()
    const total = sumOfCounts(ordered, g)
    vectors += total
    for (const [rank, count] of ordered.entries()) {
      shares[rank] += count
      if (count === 0) unused++
      else bits += count * Math.log2(total / count)
    }
  }
  if (vectors === 0) throw new OptionError('groups', 'hold no vector; expected at least one count above 0')
  for (const [rank, count] of shares.entries()) shares[rank] = count / vectors
  const ownBits = storedBits ?? Math.ceil(Math.log2(k))
  return { shares, storedBits: ownBits, entropyBits: bits / vectors, unused: unused / (groups.length * k) }
}

function sumOfCounts(counts: Float64Array, group: number): number {
  let sum = 0
  for (const count of counts) {
    requireWhole(`groups (group ${group})`, count, 0)
    sum += count
  }
  return sum
}

/**
 * The usage of several layers taken together, each as much as its weight.
 *
 * @throws OptionError when there is none, or the sizes of their codebooks differ
 */
export function meanUsage(usages: readonly IndexUsage[], weights: readonly number[]): IndexUsage {
  requireList('usages', usages)
  const k = usages[0]?.shares.length ?? 0
  const odd = usages.find(({ shares }) => shares.length !== k)
  if (k === 0 || odd !== undefined) {
    throw new OptionError(
      'usages',
      `expected codebooks of one size, got ${k} and ${odd?.shares.length ?? 'none'}`,
    )
  }
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  const mean = (of: (usage: IndexUsage) => number) =>
    usages.reduce((sum, usage, i) => sum + (of(usage) * weights[i]) / total, 0)
  return {
    shares: Float64Array.from({ length: k }, (_, rank) => mean(({ shares }) => shares[rank])),
    storedBits: mean(({ storedBits }) => storedBits),
    entropyBits: mean(({ entropyBits }) => entropyBits),
    unused: mean(({ unused }) => unused),
    ...(usages.some(({ isTrellis }) => isTrellis) && { isTrellis: true }),
  }
}
