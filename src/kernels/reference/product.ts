/**
 * Plain matrix products over sub-blocks of row-major arrays. A block is (array, offset of its first element, stride
 * between its rows). Sums run in a fixed order in float64 registers and are rounded to float32 when stored.
 */

const COLUMNS_IN_CACHE = 1024

/** `C += alpha A B` with C m x n, A m x k, B k x n. */
export function multiplyAdd(
  m: number,
  n: number,
  k: number,
  alpha: number,
  a: Float32Array,
  aOffset: number,
  aStride: number,
  b: Float32Array,
  bOffset: number,
  bStride: number,
  c: Float32Array,
  cOffset: number,
  cStride: number,
): void {
  for (let left = 0; left < n; left += COLUMNS_IN_CACHE) {
    const width = Math.min(COLUMNS_IN_CACHE, n - left)
    for (let p = 0; p < k; p += 4) {
      const depth = Math.min(4, k - p)
      const b0 = bOffset + p * bStride + left
      if (depth < 4) {
        for (let i = 0; i < m; i++) {
          for (let q = 0; q < depth; q++) {
            const factor = alpha * a[aOffset + i * aStride + p + q]
            addRow(factor, b, b0 + q * bStride, c, cOffset + i * cStride + left, width)
          }
        }
        continue
      }
      for (let i = 0; i < m; i += 2) {
        const aRow = aOffset + i * aStride + p
        const cRow = cOffset + i * cStride + left
        if (i + 1 < m) addToTwoRows(alpha, a, aRow, aStride, b, b0, bStride, c, cRow, cStride, width)
        else addToRow(alpha, a, aRow, b, b0, bStride, c, cRow, width)
      }
    }
  }
}

/** Four rows of B into two rows of C: each value of B that is loaded is used twice. */
function addToTwoRows(
  alpha: number,
  a: Float32Array,
  aRow: number,
  aStride: number,
  b: Float32Array,
  b0: number,
  bStride: number,
  c: Float32Array,
  cRow: number,
  cStride: number,
  width: number,
): void {
  const aNext = aRow + aStride
  const cNext = cRow + cStride
  const a00 = alpha * a[aRow]
  const a01 = alpha * a[aRow + 1]
  const a02 = alpha * a[aRow + 2]
  const a03 = alpha * a[aRow + 3]
  const a10 = alpha * a[aNext]
  const a11 = alpha * a[aNext + 1]
  const a12 = alpha * a[aNext + 2]
  const a13 = alpha * a[aNext + 3]
  const b1 = b0 + bStride
  const b2 = b1 + bStride
  const b3 = b2 + bStride
  for (let j = 0; j < width; j++) {
    const x0 = b[b0 + j]
    const x1 = b[b1 + j]
    const x2 = b[b2 + j]
    const x3 = b[b3 + j]
    c[cRow + j] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
    c[cNext + j] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
  }
}

function addToRow(
  alpha: number,
  a: Float32Array,
  aRow: number,
  b: Float32Array,
  b0: number,
  bStride: number,
  c: Float32Array,
  cRow: number,
  width: number,
): void {
  const a0 = alpha * a[aRow]
  const a1 = alpha * a[aRow + 1]
  const a2 = alpha * a[aRow + 2]
  const a3 = alpha * a[aRow + 3]
  const b1 = b0 + bStride
  const b2 = b1 + bStride
  const b3 = b2 + bStride
  for (let j = 0; j < width; j++) {
    c[cRow + j] += a0 * b[b0 + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j]
  }
}

function addRow(
  factor: number,
  b: Float32Array,
  bRow: number,
  c: Float32Array,
  cRow: number,
  width: number,
): void {
  for (let j = 0; j < width; j++) c[cRow + j] += factor * b[bRow + j]
}

/** `C += alpha A B^T` with C m x n, A m x k, B n x k: every element is one dot product of contiguous rows. */
export function multiplyTransposedAdd(
  m: number,
  n: number,
  k: number,
  alpha: number,
  a: Float32Array,
  aOffset: number,
  aStride: number,
  b: Float32Array,
  bOffset: number,
  bStride: number,
  c: Float32Array,
  cOffset: number,
  cStride: number,
): void {
  for (let i = 0; i < m; i += 2) {
    for (let j = 0; j < n; j += 4) {
      const aRow = aOffset + i * aStride
      const bRow = bOffset + j * bStride
      const cAt = cOffset + i * cStride + j
      if (i + 2 <= m && j + 4 <= n) {
        addDotTile(k, alpha, a, aRow, aStride, b, bRow, bStride, c, cAt, cStride)
      } else {
        for (let p = 0; p < Math.min(2, m - i); p++) {
          for (let q = 0; q < Math.min(4, n - j); q++) {
            c[cAt + p * cStride + q] += alpha * dot(a, aRow + p * aStride, b, bRow + q * bStride, k)
          }
        }
      }
    }
  }
}

/** A 2 x 4 tile of dot products: each loaded value is used several times. */
function addDotTile(
  k: number,
  alpha: number,
  a: Float32Array,
  aRow: number,
  aStride: number,
  b: Float32Array,
  bRow: number,
  bStride: number,
  c: Float32Array,
  cAt: number,
  cStride: number,
): void {
  const a1 = aRow + aStride
  const b1 = bRow + bStride
  const b2 = b1 + bStride
  const b3 = b2 + bStride
  let s00 = 0
  let s01 = 0
  let s02 = 0
  let s03 = 0
  let s10 = 0
  let s11 = 0
  let s12 = 0
  let s13 = 0
  for (let p = 0; p < k; p++) {
    const x0 = a[aRow + p]
    const x1 = a[a1 + p]
    const y0 = b[bRow + p]
    const y1 = b[b1 + p]
    const y2 = b[b2 + p]
    const y3 = b[b3 + p]
    s00 += x0 * y0
    s01 += x0 * y1
    s02 += x0 * y2
    s03 += x0 * y3
    s10 += x1 * y0
    s11 += x1 * y1
    s12 += x1 * y2
    s13 += x1 * y3
  }
  const c1 = cAt + cStride
  c[cAt] += alpha * s00
  c[cAt + 1] += alpha * s01
  c[cAt + 2] += alpha * s02
  c[cAt + 3] += alpha * s03
  c[c1] += alpha * s10
  c[c1 + 1] += alpha * s11
  c[c1 + 2] += alpha * s12
  c[c1 + 3] += alpha * s13
}

/** The dot product of `length` values of `a` from `aStart` with as many of `b` from `bStart`, in float64. */
export function dot(
  a: Float32Array,
  aStart: number,
  b: Float32Array,
  bStart: number,
  length: number,
): number {
  let sum = 0
  for (let p = 0; p < length; p++) sum += a[aStart + p] * b[bStart + p]
  return sum
}
