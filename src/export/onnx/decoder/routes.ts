import { constant, type Graph, ints, largest, node, reshape, slice } from '../graph.js'

/** Both tokens x active. */
export interface Routes {
  /** Numbers of experts, int64. */
  readonly experts: string
  /** What they are multiplied by, float32. */
  readonly shares: string
}

/**
 * The experts of each token.
 *
 * @param logits of the router, tokens x experts
 * @param active experts of a token
 * @param sumToOne whether its shares of the softmax are divided by their sum
 */
export function routesOf(graph: Graph, logits: string, active: number, sumToOne: boolean): Routes {
  // by the logits: shares of different ones may round to the same
  const { places: experts } = largest(graph, logits, active)
  const all = node(graph, 'Softmax', [logits], { axis: -1 })
  const shares = node(graph, 'GatherElements', [all, experts], { axis: -1 })
  if (!sumToOne) return { experts, shares }
  return {
    experts,
    shares: node(graph, 'Div', [shares, node(graph, 'ReduceSum', [shares, ints(graph, -1)])]),
  }
}

/** The tokens that chose an expert, int64, one dimension, and its share of each, tokens x 1. */
export function choosing(
  graph: Graph,
  { experts, shares }: Routes,
  index: number,
): { tokens: string; shares: string } {
  const isOwn = node(graph, 'Equal', [experts, constant(graph, 'int64', [index], [])])
  // a token chooses an expert once, so a row of these has one share at most
  const places = node(graph, 'NonZero', [isOwn])
  const tokens = reshape(graph, slice(graph, places, 0, 1, 0), -1)
  const pairs = node(graph, 'Transpose', [places], { perm: [1, 0] })
  return {
    tokens,
    shares: node(graph, 'Unsqueeze', [node(graph, 'GatherND', [shares, pairs]), ints(graph, 1)]),
  }
}

/** A matrix with `rows` added to those that `tokens` names. */
export function addRows(graph: Graph, to: string, tokens: string, rows: string): string {
  const places = node(graph, 'Unsqueeze', [tokens, ints(graph, 1)])
  return node(graph, 'ScatterND', [to, places, rows], { reduction: { text: 'add' } })
}
