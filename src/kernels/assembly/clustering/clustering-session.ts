import { param } from '../job'

/**
 * k-means under a metric per vector. Vectors lie dimension by dimension ("planes"), every group from a multiple of 8 on;
 * vector i of a group has the metric of column `i % PERIOD`, PERIOD being a multiple of 8, so that 8 adjacent vectors
 * have 8 adjacent metrics. Tables of a session, 8 bytes each, as `wasm/clustering.ts` writes them.
 */
export const enum Field {
  DIMENSIONS,
  CENTROIDS,
  PERIOD,
  /** Bytes from one dimension to the next. */
  PLANE,
  VECTORS,
  PROJECTED,
  /** Groups x k x d. */
  CODEBOOKS,
  /** Groups x d: what is taken off vectors and centroids before the search, so that rounding stays small. */
  CENTRES,
  ASSIGNMENTS,
  DISTANCES,
  /** A byte per group: 0 when it is left out. */
  ACTIVE,
  /** Per 8 columns, the quadratic form of the metric scaled to 1: upper triangle x 8, off the diagonal doubled. */
  FORMS,
  /** Per column: what its form is to be multiplied by. */
  WEIGHTS,
  /** Per column: upper triangle of the weighted metric. */
  METRICS,
  /** Group, first vector, end, first vector of the group: 4 integers per tile. */
  TILES,
  /** Sum of weighted distances per tile. */
  LOSSES,
  /** Assignments that changed, per tile. */
  CHANGED,
  SUM_TILES,
  /** Per tile of SUM_TILES, per centroid: sum of M x, sum of M (upper triangle), count. */
  SUMS,
  /** First sum tile, sum tiles, first tile, tiles, first vector, vectors: 6 integers per group. */
  GROUPS,
  /** Empty clusters per group. */
  EMPTY,
  /** Clusters per group whose system has no safe solution. */
  UNSOLVED,
  /** A number in [0, 1) per group. */
  UNIFORM,
  /** What the metric of each vector is multiplied by, 0 for vectors that pad a group; no table: 1. */
  VECTOR_WEIGHTS,
  /** What a search before `assign` found (16 bits), column by column; no table: `assign` searches by itself. */
  FOUND,
  /** Column by column, what the search wants of a vector: see `soughtBytes`, with `-M (x - centre)` and `x - centre`. */
  SOUGHT,
  /** Per group, the first of its vectors in FOUND and SOUGHT. */
  SOUGHT_STARTS,
  /** See `Shape` of tree.ts. */
  TREE_SHAPE,
  /** A tree per group, TREE_BYTES each. */
  TREES,
  TREE_BYTES,
  /** d x d: see `plantTree`. */
  TREE_FACTOR,
  /** Per column, what a distance under its form is to be multiplied by to bound that of `L^T x`, L the TREE_FACTOR. */
  STRETCHES,
  /** Per 4 chunks of 64 vectors: see seeds-near.ts. */
  CHUNKS,
  /** Per tile, per column of it: the sum of its distances. */
  COLUMN_SUMS,
  /** Per tile, per column of it: 1 where that sum is out of date; and where such columns are listed. */
  STALE,
  STALE_LIST,
  /** Vectors of a tile, and columns of a tile. */
  TILE_VECTORS,
  TILE_COLUMNS,
}

// @ts-expect-error: decorator
@inline
export function field(name: Field): usize {
  return load<usize>(param<usize>(0) + (<usize>name << 3))
}

// @ts-expect-error: decorator
@inline
export function triangleOf(d: i32): i32 {
  return (d * (d + 1)) >> 1
}

/** A row of a metric: where M_ab lies in its upper triangle. */
// @ts-expect-error: decorator
@inline
export function triangleAt(a: i32, b: i32, d: i32): i32 {
  const row = min(a, b)
  return row * d - ((row * (row - 1)) >> 1) + max(a, b) - row
}

/** `M (x - centre)` of vector `i`, scaled as the forms are; its dimensions are written `step` bytes apart. */
// @ts-expect-error: decorator
@inline
export function project(i: i32, column: i32, centre: usize, d: i32, step: usize, y: usize): void {
  const plane = field(Field.PLANE)
  const x = field(Field.VECTORS) + <usize>i * 4
  const metric = field(Field.METRICS) + <usize>(column * triangleOf(d)) * 8
  const scale = 1 / load<f64>(field(Field.WEIGHTS) + <usize>column * 8)
  for (let a = 0; a < d; a++) {
    let sum: f64 = 0
    for (let b = 0; b < d; b++) {
      const offset = <f64>load<f32>(x + <usize>b * plane) - <f64>load<f32>(centre + <usize>b * 4)
      sum += load<f64>(metric + <usize>triangleAt(a, b, d) * 8) * offset
    }
    store<f32>(y + <usize>a * step, <f32>(sum * scale))
  }
}
