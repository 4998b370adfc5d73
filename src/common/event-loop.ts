import { throwIfAborted } from './errors.js'

/** Milliseconds of computation after which others are let through. */
const TURN_EVERY = 100

/** Lets timers, signals (Ctrl-C) and other work through during a long computation. */
export function turnOfEventLoop(): Promise<void> {
  // where there is setImmediate it comes a millisecond or more earlier than a timer
  const { setImmediate: soon } = globalThis as { setImmediate?: (run: () => void) => void }
  return new Promise((resolve) => (soon ? soon(resolve) : setTimeout(resolve, 0)))
}

/** To be awaited between the steps of a long computation: see {@link pacer}. */
export type Pause = () => Promise<void>

/**
 * Makes a {@link Pause} that gives the event loop a turn when the last one is a while ago, and throws AbortedError when
 * `signal` has fired. Often enough it returns at once, so it may stand in an inner loop of milliseconds.
 */
export function pacer(signal: AbortSignal | undefined): Pause {
  let last = performance.now()
  return async () => {
    if (performance.now() - last >= TURN_EVERY) {
      await turnOfEventLoop()
      last = performance.now()
    }
    throwIfAborted(signal)
  }
}
