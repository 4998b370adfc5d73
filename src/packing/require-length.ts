import { ShapeError } from '../common/errors.js'

/** Checks the length of one array of a packed layer. @param owner the layer's shape and settings in words */
export function requireLength(what: string, found: number, expected: number, owner: string): void {
  if (found === expected) return
  throw new ShapeError(`${what}: found ${found} elements, ${owner} needs ${expected}`)
}
