import { type StopSignal, signalExitCodes } from '../errors.js'

/** The part of `process` that signals come through. */
export interface SignalSource {
  on(signal: StopSignal, listener: (signal: StopSignal) => void): unknown
  removeListener(signal: StopSignal, listener: (signal: StopSignal) => void): unknown
}

/** Launchers such as npx pass on a Ctrl-C that the terminal has sent already: within this time it is one and the same. */
const sameSignalMs = 500

/**
 * Turns SIGINT, SIGTERM and SIGHUP into an abort whose reason is the signal's name. After the first, the signals go
 * back to what the system does with them: the next one ends the process at once.
 */
export function abortOnSignals(source: SignalSource): { readonly signal: AbortSignal; release(): void } {
  const controller = new AbortController()
  const signals = Object.keys(signalExitCodes) as StopSignal[]
  const release = () => {
    for (const signal of signals) source.removeListener(signal, stop)
  }
  const stop = (signal: StopSignal) => {
    if (controller.signal.aborted) return
    controller.abort(signal)
    setTimeout(release, sameSignalMs).unref()
  }
  for (const signal of signals) source.on(signal, stop)
  return { signal: controller.signal, release }
}
