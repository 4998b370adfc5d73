import { cast, constant, type Graph, node, reshape } from './graph.js'

/** Bits of the lower part of a number that does not fit a byte. */
const LOW_BITS = 7
/** Bits that {@link readWindows} can read at most. */
export const MOST_WINDOW_BITS = LOW_BITS + 8

/**
 * Numbers in a stream of bits, the most significant bit of a byte first: number `i` is the `bits` bits that end in front
 * of bit `(i + 1) * step`. With `bits` above `step` they overlap, as the keys of a trellis do.
 */
export interface Windows {
  /** Numbers. */
  readonly count: number
  /** Bits from one to the next. */
  readonly step: number
  /** Bits of a number, {@link MOST_WINDOW_BITS} at most. */
  readonly bits: number
  /** The bits in front of number 0, and of every multiple of this, count as 0. */
  readonly restart: number
}

/** Bytes of a stream. */
export function streamBytes({ count, step }: Pick<Windows, 'count' | 'step'>): number {
  return Math.ceil((count * step) / 8)
}

/**
 * Packs numbers of `step` bits into a stream.
 *
 * @param numberAt the number in each place
 * @param target gets byte `b` at `start + b * stride`; zeros there before
 */
export function packStream(
  numberAt: (place: number) => number,
  { count, step }: Pick<Windows, 'count' | 'step'>,
  target: Uint8Array,
  start: number,
  stride: number,
): void {
  let pending = 0
  let held = 0
  let at = start
  for (let place = 0; place < count; place++) {
    pending = (pending << step) | numberAt(place)
    held += step
    for (; held >= 8; at += stride) {
      held -= 8
      target[at] = pending >>> held
      pending &= 2 ** held - 1
    }
  }
  if (held > 0) target[at] = pending << (8 - held)
}

/**
 * Reads the numbers of many streams at once, in bytes as far as that goes: what is made on the way takes memory while
 * a runtime loads the model.
 *
 * @param data uint8, of two dimensions; the bytes of a stream run along `axis`
 * @returns numbers along `axis` in place of bytes; uint8 up to 8 bits, int32 above
 */
export function readWindows(graph: Graph, data: string, axis: 0 | 1, windows: Windows): string {
  const { bits } = windows
  if (bits <= 8) return readPart(graph, data, axis, windows, 0, bits)
  const last = ['hi', 'lo'].map((part) => {
    const [above, width] = part === 'hi' ? [LOW_BITS, bits - LOW_BITS] : [0, LOW_BITS]
    return node(graph, 'Unsqueeze', [
      readPart(graph, data, axis, windows, above, width),
      constant(graph, 'int64', [2]),
    ])
  })
  const pairs = node(graph, 'Concat', last, { axis: 2 })
  const weights = constant(graph, 'uint8', [2 ** LOW_BITS, 1], [2, 1])
  return reshape(graph, node(graph, 'MatMulInteger', [pairs, weights]), 0, 0)
}

/** The same as int32. */
export function readIndices(graph: Graph, data: string, axis: 0 | 1, windows: Windows): string {
  const values = readWindows(graph, data, axis, windows)
  return windows.bits <= 8 ? cast(graph, values, 'int32') : values
}

/** `width` bits of each number, those above its lowest `above`. */
function readPart(
  graph: Graph,
  data: string,
  axis: 0 | 1,
  { count, step, bits, restart }: Windows,
  above: number,
  width: number,
): string {
  const places = Array.from({ length: count }, (_, place) => place)
  const ends = places.map((place) => (place + 1) * step - above)
  const last = ends.map((end) => Math.max(0, (end - 1) >> 3))
  const shifts = ends.map((end, place) => Math.max(0, 8 * (last[place] + 1) - end) % 8)
  const masks = places.map((place) => {
    const seen = Math.min(bits, ((place % restart) + 1) * step) - above
    return 2 ** Math.max(0, Math.min(width, seen)) - 1
  })
  const along = (values: readonly number[]) => {
    if (values.every((value) => value === values[0])) return constant(graph, 'uint8', [values[0]], [])
    return constant(graph, 'uint8', values, axis === 0 ? [count, 1] : [count])
  }
  const bytes = (which: readonly number[]) => gather(graph, data, axis, which)
  const shift = (value: string, by: readonly number[], direction: string) => {
    if (by.every((one) => one === 0)) return value
    return node(graph, 'BitShift', [value, along(by)], { direction: { text: direction } })
  }
  let value = shift(bytes(last), shifts, 'RIGHT')
  if (shifts.some((by) => by + width > 8)) {
    const before = last.map((byte) => Math.max(0, byte - 1))
    const rest = shifts.map((by) => 8 - by)
    value = node(graph, 'BitwiseOr', [shift(bytes(before), rest, 'LEFT'), value])
  }
  return masks.every((mask) => mask === 255) ? value : node(graph, 'BitwiseAnd', [value, along(masks)])
}

/** Slices along an axis, unless they are all there is, in order. */
function gather(graph: Graph, data: string, axis: 0 | 1, which: readonly number[]): string {
  return node(graph, 'Gather', [data, constant(graph, 'int32', which)], { axis })
}
