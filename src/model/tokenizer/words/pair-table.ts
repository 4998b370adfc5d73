/** A map from pairs of token ids to whole numbers; a JavaScript Map would want a string or a large number for a pair. */
export interface PairTable {
  /** The number of a pair, or -1. */
  get(left: number, right: number): number
  /** Sets it, in place of the one before. */
  set(left: number, right: number, value: number): void
}

/** @param most how many pairs there can be */
export function createPairTable(most: number): PairTable {
  let size = 16
  while (size < 2 * most) size *= 2
  const lefts = new Int32Array(size).fill(-1)
  const rights = new Int32Array(size)
  const values = new Int32Array(size)
  const slot = (left: number, right: number): number => {
    const hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b)
    let at = (hash ^ (hash >>> 15)) & (size - 1)
    while (lefts[at] >= 0 && (lefts[at] !== left || rights[at] !== right)) at = (at + 1) & (size - 1)
    return at
  }
  return {
    get: (left, right) => {
      const at = slot(left, right)
      return lefts[at] < 0 ? -1 : values[at]
    },
    set: (left, right, value) => {
      const at = slot(left, right)
      lefts[at] = left
      rights[at] = right
      values[at] = value
    },
  }
}
