import { param } from '../job'
import { roundRow, stepsIn } from './packed-activations'
import { field, filledSlots, isOfSingles, SEGMENT_COUNT, SLOTS, slotsOf } from './packed-weight'

/** Rows of X that are multiplied at once. */
export const QUAD: i32 = 4

/**
 * Four rows of X, rounded, as `integer-product.ts` reads them. Of each segment: of each four rows: for two slots after the
 * other the two pieces of 16 bits of each row; a segment with an odd number of slots ends with zeros. Behind all of them, of
 * each segment: of each four rows: their four steps. Rows that are not there are zeros. Of single weights the slots that are
 * empty are left out.
 *
 * Parameters: the weight; where they go; rows of X, kind, address and stride of X; bytes of a row as `roundRow` writes it;
 * pairs of slots. Scratch: four such rows | what rounding needs. A tile is four rows.
 */
export function packActivationsTile(quad: i32, scratch: usize): void {
  const weight = param<usize>(0)
  const rows = param<i32>(2)
  const bytes = param<usize>(6)
  const quads = <usize>((rows + QUAD - 1) / QUAD)
  for (let i = 0; i < QUAD; i++) {
    const row = quad * QUAD + i
    const to = scratch + <usize>i * bytes
    if (row >= rows) memory.fill(to, 0, bytes)
    else roundRow(weight, param<i32>(3), param<usize>(4) + ((<usize>row * param<usize>(5)) << 2), to, scratch + 4 * bytes)
  }
  const empty = isOfSingles(weight) ? 1 : 0
  if (empty) for (let i = 0; i < QUAD; i++) closeUp(scratch + <usize>i * bytes, field(weight, SLOTS))
  const segments = field(weight, SEGMENT_COUNT)
  let to = param<usize>(1)
  let steps = to + ((quads * param<usize>(7)) << 4) + (<usize>quad << 4)
  let step = stepsIn(scratch, field(weight, SLOTS))
  for (let i = 0; i < segments; i++, step += 4, steps += quads << 4) {
    const start = <usize>(load<i32>(slotsOf(weight, i)) >> empty)
    const count = <usize>filledSlots(weight, i)
    const pairs = (count + 1) >> 1
    mixRows(scratch + (start << 1), bytes, count, to + ((<usize>quad * pairs) << 4))
    to += (quads * pairs) << 4
    for (let j: usize = 0; j < 4; j++) store<f32>(steps + (j << 2), load<f32>(step + j * bytes))
  }
}

/** Takes every second one of `slots` pieces of a row to its start; up to 28 bytes behind them are read. */
function closeUp(row: usize, slots: i32): void {
  const end = row + (<usize>slots << 1)
  for (let to = row; row < end; row += 32, to += 16) {
    v128.store(to, v128.shuffle<u16>(v128.load(row), v128.load(row, 16), 0, 2, 4, 6, 8, 10, 12, 14))
  }
}

/** `count` pieces of each of four rows, `stride` bytes apart. */
function mixRows(from: usize, stride: usize, count: usize, to: usize): void {
  const end = from + (count << 1)
  for (; from + 16 <= end; from += 16, to += 64) {
    const a = v128.load(from)
    const b = v128.load(from + stride)
    const c = v128.load(from + 2 * stride)
    const d = v128.load(from + 3 * stride)
    const abLow = v128.shuffle<u32>(a, b, 0, 4, 1, 5)
    const abHigh = v128.shuffle<u32>(a, b, 2, 6, 3, 7)
    const cdLow = v128.shuffle<u32>(c, d, 0, 4, 1, 5)
    const cdHigh = v128.shuffle<u32>(c, d, 2, 6, 3, 7)
    v128.store(to, v128.shuffle<u64>(abLow, cdLow, 0, 2))
    v128.store(to, v128.shuffle<u64>(abLow, cdLow, 1, 3), 16)
    v128.store(to, v128.shuffle<u64>(abHigh, cdHigh, 0, 2), 32)
    v128.store(to, v128.shuffle<u64>(abHigh, cdHigh, 1, 3), 48)
  }
  for (; from < end; from += 4, to += 16) {
    for (let j: usize = 0; j < 4; j++) {
      const row = from + j * stride
      store<u32>(to + (j << 2), from + 4 <= end ? load<u32>(row) : <u32>load<u16>(row))
    }
  }
}
