import { safeMessage } from './safe-text.js'

/**
 * Errors that a caller can tell apart by class or by `code`. Every message names the thing (option, tensor, file),
 * what was found, what was expected and what to do; what it quotes of files is made safe to show and cut where it is long.
 */
export class GptvqError extends Error {
  /** Stable name of the kind of failure, e.g. `'OPTION'`. */
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(safeMessage(message), options)
    this.code = code
    this.name = new.target.name
  }
}

/** An option has a value that cannot work. `option` is its name in the library's vocabulary, e.g. `'groupSize'`. */
export class OptionError extends GptvqError {
  /** Name of the option, e.g. `'groupSize'`. */
  readonly option: string

  constructor(option: string, message: string) {
    super('OPTION', `${option}: ${message}`)
    this.option = option
  }
}

/** Two arrays do not fit together, or a shape is impossible. */
export class ShapeError extends GptvqError {
  constructor(message: string, options?: ErrorOptions) {
    super('SHAPE', message, options)
  }
}

/** NaN or infinity in the input, or a matrix that is not positive definite. */
export class NumericError extends GptvqError {
  constructor(message: string) {
    super('NUMERIC', message)
  }
}

/** A checkpoint's files are missing, damaged or contradict each other. */
export class CheckpointError extends GptvqError {
  constructor(message: string, options?: ErrorOptions) {
    super('CHECKPOINT', message, options)
  }
}

/** The model, its tokenizer or an engine is of a kind that is not supported. */
export class UnsupportedError extends GptvqError {
  constructor(message: string, options?: ErrorOptions) {
    super('UNSUPPORTED', message, options)
  }
}

/** Text or token ids that cannot be used, e.g. too short for one calibration sequence. */
export class TextError extends GptvqError {
  constructor(message: string, options?: ErrorOptions) {
    super('TEXT', message, options)
  }
}

/**
 * The caller's `AbortSignal` fired. Its `name` is `'AbortError'`, as that of the platform's own. Where the work would
 * have written something, the message says that nothing was.
 */
export class AbortedError extends GptvqError {
  /** What the signal was aborted with: `signal.reason`. */
  readonly reason: unknown

  constructor(message = 'stopped by the caller before it was done', reason?: unknown) {
    super('ABORTED', message, reason === undefined ? undefined : { cause: reason })
    this.name = 'AbortError'
    this.reason = reason
  }
}

/** Throws {@link AbortedError} when `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortedError(undefined, signal.reason)
}

/** Runs what leaves nothing behind when it is stopped, and has the error say so. */
export async function orNothingWritten<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof AbortedError) || error.message.includes('; ')) throw error
    throw new AbortedError(`${error.message}; nothing was written`, error.reason)
  }
}
