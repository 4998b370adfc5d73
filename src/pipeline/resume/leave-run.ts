import {
  AbortedError,
  GptvqError,
  NumericError,
  OptionError,
  ShapeError,
  TextError,
  UnsupportedError,
} from '../../common/errors.js'
import type { QuantizedOutput } from '../folders/output.js'
import type { QuantizeModelOptions } from '../quantize/quantize-model-options.js'
import type { Journal } from './journal.js'

/** Refuses resuming where nothing would be written. @throws OptionError */
export function requireResumable({
  output,
  resume,
  unfinished,
  method,
  scaleSearch,
}: QuantizeModelOptions): void {
  if (!resume) return
  const found =
    output === undefined
      ? 'no output is'
      : unfinished === 'discard'
        ? "unfinished 'discard' is"
        : method === 'rtn' && scaleSearch !== 'sequential-mse' && "method 'rtn' without a look at text is"
  if (!found) return
  throw new OptionError(
    'resume',
    `goes on with what an interrupted run has kept, and ${found} given; leave it out`,
  )
}

/**
 * Removes what is temporary after a failure, but for work that another run can go on with.
 *
 * @returns the error to throw, which says where that is
 */
export async function leave(
  output: QuantizedOutput | undefined,
  journal: Journal | undefined,
  error: unknown,
): Promise<unknown> {
  await output?.discard()
  if (journal === undefined) return error
  if (!journal.hasWork() || comesBack(error)) {
    await journal.remove()
    return error
  }
  const kept = `kept for --resume (option resume): ${await journal.keep()}`
  if (error instanceof AbortedError) return new AbortedError(`${error.message}; ${kept}`, error.reason)
  if (error instanceof GptvqError) error.message = `${error.message}. What was done is ${kept}`
  return error
}

/** Whether a run that goes on would only end in the same error. */
function comesBack(error: unknown): boolean {
  return [NumericError, OptionError, ShapeError, TextError, UnsupportedError].some(
    (kind) => error instanceof kind,
  )
}
