export { formatBytes, formatSeconds } from '../../report/drawing/units.js'

/** Bits per value: `2.125`. */
export function formatBits(bits: number): string {
  return bits.toFixed(3)
}

/** A relative error or a divergence: three significant digits, `-` where there is none. */
export function formatError(error: number | null | undefined): string {
  if (error === null || error === undefined) return '-'
  return error === 0 ? '0' : error.toPrecision(3)
}

/** A share: `87.6 %`, `-` where there is none. */
export function formatShare(share: number | undefined): string {
  return share === undefined ? '-' : `${(100 * share).toFixed(1)} %`
}

/** A count with its noun: `1 window`, `12 windows`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** An argument as one types it in a shell. */
export function formatArgument(text: string): string {
  return /^[\w@%+=:,./\\~-]+$/.test(text) ? text : `"${text}"`
}
