/** Merges that wait, the one of the lowest rank first, of equal ones the leftmost. */
export interface MergeQueue {
  push(rank: number, position: number): void
  /** Takes out the first; false when there is none. */
  pop(): boolean
  /** Of the merge that was taken out last. */
  readonly rank: number
  readonly position: number
}

/** How many positions there are. Rank and position are one number, which a float holds exactly. */
export const positions = 2 ** 26

export function createMergeQueue(): MergeQueue {
  const heap: number[] = []
  let first = 0
  return {
    push: (rank, position) => {
      let at = heap.push(rank * positions + position) - 1
      const key = heap[at]
      while (at > 0) {
        const parent = (at - 1) >> 1
        if (heap[parent] <= key) break
        heap[at] = heap[parent]
        at = parent
      }
      heap[at] = key
    },
    pop: () => {
      if (heap.length === 0) return false
      first = heap[0]
      const key = heap.pop()!
      let at = 0
      for (let child = 1; child < heap.length; child = 2 * at + 1) {
        if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++
        if (key <= heap[child]) break
        heap[at] = heap[child]
        at = child
      }
      if (heap.length > 0) heap[at] = key
      return true
    },
    get rank() {
      return Math.floor(first / positions)
    },
    get position() {
      return first % positions
    },
  }
}
