import { requireWhole } from '../../common/check-option.js'
import { OptionError, TextError } from '../../common/errors.js'
import { shownValue } from '../../common/shown-value.js'
import { cutText } from '../calibrate/first-token.js'

/**
 * Cuts a text into windows without overlap, from its start; the rest that does not fill one is left out.
 *
 * @param tokens the ids of the whole text
 * @param context tokens per window, at least 2 (one to see and one to predict)
 * @param windows how many at most; default: as many as there are
 * @param firstToken what each window begins with, in the place of one token of the text: the `firstToken` of the model's
 *   description. Default: each begins with its part of the text
 * @returns views into `tokens`; where there is a first token, new arrays
 * @throws TextError when the text does not fill one window
 * @throws OptionError for a context of less than two tokens, or another number that is no count
 */
export function cutWindows(
  tokens: Int32Array,
  context: number,
  windows?: number,
  firstToken?: number,
): Int32Array[] {
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
  if (firstToken !== undefined) requireWhole('firstToken', firstToken, 0)
  const { text, step, runAt } = cutText(tokens, context, firstToken)
  const full = Math.floor(text.length / step)
  if (full === 0) {
    throw new TextError(
      `the text has ${text.length} tokens; one window of the context needs ${step}. Use a longer text or a shorter context`,
    )
  }
  return Array.from({ length: Math.min(full, windows ?? full) }, (_, i) => runAt(i * step))
}
