import {
  AbortedError,
  CheckpointError,
  GptvqError,
  NumericError,
  OptionError,
  ShapeError,
  TextError,
  UnsupportedError,
} from '../common/errors.js'
import type { JobResult } from './protocol.js'

const classes = {
  SHAPE: ShapeError,
  NUMERIC: NumericError,
  CHECKPOINT: CheckpointError,
  UNSUPPORTED: UnsupportedError,
  TEXT: TextError,
  ABORTED: AbortedError,
} as const

/** An error of this package as a job's result; undefined for others, which another machine may not meet. */
export function packError(error: unknown): Extract<JobResult, { status: 'error' }> | undefined {
  if (!(error instanceof GptvqError)) return undefined
  const { code, message } = error
  if (!(error instanceof OptionError)) return { status: 'error', code, message }
  const { option } = error
  return { status: 'error', code, message: message.slice(option.length + 2), option }
}

/** The same error where it is thrown again. */
export function unpackError({ code, message, option }: Extract<JobResult, { status: 'error' }>): Error {
  if (option !== undefined) return new OptionError(option, message)
  const Class = classes[code as keyof typeof classes]
  return Class === undefined ? new Error(message) : new Class(message)
}
