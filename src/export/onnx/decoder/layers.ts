import { readNorm } from '../../../model/decoder/block.js'
import type { Activation, NormDescription } from '../../../model/decoder/description.js'
import type { WeightSource } from '../../../model/decoder/weights.js'
import { constant, type Graph, node, reshape, scalar } from '../graph.js'

/** Norms each run of `size` values of a row. @param width of a row */
export async function norm(
  { graph, weights }: { readonly graph: Graph; readonly weights: WeightSource },
  description: NormDescription,
  x: string,
  width: number,
): Promise<string> {
  const { kind, size, epsilon, scale, shift } = await readNorm(weights, description)
  const runs = width / size
  const cut = runs === 1 ? x : reshape(graph, x, -1, runs, size)
  const own = (values: Float32Array) => {
    return constant(graph, 'float32', values, values.length === size ? [size] : [runs, size])
  }
  const centred = kind === 'layer' ? node(graph, 'Sub', [cut, mean(graph, cut)]) : cut
  const square = mean(graph, node(graph, 'Mul', [centred, centred]))
  const root = node(graph, 'Sqrt', [node(graph, 'Add', [square, scalar(graph, epsilon)])])
  const scaled = node(graph, 'Mul', [node(graph, 'Div', [centred, root]), own(scale)])
  const normed = shift ? node(graph, 'Add', [scaled, own(shift)]) : scaled
  return runs === 1 ? normed : reshape(graph, normed, -1, width)
}

/** `activation(x)` */
export function activate(graph: Graph, x: string, activation: Activation): string {
  switch (activation) {
    case 'silu':
      return node(graph, 'Mul', [x, node(graph, 'Sigmoid', [x])])
    case 'gelu':
      return node(graph, 'Gelu', [x], { approximate: { text: 'none' } })
    case 'gelu-tanh':
      return node(graph, 'Gelu', [x], { approximate: { text: 'tanh' } })
    case 'relu':
      return node(graph, 'Relu', [x])
  }
}

/** `factor x` */
export function times(graph: Graph, x: string, factor: number): string {
  return factor === 1 ? x : node(graph, 'Mul', [x, scalar(graph, factor)])
}

/** `cap tanh(x / cap)`, where there is a cap. */
export function softCapped(graph: Graph, x: string, cap: number | undefined): string {
  return cap === undefined ? x : times(graph, node(graph, 'Tanh', [times(graph, x, 1 / cap)]), cap)
}

function mean(graph: Graph, x: string): string {
  return node(graph, 'ReduceMean', [x, constant(graph, 'int64', [-1])])
}
