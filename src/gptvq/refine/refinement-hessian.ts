import { type Matrix, matrix } from '../../common/matrix.js'
import { lookUp } from '../../packing/vq-layer.js'
import type { LayerPanel } from '../walk/row-panel.js'

/** From so many tokens per column on a Hessian is taken as it is. */
const TOKENS_PER_COLUMN = 2

/** How many times the squared error of the weights may grow while their loss falls. */
const MOST_GROWTH = 4

/**
 * The Hessian that refinement descends on. Fewer tokens than twice the columns leave directions in which the Hessian is
 * blind or nearly so: a descent follows the noise of its rounding there, and what it gains elsewhere is a fit to these
 * tokens. So it is damped: at one token a column as much as the walk, with fewer in proportion more, and from there on
 * falling to none at two.
 *
 * @param tokens that the Hessian was made from; undefined when not known, then it is taken as it is
 */
export function refinementHessian(hessian: Matrix, damping: number, tokens: number | undefined): Matrix {
  const perColumn = tokens === undefined ? TOKENS_PER_COLUMN : tokens / hessian.cols
  const share = perColumn < 1 ? 1 / perColumn : TOKENS_PER_COLUMN - perColumn
  return share > 0 ? dampedHessian(hessian, share * damping) : hessian
}

/** A copy with a share of the mean of its diagonal added to the diagonal. */
export function dampedHessian({ rows: n, data }: Matrix, share: number): Matrix {
  const damped = matrix(n, n, data.slice())
  let trace = 0
  for (let i = 0; i < n; i++) trace += data[i * n + i]
  for (let i = 0; i < n; i++) damped.data[i * n + i] += (share * trace) / n
  return damped
}

/** `|W - Q|^2` of a panel. */
export function weightError({ weight, layout, indices, codebooks, scales, buffers }: LayerPanel): number {
  lookUp(layout, indices, codebooks, scales?.values, 0, layout.rows, buffers.rows)
  let error = 0
  for (let i = 0; i < layout.rows * layout.cols; i++) error += (weight[i] - buffers.rows[i]) ** 2
  return error
}

/** Whether a descent has run away along directions that the Hessian does not see. */
export function ranAway(before: number, after: number): boolean {
  return !(after <= MOST_GROWTH * before)
}
