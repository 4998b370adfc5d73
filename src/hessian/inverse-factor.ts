import { NumericError, ShapeError } from '../common/errors.js'
import type { Pause } from '../common/event-loop.js'
import { assertFinite, type Matrix, matrix, requireMatrix } from '../common/matrix.js'
import { inverseFactorInPlace } from './cholesky.js'

/** Two halves of a Hessian may differ by this share of `sqrt(H_ii H_jj)`. */
const ASYMMETRY_TOLERANCE = 1e-3

/** What error feedback needs of a Hessian. */
export interface InverseFactor {
  /** `U`, upper triangular, with `(H + damping mean(diag H) I)^-1 = U^T U`. */
  readonly factor: Matrix
  /** 1 for each column whose input is always zero ("dead"), 0 otherwise. */
  readonly dead: Uint8Array
}

/**
 * Inverse factors of one Hessian: the one of a name is made when it is first asked for and then kept, for layers that
 * read the same inputs. A name says all that a factor depends on beside the Hessian.
 */
export type SharedFactors = (name: string, make: () => Promise<InverseFactor>) => Promise<InverseFactor>

export function shareFactors(): SharedFactors {
  const made = new Map<string, Promise<InverseFactor>>()
  return (name, make) => {
    const known = made.get(name)
    if (known) return known
    const factor = make()
    made.set(name, factor)
    // the next layer, or the next try, gets an error of its own
    factor.catch(() => made.delete(name))
    return factor
  }
}

/** For a layer that shares its Hessian with no other. */
export const ownFactors: SharedFactors = (_, make) => make()

/**
 * Damps a Hessian (n x n, left untouched) and factors its inverse, in units in which the mean
 * of its diagonal is 1: the scale of the activations changes nothing. Dead columns and the columns that pad the matrix
 * to `paddedSize` have the damping alone (without damping 1) and no tie to others.
 *
 * @param layer how errors name the layer
 * @throws NumericError naming the layer and the damping when the damped Hessian is not positive definite
 */
export async function dampedInverseFactor(
  hessian: Matrix,
  damping: number,
  paddedSize: number,
  layer: string,
  pause?: Pause,
): Promise<InverseFactor> {
  const n = hessian.rows
  requireSymmetric(hessian, layer)
  const dead = new Uint8Array(paddedSize)
  let trace = 0
  for (let i = 0; i < n; i++) {
    const diagonal = hessian.data[i * n + i]
    if (diagonal === 0) dead[i] = 1
    trace += diagonal
  }
  const unit = trace > 0 ? n / trace : 1
  const factor = matrix(paddedSize, paddedSize)
  const untied = damping || 1
  for (let i = 0; i < paddedSize; i++) {
    if (i >= n || dead[i]) {
      factor.data[i * paddedSize + i] = untied
      continue
    }
    for (let j = i; j < n; j++) {
      if (!dead[j]) factor.data[i * paddedSize + j] = hessian.data[i * n + j] * unit
    }
    factor.data[i * paddedSize + i] += damping
  }
  try {
    await inverseFactorInPlace(factor, pause)
  } catch (error) {
    if (!(error instanceof NumericError)) throw error
    throw new NumericError(`${layer}: with damping ${damping}, ${error.message}`)
  }
  return { factor, dead }
}

/** Checks that a Hessian is finite, symmetric and nowhere negative on its diagonal. @throws ShapeError, NumericError */
export function requireSymmetric(hessian: Matrix, layer: string): void {
  const { rows: n, cols, data } = hessian
  if (n !== cols) throw new ShapeError(`${layer}: a Hessian is square, got ${n} x ${cols}`)
  assertFinite(hessian, `${layer}: Hessian`)
  for (let i = 0; i < n; i++) {
    if (data[i * n + i] < 0) {
      throw new NumericError(
        `${layer}: the Hessian's diagonal is ${data[i * n + i]} at ${i}; X^T X is never negative there. ` +
          'Make it with HessianAccumulator',
      )
    }
    for (let j = 0; j < i; j++) {
      const [lower, upper] = [data[i * n + j], data[j * n + i]]
      const size = Math.sqrt(data[i * n + i] * data[j * n + j])
      if (Math.abs(lower - upper) > ASYMMETRY_TOLERANCE * size) {
        throw new NumericError(
          `${layer}: the Hessian is not symmetric: ${lower} at (${i}, ${j}), ${upper} at (${j}, ${i}). ` +
            'Make it with HessianAccumulator',
        )
      }
    }
  }
}

/**
 * Checks a weight (out x in) and a Hessian (in x in) that belong together.
 *
 * @throws ShapeError, NumericError naming the layer
 */
export function requireFit(weight: Matrix, hessian: Matrix, name: string): void {
  requireMatrix(weight, name)
  requireMatrix(hessian, `${name}: Hessian`)
  if (hessian.rows !== weight.cols || hessian.cols !== weight.cols) {
    throw new ShapeError(
      `${name}: the Hessian is ${hessian.rows} x ${hessian.cols}, a ${weight.rows} x ${weight.cols} layer needs ` +
        `${weight.cols} x ${weight.cols} (its input features)`,
    )
  }
  assertFinite(weight, name)
}
