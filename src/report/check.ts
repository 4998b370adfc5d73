import { type OptionNames, refuseUnknown, requireWhole } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { shownValue } from '../common/shown-value.js'

/** Options that every picture takes. */
export interface PictureOptions {
  /** Width in pixels, 240 to 4000; the default depends on the picture. */
  width?: number
  /** Replaces the picture's own title. */
  title?: string
}

/** Names of {@link PictureOptions}. */
export const pictureOptionNames = { width: true, title: true } as const satisfies OptionNames<PictureOptions>

/**
 * The width of a picture.
 *
 * @param names of all its options
 * @throws OptionError when it cannot work, or for an option that there is not
 */
export function pictureWidth(
  options: PictureOptions,
  preset: number,
  names: Readonly<Record<string, true | 'switch'>> = pictureOptionNames,
): number {
  refuseUnknown(options, names)
  const { width = preset } = options
  requireWhole('width', width, 240, 4000)
  return width
}

/** Checks that a value is a list with at least one element. */
export function requireSome(option: string, values: ArrayLike<unknown>, what: string): void {
  if (!Array.isArray(values) && !ArrayBuffer.isView(values)) {
    throw new OptionError(option, `expected a list, each element a ${what}, got ${shownValue(values)}`)
  }
  if (values.length === 0) throw new OptionError(option, `is empty; expected at least one ${what}`)
}

/** Checks that each element is called something. */
export function requireNames(option: string, values: readonly { readonly name: string }[]): void {
  for (const value of values) {
    if (typeof value?.name === 'string') continue
    throw new OptionError(option, `expected objects with a name, got ${shownValue(value)}`)
  }
}

/** Checks that a number is finite, and not below `least` where that is given. */
export function requireFigure(option: string, value: number, where: string, least = -Infinity): void {
  if (Number.isFinite(value) && value >= least) return
  const range = least > -Infinity ? `a finite number not below ${least}` : 'a finite number'
  throw new OptionError(option, `${where} is ${value}; expected ${range}`)
}

/** Checks that all values are finite; the message gives the place of the first that is not. */
export function requireAllFinite(option: string, values: ArrayLike<number>): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new OptionError(option, `value ${i} is ${values[i]}; expected finite numbers`)
    }
  }
}
