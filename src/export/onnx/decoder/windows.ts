import { cast, constant, type Graph, node } from '../graph.js'

/**
 * Numbers in a stream of bits, the most significant bit of a byte first: number `i` is the `bits` bits that end in front
 * of bit `(i + 1) * step`. With `bits` above `step` they overlap, as the keys of a trellis do.
 */
export interface Windows {
  /** Numbers. */
  readonly count: number
  /** Bits from one to the next. */
  readonly step: number
  /** Bits of a number, 16 at most. */
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
 * Reads numbers of up to 8 bits from streams that run along the last axis of `data` (uint8). All is done in bytes: what is
 * made on the way takes memory while a runtime loads the model.
 *
 * @param rank of `data`
 * @returns uint8, with numbers in place of bytes along the last axis
 */
export function readCodes(graph: Graph, data: string, rank: number, windows: Windows): string {
  return readPart(graph, data, { axis: rank - 1, rank }, windows, { above: 0, width: windows.bits })
}

/** How a number is cut into bytes. */
export interface Digit {
  /** Bits below it. */
  readonly above: number
  readonly width: number
  /** What it counts, 255 at most. */
  readonly weight: number
}

/**
 * Cuts numbers into bytes whose weights are bytes too: what `MatMulInteger` can multiply by.
 *
 * @param bits of a number, 16 at most
 * @param preferred bits of the lowest byte, where possible
 */
export function digitsOf(bits: number, preferred: number): readonly Digit[] {
  if (bits <= 8) return [{ above: 0, width: bits, weight: 1 }]
  const low = bits === 16 ? 8 : preferred >= bits - 8 && preferred <= 7 ? preferred : 7
  const high = { above: low, width: bits - low }
  const lowest = { above: 0, width: low, weight: 1 }
  // 256 is no byte: the upper half of 16 bits counts 128 twice
  if (low === 8) return [{ ...high, weight: 128 }, { ...high, weight: 128 }, lowest]
  return [{ ...high, weight: 2 ** low }, lowest]
}

/**
 * Reads numbers from streams that run along the first axis of `data` (uint8), whose last has size 1.
 *
 * @param rank of `data`
 * @returns uint8, with numbers in place of bytes along the first axis and digits along the last
 */
export function readDigits(
  graph: Graph,
  data: string,
  rank: number,
  windows: Windows,
  digits: readonly Digit[],
): string {
  const parts = digits.map((digit) => readPart(graph, data, { axis: 0, rank }, windows, digit))
  return parts.length === 1 ? parts[0] : node(graph, 'Concat', parts, { axis: rank - 1 })
}

/** Numbers from their digits: int32, the last axis of size 1. */
export function joinDigits(graph: Graph, bytes: string, digits: readonly Digit[]): string {
  if (digits.length === 1) return cast(graph, bytes, 'int32')
  const weights = digits.map(({ weight }) => weight)
  return node(graph, 'MatMulInteger', [bytes, constant(graph, 'uint8', weights, [weights.length, 1])])
}

interface Along {
  readonly axis: number
  readonly rank: number
}

/** Some bits of each number. */
function readPart(
  graph: Graph,
  data: string,
  { axis, rank }: Along,
  { count, step, bits, restart }: Windows,
  { above, width }: Omit<Digit, 'weight'>,
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
    const after = Array.from({ length: rank - 1 - axis }, () => 1)
    return constant(graph, 'uint8', values, [count, ...after])
  }
  const bytes = (which: readonly number[]) => {
    return node(graph, 'Gather', [data, constant(graph, 'int32', which)], { axis })
  }
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
