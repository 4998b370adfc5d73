import { constant, type Graph, node, reshape } from '../graph.js'

/**
 * An operation on each value and what belongs to its run of columns.
 *
 * @param values rows x cols
 * @param own rows x runs
 * @returns rows x cols
 */
export function runwise(
  graph: Graph,
  op: 'Mul' | 'Sub',
  values: string,
  [rows, cols]: readonly [rows: number, cols: number],
  size: number,
  own: string,
): string {
  if (size >= cols) return node(graph, op, [values, own])
  if (cols % size !== 0) {
    const runs = Array.from({ length: cols }, (_, col) => Math.floor(col / size))
    return node(graph, op, [
      values,
      node(graph, 'Gather', [own, constant(graph, 'int32', runs)], { axis: 1 }),
    ])
  }
  const cut = reshape(graph, values, rows, cols / size, size)
  const each = node(graph, 'Unsqueeze', [own, constant(graph, 'int64', [2])])
  return reshape(graph, node(graph, op, [cut, each]), rows, cols)
}
