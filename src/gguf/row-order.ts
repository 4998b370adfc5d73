/** A reordering of the rows of a tensor: the row of the model's tensor that stands at row `row` of the file's. */
export type RowOrder = (row: number) => number

/**
 * Within each head, the two values that are turned together: neighbours in the file, half a head apart in the model.
 *
 * @param headDim even
 */
export function neighbourOrder(headDim: number): RowOrder {
  return (row) => {
    const within = row % headDim
    return row - within + (within >> 1) + (within & 1) * (headDim / 2)
  }
}

/** All queries, then all keys, then all values in the file; head by head its query, key and value in the model. */
export function partsOfHeads(heads: number, headDim: number): RowOrder {
  return (row) => {
    const part = Math.floor(row / (heads * headDim))
    const head = Math.floor(row / headDim) % heads
    return (head * 3 + part) * headDim + (row % headDim)
  }
}

/** For each row of the model's tensor where it stands in the file's. */
export function inverseOrder(order: RowOrder, rows: number): Uint32Array {
  const places = new Uint32Array(rows)
  for (let row = 0; row < rows; row++) places[order(row)] = row
  return places
}
