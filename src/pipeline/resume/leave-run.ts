import { AbortedError, OptionError } from '../../common/errors.js'
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
 * Removes what is temporary after a failure, but for work that another run can go on with: whatever the error is, since
 * most can be put right, and hours of work cannot be had back.
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
  if (!journal.hasWork()) {
    await journal.remove()
    return error
  }
  const kept = `kept for --resume (option resume): ${await journal.keep()}`
  if (error instanceof AbortedError) return new AbortedError(`${error.message}; ${kept}`, error.reason)
  if (error instanceof Error) {
    const value = `${error.message.replace(/\.$/, '')}. What was done is ${kept}`
    // an assignment would fail on a DOMException, whose message is its prototype's
    Reflect.defineProperty(error, 'message', { value, configurable: true, writable: true })
  }
  return error
}
