/**
 * Errors that a caller can tell apart by class or by `code`. Every message names the thing (option, tensor, file),
 * what was found, what was expected and what to do.
 */
export class GptvqError extends Error {
  /** Stable name of the kind of failure, e.g. `'OPTION'`. */
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
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
  constructor(message: string) {
    super('SHAPE', message)
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

/** The caller's `AbortSignal` fired. Nothing was written. */
export class AbortedError extends GptvqError {
  constructor(message = 'stopped by the caller before it was done; nothing was written') {
    super('ABORTED', message)
  }
}

/** Throws {@link AbortedError} when `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortedError()
}
