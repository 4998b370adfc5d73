import { NumericError, ShapeError } from './errors.js'
import { shownValue } from './shown-value.js'

/** A dense matrix, row-major: element (i, j) is `data[i * cols + j]`. */
export interface Matrix {
  /** Of a weight: outputs. */
  readonly rows: number
  /** Of a weight: inputs. */
  readonly cols: number
  /** `rows * cols` values, row by row. */
  readonly data: Float32Array
}

/**
 * Makes a {@link Matrix} over `data` (not copied), or a zero matrix when `data` is left out.
 *
 * @throws ShapeError when a dimension is not a positive integer or `data.length` is not `rows * cols`
 */
export function matrix(rows: number, cols: number, data?: Float32Array): Matrix {
  if (!Number.isSafeInteger(rows) || !Number.isSafeInteger(cols) || rows < 1 || cols < 1) {
    throw new ShapeError(
      `a matrix needs positive whole dimensions, got ${shownValue(rows)} x ${shownValue(cols)}`,
    )
  }
  if (data === undefined) return { rows, cols, data: zeros(rows, cols) }
  requireFloats(data, 'data of a matrix')
  if (data.length !== rows * cols) {
    throw new ShapeError(
      `a ${rows} x ${cols} matrix needs ${rows * cols} values, the array given has ${data.length}`,
    )
  }
  return { rows, cols, data }
}

/** A square matrix of zeros with `value` on its diagonal. */
export function diagonalMatrix(size: number, value: number): Matrix {
  const result = matrix(size, size)
  for (let i = 0; i < size; i++) result.data[i * (size + 1)] = value
  return result
}

function zeros(rows: number, cols: number): Float32Array {
  try {
    return new Float32Array(rows * cols)
  } catch (cause) {
    throw new ShapeError(
      `a matrix of ${rows} x ${cols} float32 values, ${((4 * rows * cols) / 2 ** 30).toFixed(1)} GiB, does not fit into memory`,
      { cause },
    )
  }
}

function requireFloats(data: unknown, name: string): void {
  if (data instanceof Float32Array) return
  throw new ShapeError(
    `${name}: expected a Float32Array, got ${shownValue(data)}; Float32Array.from(values) makes one`,
  )
}

/**
 * Checks that a value is a matrix, for callers whom no compiler tells.
 *
 * @param name how the error names it
 * @throws ShapeError saying what was given
 */
export function requireMatrix(value: Matrix, name: string): void {
  const { rows, cols, data } = (value ?? {}) as Partial<Matrix>
  if (rows === undefined && cols === undefined) {
    throw new ShapeError(
      `${name}: expected a matrix { rows, cols, data }, got ${shownValue(value)}; matrix(rows, cols, data) makes one`,
    )
  }
  requireFloats(data, `${name}.data`)
  matrix(rows as number, cols as number, data)
}

/** An array that is used again and again: to allocate one for each batch costs more than to fill it. */
export function reusedRoom(): (size: number) => Float32Array {
  let room = new Float32Array(0)
  return (size) => {
    if (room.length < size) room = new Float32Array(size)
    return room.subarray(0, size)
  }
}

/** A copy that shares nothing with the original. */
export function copyMatrix(source: Matrix): Matrix {
  return { rows: source.rows, cols: source.cols, data: source.data.slice() }
}

/**
 * Checks that every element is a finite number.
 *
 * @param name how the error names the matrix, e.g. `'model.layers.0.self_attn.q_proj.weight'`
 * @throws NumericError naming the first offending element by row and column
 */
export function assertFinite(m: Matrix, name: string): void {
  requireMatrix(m, name)
  const { data, cols } = m
  const at = firstNotFinite(data)
  if (at >= 0) throw nonFiniteError(data[at], at, cols, name)
}

/** The place of the first value that is NaN or infinite; -1 where there is none. */
export function firstNotFinite(data: Float32Array): number {
  // 0 times what is not finite is NaN; four sums do not wait for each other
  let [a, b, c, d] = [0, 0, 0, 0]
  const whole = data.length & ~3
  for (let i = 0; i < whole; i += 4) {
    a += 0 * data[i]
    b += 0 * data[i + 1]
    c += 0 * data[i + 2]
    d += 0 * data[i + 3]
  }
  for (let i = whole; i < data.length; i++) a += 0 * data[i]
  return a + b + c + d === 0 ? -1 : data.findIndex((value) => !Number.isFinite(value))
}

/** The error for element `index` of a row-major array of `cols` columns that is NaN or infinite. */
export function nonFiniteError(value: number, index: number, cols: number, name: string): NumericError {
  return new NumericError(
    `${name}: found ${value} at row ${Math.floor(index / cols)}, column ${index % cols}; expected finite numbers. ` +
      'The file or the activations are damaged, or overflowed before they were stored',
  )
}
