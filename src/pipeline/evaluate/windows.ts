import { OptionError, TextError } from '../../common/errors.js'
import { shownValue } from '../../common/shown-value.js'

/**
 * Cuts a text into windows without overlap, from its start; the rest that does not fill one is left out.
 *
 * @param tokens the ids of the whole text
 * @param context tokens per window, at least 2 (one to see and one to predict)
 * @param windows how many at most; default: as many as there are
 * @returns views into `tokens`
 * @throws TextError when the text does not fill one window
 */
export function cutWindows(tokens: Int32Array, context: number, windows?: number): Int32Array[] {
  if (!Number.isSafeInteger(context) || context < 2) {
    throw new OptionError(
      'context',
      `found ${shownValue(context)}; expected a whole number of at least 2 tokens`,
    )
  }
  if (windows !== undefined && (!Number.isSafeInteger(windows) || windows < 1)) {
    throw new OptionError('windows', `found ${shownValue(windows)}; expected a positive whole number`)
  }
  if (!(tokens instanceof Int32Array))
    throw new TextError(`expected tokens as an Int32Array, got ${shownValue(tokens)}`)
  const full = Math.floor(tokens.length / context)
  if (full === 0) {
    throw new TextError(
      `the text has ${tokens.length} tokens; one window of the context needs ${context}. Use a longer text or a shorter context`,
    )
  }
  return Array.from({ length: Math.min(full, windows ?? full) }, (_, i) =>
    tokens.subarray(i * context, (i + 1) * context),
  )
}
