type Indices = Uint32Array | Uint16Array | Uint8Array

/**
 * Packs rows of indices, `width` bits each (24 at most), least significant bit first, every row starting on a byte.
 * `packed` holds `rows * packedRowBytes(perRow, width)` bytes and must be zero.
 */
export function packIndices(
  indices: Indices,
  rows: number,
  perRow: number,
  width: number,
  packed: Uint8Array,
): void {
  packRagged(indices, rows, new Uint8Array(perRow).fill(width), packed)
}

/** The inverse of {@link packIndices}; `indices` holds `rows * perRow` values. */
export function unpackIndices(
  packed: Uint8Array,
  rows: number,
  perRow: number,
  width: number,
  indices: Indices,
): void {
  unpackRagged(packed, rows, new Uint8Array(perRow).fill(width), indices)
}

/** As {@link packIndices}, index `i` of a row with `widths[i]` bits; `packed` holds `rows * raggedRowBytes(widths)` bytes. */
export function packRagged(indices: Indices, rows: number, widths: Uint8Array, packed: Uint8Array): void {
  const rowBytes = raggedRowBytes(widths)
  let from = 0
  for (let r = 0; r < rows; r++) {
    let at = r * rowBytes
    let pending = 0
    let pendingBits = 0
    for (let i = 0; i < widths.length; i++) {
      pending |= indices[from++] << pendingBits
      pendingBits += widths[i]
      while (pendingBits >= 8) {
        packed[at++] = pending & 0xff
        pending >>>= 8
        pendingBits -= 8
      }
    }
    if (pendingBits > 0) packed[at] = pending
  }
}

/** The inverse of {@link packRagged}. */
export function unpackRagged(packed: Uint8Array, rows: number, widths: Uint8Array, indices: Indices): void {
  const rowBytes = raggedRowBytes(widths)
  let to = 0
  for (let r = 0; r < rows; r++) {
    let at = r * rowBytes
    let pending = 0
    let pendingBits = 0
    for (let i = 0; i < widths.length; i++) {
      const width = widths[i]
      while (pendingBits < width) {
        pending |= packed[at++] << pendingBits
        pendingBits += 8
      }
      indices[to++] = pending & ((1 << width) - 1)
      pending >>>= width
      pendingBits -= width
    }
  }
}

/** Bytes that one row of indices of these widths takes. */
export function raggedRowBytes(widths: Uint8Array): number {
  return Math.ceil(widths.reduce((sum, width) => sum + width, 0) / 8)
}

/** Bytes that one row of `perRow` indices of `width` bits takes. */
export function packedRowBytes(perRow: number, width: number): number {
  return Math.ceil((perRow * width) / 8)
}
