import { TextError } from '../../common/errors.js'
import { randomGenerator } from '../../common/random.js'

/** Which of the sequences train, and which are held out; numbers of sequences, rising. */
export interface Split {
  readonly training: readonly number[]
  readonly heldOut: readonly number[]
}

/**
 * Holds out sequences that lie evenly among all of them: `share` of them, at least one.
 *
 * @throws TextError when there are fewer than two sequences, or they differ in length
 */
export function splitSequences(sequences: readonly Int32Array[], share: number): Split {
  const lengths = [...new Set(sequences.map(({ length }) => length))]
  if (sequences.length < 2 || lengths.length > 1 || lengths[0] < 1) {
    throw new TextError(
      `training got ${sequences.length} sequences of ${lengths.join(', ') || 'no'} tokens; expected at least two ` +
        '(one is held out), all of one length. Give more text',
    )
  }
  const count = sequences.length
  const held = Math.min(count - 1, Math.max(1, Math.round(share * count)))
  const heldOut = Array.from({ length: held }, (_, i) => Math.floor(((i + 0.5) * count) / held))
  const isHeld = new Set(heldOut)
  return { training: [...sequences.keys()].filter((i) => !isHeld.has(i)), heldOut }
}

/** `count` of the items, evenly spaced. */
export function evenly<T>(items: readonly T[], count: number): T[] {
  const most = Math.min(count, items.length)
  return Array.from({ length: most }, (_, i) => items[Math.floor(((i + 0.5) * items.length) / most)])
}

/** The items in random order, cut into batches of `size`; the last may be smaller. */
export function shuffledBatches(items: readonly number[], size: number, seed: number): number[][] {
  const random = randomGenerator(seed)
  const order = items.slice()
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const swapped = order[i]
    order[i] = order[j]
    order[j] = swapped
  }
  return Array.from({ length: Math.ceil(order.length / size) }, (_, i) =>
    order.slice(i * size, (i + 1) * size),
  )
}
