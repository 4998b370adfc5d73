/** Lets timers, signals (Ctrl-C) and other work through during a long computation. */
export function turnOfEventLoop(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0))
}
