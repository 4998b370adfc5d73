import type { RotaryDescription } from '../../../model/decoder/description.js'
import { rotaryFrequencies } from '../../../model/decoder/rotary.js'
import { cast, constant, type Graph, node, scalar, slice } from '../graph.js'

/** Cosines and sines of the angles of all positions of a call, float32, batch x 1 x tokens x (dims / 2). */
export interface RotaryAngles {
  readonly cos: string
  readonly sin: string
}

/** Positions that there are angles for, as a multiple of those that the model was made for. */
const REACH = 4

/**
 * The angles of a call. Position `p` is `fine a + b`, and its cosine and sine those of the sum of two angles from small
 * tables, which float64 has computed: far positions are as exact as near ones, and float32, the only type of floats that
 * all runtimes have, would lose digits of `p` times a frequency.
 *
 * @param positions int64, batch x tokens
 * @param maxPositions that the model was made for
 */
export function rotaryAngles(
  graph: Graph,
  rotary: RotaryDescription,
  positions: string,
  maxPositions: number,
): RotaryAngles {
  if (rotary.scaling.kind === 'dynamic') return dynamicAngles(graph, rotary, rotary.scaling, positions)
  const fine = 2 ** Math.ceil(Math.log2(REACH * maxPositions) / 2)
  const step = constant(graph, 'int64', [fine], [])
  const coarse = node(graph, 'Div', [positions, step])
  const rest = node(graph, 'Sub', [positions, node(graph, 'Mul', [coarse, step])])
  const count = Math.ceil((REACH * maxPositions) / fine)
  const [far, near] = waveTables(graph, rotary, positions, [
    { count, stride: fine },
    { count: fine, stride: 1 },
  ])
  const at = (table: string, places: string) => {
    return node(graph, 'Unsqueeze', [node(graph, 'Gather', [table, places]), constant(graph, 'int64', [1])])
  }
  const a = { cos: at(far.cos, coarse), sin: at(far.sin, coarse) }
  const b = { cos: at(near.cos, rest), sin: at(near.sin, rest) }
  const product = (x: string, y: string) => node(graph, 'Mul', [x, y])
  return {
    cos: node(graph, 'Sub', [product(a.cos, b.cos), product(a.sin, b.sin)]),
    sin: node(graph, 'Add', [product(a.sin, b.cos), product(a.cos, b.sin)]),
  }
}

/** Turns the first `dims` values of each head. @param x batch x heads x tokens x headDim */
export function rotate(
  graph: Graph,
  x: string,
  { cos, sin }: RotaryAngles,
  { dims }: RotaryDescription,
  headDim: number,
): string {
  const half = dims / 2
  const [a, b] = [slice(graph, x, 0, half, 3), slice(graph, x, half, dims, 3)]
  const product = (value: string, wave: string) => node(graph, 'Mul', [value, wave])
  const turned = [
    node(graph, 'Sub', [product(a, cos), product(b, sin)]),
    node(graph, 'Add', [product(b, cos), product(a, sin)]),
    ...(dims < headDim ? [slice(graph, x, dims, headDim, 3)] : []),
  ]
  return node(graph, 'Concat', turned, { axis: 3 })
}

interface TableShape {
  readonly count: number
  /** Positions from one row to the next. */
  readonly stride: number
}

/** Cosines and sines of multiples of the frequencies, count x (dims / 2); those of the first table times the attention factor. */
function waveTables(
  graph: Graph,
  rotary: RotaryDescription,
  positions: string,
  shapes: readonly [TableShape, TableShape],
): RotaryAngles[] {
  const { scaling } = rotary
  const tablesAt = (length: number) => {
    const { frequencies, attentionFactor } = rotaryFrequencies(rotary, length)
    return shapes.map((shape, which) => {
      return waveTable(graph, frequencies, shape, which === 0 ? attentionFactor : 1)
    })
  }
  if (scaling.kind !== 'longrope') return tablesAt(1)
  const { originalMaxPositions } = scaling
  const limit = constant(graph, 'int64', [originalMaxPositions], [])
  const isLong = node(graph, 'Greater', [lengthOf(graph, positions), limit])
  const long = tablesAt(originalMaxPositions + 1)
  return tablesAt(originalMaxPositions).map((short, which) => ({
    cos: node(graph, 'Where', [isLong, long[which].cos, short.cos]),
    sin: node(graph, 'Where', [isLong, long[which].sin, short.sin]),
  }))
}

function waveTable(
  graph: Graph,
  frequencies: Float64Array,
  { count, stride }: TableShape,
  factor: number,
): RotaryAngles {
  const width = frequencies.length
  const table = (wave: (angle: number) => number) => {
    const values = Float32Array.from({ length: count * width }, (_, i) => {
      return factor * wave(Math.floor(i / width) * stride * frequencies[i % width])
    })
    return constant(graph, 'float32', values, [count, width])
  }
  return { cos: table(Math.cos), sin: table(Math.sin) }
}

/** Angles whose frequencies fall as a text grows: computed in each call, in float32. */
function dynamicAngles(
  graph: Graph,
  { dims, theta }: RotaryDescription,
  { factor, originalMaxPositions }: { readonly factor: number; readonly originalMaxPositions: number },
  positions: string,
): RotaryAngles {
  const length = cast(graph, lengthOf(graph, positions), 'float32')
  const original = scalar(graph, originalMaxPositions)
  const stretch = node(graph, 'Div', [node(graph, 'Max', [length, original]), original])
  const growth = node(graph, 'Sub', [
    node(graph, 'Mul', [stretch, scalar(graph, factor)]),
    scalar(graph, factor - 1),
  ])
  const base = node(graph, 'Mul', [
    node(graph, 'Pow', [growth, scalar(graph, dims / (dims - 2))]),
    scalar(graph, theta),
  ])
  const exponents = Float32Array.from({ length: dims / 2 }, (_, pair) => (-2 * pair) / dims)
  const frequencies = node(graph, 'Pow', [base, constant(graph, 'float32', exponents)])
  const axes = constant(graph, 'int64', [1, 3])
  const places = cast(graph, node(graph, 'Unsqueeze', [positions, axes]), 'float32')
  const angles = node(graph, 'Mul', [places, frequencies])
  return { cos: node(graph, 'Cos', [angles]), sin: node(graph, 'Sin', [angles]) }
}

/** The positions there are by the end of a call, int64, no dimensions. */
function lengthOf(graph: Graph, positions: string): string {
  const last = node(graph, 'ReduceMax', [positions], { keepdims: 0 })
  return node(graph, 'Add', [last, constant(graph, 'int64', [1], [])])
}
