/** What came of some text. */
export interface StopCheck {
  /** Text that is no part of a stop string and in front of none. */
  readonly text: string
  /** Whether a stop string is complete. */
  readonly stopped: boolean
}

/** Watches text for stop strings. */
export interface StopWatch {
  /** Adds text; what may begin a stop string is held back. */
  push(text: string): StopCheck
  /** The text held back, when no more follows. */
  end(): string
}

/** Watches for the first of several strings; where two are complete at once, for that which begins first. */
export function createStopWatch(stops: readonly string[]): StopWatch {
  let held = ''
  return {
    push(text) {
      held += text
      const found = stops.map((stop) => held.indexOf(stop)).filter((at) => at >= 0)
      if (found.length > 0) {
        const before = held.slice(0, Math.min(...found))
        held = ''
        return { text: before, stopped: true }
      }
      const safe = held.length - Math.max(0, ...stops.map((stop) => overlap(held, stop)))
      const certain = held.slice(0, safe)
      held = held.slice(safe)
      return { text: certain, stopped: false }
    },
    end() {
      const rest = held
      held = ''
      return rest
    },
  }
}

/** The length of the longest end of `text` that `stop` begins with. */
function overlap(text: string, stop: string): number {
  let length = Math.min(text.length, stop.length - 1)
  while (length > 0 && !text.endsWith(stop.slice(0, length))) length--
  return length
}
