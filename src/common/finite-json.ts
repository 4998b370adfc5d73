import { NumericError } from './errors.js'

/**
 * `JSON.stringify`, which writes NaN and infinity as `null` without a word, but refusing them.
 *
 * @throws NumericError naming the member
 */
export function finiteJson(value: unknown, space?: number): string {
  return JSON.stringify(
    value,
    (member, found: unknown) => {
      if (typeof found !== 'number' || Number.isFinite(found)) return found
      throw new NumericError(
        `${member || 'the result'} is ${found}; expected a finite number. The weights or the activations overflow: check the model, or use other settings`,
      )
    },
    space,
  )
}
