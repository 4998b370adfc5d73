import type { RotaryDescription } from '../../model/decoder/description.js'
import { rotaryFrequencies } from '../../model/decoder/rotary.js'
import { cast, constant, type Graph, node, slice } from './graph.js'
import { times } from './layers.js'

/** Cosines and sines of the angles of all positions of a call, float32, batch x 1 x tokens x (dims / 2). */
export interface RotaryAngles {
  readonly cos: string
  readonly sin: string
}

/**
 * The angles of a call. They are computed in float64 and brought between -pi and pi before they are rounded, so that far
 * positions have as good ones as near ones.
 *
 * @param positions int64, batch x tokens
 */
export function rotaryAngles(graph: Graph, rotary: RotaryDescription, positions: string): RotaryAngles {
  const axes = constant(graph, 'int64', [1, 3])
  const places = cast(graph, node(graph, 'Unsqueeze', [positions, axes]), 'float64')
  const { value: frequencies, attentionFactor } = frequenciesOf(graph, rotary, positions)
  const angles = node(graph, 'Mul', [places, frequencies])
  const turn = constant(graph, 'float64', [2 * Math.PI], [])
  const turns = node(graph, 'Round', [node(graph, 'Div', [angles, turn])])
  const reduced = cast(graph, node(graph, 'Sub', [angles, node(graph, 'Mul', [turns, turn])]), 'float32')
  const waves = (op: string) => times(graph, node(graph, op, [reduced]), attentionFactor)
  return { cos: waves('Cos'), sin: waves('Sin') }
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

/** Frequencies, float64; with some kinds of scaling they depend on how long the sequences are by then. */
function frequenciesOf(
  graph: Graph,
  rotary: RotaryDescription,
  positions: string,
): { value: string; attentionFactor: number } {
  const { scaling, dims, theta } = rotary
  const at = (length: number) => {
    const { frequencies, attentionFactor } = rotaryFrequencies(rotary, length)
    return { value: constant(graph, 'float64', frequencies), attentionFactor }
  }
  if (scaling.kind === 'longrope') {
    const { originalMaxPositions } = scaling
    const [short, long] = [at(originalMaxPositions), at(originalMaxPositions + 1)]
    const limit = constant(graph, 'int64', [originalMaxPositions], [])
    const isLong = node(graph, 'Greater', [lengthOf(graph, positions), limit])
    return { ...short, value: node(graph, 'Where', [isLong, long.value, short.value]) }
  }
  if (scaling.kind !== 'dynamic') return at(1)
  const { factor, originalMaxPositions } = scaling
  const float64 = (value: number) => constant(graph, 'float64', [value], [])
  const length = cast(graph, lengthOf(graph, positions), 'float64')
  const stretch = node(graph, 'Div', [
    node(graph, 'Max', [length, float64(originalMaxPositions)]),
    float64(originalMaxPositions),
  ])
  const growth = node(graph, 'Sub', [node(graph, 'Mul', [stretch, float64(factor)]), float64(factor - 1)])
  const power = node(graph, 'Pow', [growth, float64(dims / (dims - 2))])
  const base = node(graph, 'Mul', [power, float64(theta)])
  const exponents = Float64Array.from({ length: dims / 2 }, (_, pair) => (-2 * pair) / dims)
  return { value: node(graph, 'Pow', [base, constant(graph, 'float64', exponents)]), attentionFactor: 1 }
}

/** The positions there are by the end of a call, int64, no dimensions. */
function lengthOf(graph: Graph, positions: string): string {
  const last = node(graph, 'ReduceMax', [positions], { keepdims: 0 })
  return node(graph, 'Add', [last, constant(graph, 'int64', [1], [])])
}
