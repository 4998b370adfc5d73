/** Items that come when they come, for one reader. */
export interface ItemQueue<T> {
  push(item: T): void
  /** No further items; reading throws the error where there is one. Later calls change nothing. */
  end(error?: unknown): void
  /** Resolves with the next item, or undefined after the last. */
  next(): Promise<T | undefined>
}

/** An empty queue. */
export function createQueue<T>(): ItemQueue<T> {
  const items: T[] = []
  let ended: { readonly error: unknown } | undefined
  let wake: (() => void) | undefined
  const changed = () => {
    wake?.()
    wake = undefined
  }
  return {
    push(item) {
      items.push(item)
      changed()
    },
    end(error) {
      ended ??= { error }
      changed()
    },
    async next() {
      for (;;) {
        if (items.length > 0) return items.shift()
        if (ended?.error !== undefined) throw ended.error
        if (ended !== undefined) return undefined
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}
