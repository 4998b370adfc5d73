import { Field, field, project, triangleOf } from './clustering-session'
import { param } from '../job'
import { plantTree, Shape, shapeOf } from './tree'
import { boxNodes, factorForm, halfNormsOfTree, sizeOfForm } from './tree-bounds'
import { BATCH, enterTree, nearestOf, putVector, SEARCH_BYTES, searchTree, soughtBytes } from './tree-search'

/*
 * The search of `assign` for large codebooks, before `assignTile`: it finds what `assignTile` would find by going through
 * all centroids, bit for bit. It goes column by column, because all vectors of a column have the same metric.
 */

// @ts-expect-error: decorator
@inline
function treeOf(group: i32): usize {
  return field(Field.TREES) + <usize>group * field(Field.TREE_BYTES)
}

/** Rows of the longest column of a group: as many have room. */
// @ts-expect-error: decorator
@inline
function rowsOf(group: i32): i32 {
  const period = <i32>field(Field.PERIOD)
  return (load<i32>(field(Field.GROUPS) + <usize>group * 24, 20) + period - 1) / period
}

/** Where the vectors of a column start in FOUND and SOUGHT; column 0: those of the group. */
// @ts-expect-error: decorator
@inline
export function soughtAt(group: i32, column: i32): i32 {
  return load<i32>(field(Field.SOUGHT_STARTS) + (<usize>group << 2)) + column * rowsOf(group)
}

/** Writes SOUGHT for one column of a group. */
export function gatherColumnTile(tile: i32): void {
  const period = <i32>field(Field.PERIOD)
  const group = tile / period
  const column = tile % period
  const d = <i32>field(Field.DIMENSIONS)
  const plane = field(Field.PLANE)
  const entry = field(Field.GROUPS) + <usize>group * 24
  const start = load<i32>(entry, 16)
  const end = start + load<i32>(entry, 20)
  const centre = field(Field.CENTRES) + <usize>(group * d) * 4
  const forms = formsOf(column, d)
  let size: f32 = 0
  for (let t = 0; t < triangleOf(d); t++) size += abs(load<f32>(forms + (<usize>t << 5)))
  let to = field(Field.SOUGHT) + <usize>soughtAt(group, column) * soughtBytes(d)
  for (let i = start + column; i < end; i += period) {
    project(i, column, centre, d, 4, to)
    const x = field(Field.VECTORS) + <usize>i * 4
    let energy: f32 = 0
    let reach: f32 = 0
    for (let a: usize = 0; a < <usize>d; a++) {
      const y = load<f32>(to)
      const offset = load<f32>(x + a * plane) - load<f32>(centre + a * 4)
      energy += y * offset
      reach = max(reach, abs(offset))
      store<f32>(to, -y)
      store<f32>(to + (<usize>d << 2), offset)
      to += 4
    }
    to += <usize>d << 2
    store<f32>(to, 0.5 * energy)
    store<f32>(to, size * reach * reach, 4)
    to += 8
  }
}

// @ts-expect-error: decorator
@inline
export function formsOf(column: i32, d: i32): usize {
  return field(Field.FORMS) + <usize>(column >> 3) * <usize>(triangleOf(d) << 5) + (<usize>(column & 7) << 2)
}

/** Cuts the codebook of a group into a tree. */
export function plantGroupTile(group: i32, scratch: usize): void {
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const d = <i32>field(Field.DIMENSIONS)
  const k = <i32>field(Field.CENTROIDS)
  const codebook = field(Field.CODEBOOKS) + <usize>(group * k * d) * 4
  const centre = field(Field.CENTRES) + <usize>(group * d) * 4
  plantTree(field(Field.TREE_SHAPE), treeOf(group), codebook, centre, field(Field.TREE_FACTOR), true, scratch)
}

/**
 * Nearest centroids of some rows of one column of a group. Parameters: rows of a tile, tiles of a column, 1 where FOUND
 * says where to begin.
 */
export function searchColumnTile(tile: i32, scratch: usize): void {
  const period = <i32>field(Field.PERIOD)
  const parts = param<i32>(2)
  const group = tile / (period * parts)
  if (!load<u8>(field(Field.ACTIVE) + <usize>group)) return
  const column = (tile / parts) % period
  const vectors = load<i32>(field(Field.GROUPS) + <usize>group * 24, 20)
  const first = (tile % parts) * param<i32>(1)
  const end = min((vectors - column + period - 1) / period, first + param<i32>(1))
  if (first >= end) return
  const d = <i32>field(Field.DIMENSIONS)
  const form = scratch + SEARCH_BYTES
  const rows = form + 64
  const bounds = rows + 64
  const forms = formsOf(column, d)
  for (let t: usize = 0; t < <usize>triangleOf(d); t++) store<f32>(form + (t << 2), load<f32>(forms + (t << 5)))
  const size = sizeOfForm(form, d)
  const shape = field(Field.TREE_SHAPE)
  const tree = treeOf(group)
  halfNormsOfTree(shape, tree, form, bounds)
  factorForm(form, d, 0.5, rows, scratch)
  boxNodes(shape, tree, rows, size, bounds)
  enterTree(shape, tree, bounds, rows, scratch)
  const from = soughtAt(group, column)
  let found = field(Field.FOUND) + <usize>(from + first) * 2
  let sought = field(Field.SOUGHT) + <usize>(from + first) * soughtBytes(d)
  const leafOf = tree + <usize>shapeOf(shape, Shape.LEAF_OF)
  const begins = param<i32>(3) != 0
  for (let row = first; row < end; row += BATCH) {
    const count = min(BATCH, end - row)
    for (let i: usize = 0; i < <usize>count; i++) {
      const leaf = begins ? <i32>load<u16>(leafOf + (<usize>load<u16>(found + 2 * i) << 1)) : 0
      if (d == 2) putVector(i, sought, 2, leaf)
      else putVector(i, sought, 4, leaf)
      sought += soughtBytes(d)
    }
    searchTree(count, d, begins)
    for (let i: usize = 0; i < <usize>count; i++) {
      const nearest = nearestOf(i)
      store<u16>(found + 2 * i, nearest < <u32>field(Field.CENTROIDS) ? <u16>nearest : 0)
    }
    found += <usize>count << 1
  }
}

/** Copies what was found of 8 columns to where `assignTile` keeps the best centroids, 64 bytes per row. */
export function readFound(group: i32, first: i32, rows: i32, best: usize): void {
  const period = <i32>field(Field.PERIOD)
  const step = <usize>rowsOf(group) * 2
  let from = field(Field.FOUND) + <usize>(soughtAt(group, first % period) + first / period) * 2
  for (let r = 0; r < rows; r++) {
    for (let lane: usize = 0; lane < 8; lane++) store<i32>(best + 4 * lane, load<u16>(from + lane * step), 32)
    from += 2
    best += 64
  }
}
