import { param } from '../job'
import { SHIFT, tailOf } from './trellis-streams'
import { TILE } from './trellis-run'

/**
 * Lays the codes of a trellis, a row after the other as they are stored, into streams. A tile is a row group.
 *
 * Parameters: codes, bytes of a row; rows, rows of a group; entries (first bit in a row and width of each), how many; bits of
 * a number; where streams go, which is all 0, bytes of a row group of full height.
 */
export function layStreamsTile(group: i32): void {
  const rowBytes = param<usize>(1)
  const perGroup = param<i32>(3)
  const first = group * perGroup
  const rows = min(perGroup, param<i32>(2) - first)
  const height = (rows + TILE - 1) & -TILE
  const last = param<usize>(0) + <usize>(first + rows - 1) * rowBytes
  const end = param<usize>(4) + (param<usize>(5) << 3)
  let stream = param<usize>(7) + <usize>group * param<usize>(8)
  for (let entry = param<usize>(4); entry < end; entry += 8) {
    const bit = load<i32>(entry)
    const width = load<i32>(entry, 4)
    layStream(last + <usize>(bit >> 3), bit & 7, width, rows, rowBytes, stream, SHIFT + (height - rows) * width)
    stream += <usize>((height >> 3) * width + tailOf(param<i32>(6), width))
  }
}

/** The codes of a column of vectors from the last row up, after `offset` bits of 0. */
function layStream(code: usize, shift: i32, width: i32, rows: i32, rowBytes: usize, stream: usize, offset: i32): void {
  const mask: u32 = (1 << width) - 1
  let to = stream + <usize>(offset >> 3)
  let pending: u64 = 0
  let bits = offset & 7
  for (let row = 0; row < rows; row++, code -= rowBytes) {
    pending |= <u64>((load<u32>(code) >> shift) & mask) << bits
    bits += width
    if (bits >= 32) {
      store<u32>(to, <u32>pending)
      to += 4
      pending >>= 32
      bits -= 32
    }
  }
  for (; bits > 0; bits -= 8, pending >>= 8, to++) store<u8>(to, <u8>pending)
}
