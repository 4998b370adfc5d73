import type {
  DenseFeedForward,
  FeedForwardDescription,
  RoutedFeedForward,
} from '../../../model/decoder/description.js'
import { node, slice } from '../graph.js'
import { type GraphWeights, linear } from '../weights/weights.js'
import { activate } from './layers.js'
import { addRows, choosing, routesOf } from './routes.js'

/** What a feed-forward part gives for its normed input (tokens x hiddenSize): tokens x hiddenSize. */
export async function fedForward(
  weights: GraphWeights,
  feedForward: FeedForwardDescription,
  x: string,
): Promise<string> {
  return feedForward.kind === 'routed' ? routed(weights, feedForward, x) : dense(weights, feedForward, x)
}

async function dense(weights: GraphWeights, feedForward: DenseFeedForward, x: string): Promise<string> {
  return linear(weights, feedForward.down, await gatedBy(weights, feedForward, x))
}

async function gatedBy(weights: GraphWeights, feedForward: DenseFeedForward, x: string): Promise<string> {
  const { graph } = weights
  const { kind, activation } = feedForward
  if (kind === 'plain') return activate(graph, await linear(weights, feedForward.up, x), activation)
  const gate = (own: string, up: string) => node(graph, 'Mul', [activate(graph, own, activation), up])
  if (kind === 'gated') {
    return gate(await linear(weights, feedForward.gate, x), await linear(weights, feedForward.up, x))
  }
  const both = await linear(weights, feedForward.gateUp, x)
  const width = feedForward.gateUp.rows
  return gate(slice(graph, both, 0, width / 2, 1), slice(graph, both, width / 2, width, 1))
}

/**
 * A mixture of experts, written out one by one: each reads the rows of the tokens that chose it, none of them where there
 * is no such token, and what it gives is added to these rows. The graph grows with the experts, its work with those that
 * are chosen.
 */
async function routed(
  weights: GraphWeights,
  { router, experts, active, sumToOne, shared }: RoutedFeedForward,
  x: string,
): Promise<string> {
  const { graph } = weights
  const routes = routesOf(graph, await linear(weights, router, x), active, sumToOne)
  let mixture = shared
    ? await sharedPart(weights, shared, x)
    : node(graph, 'ConstantOfShape', [node(graph, 'Shape', [x])])
  for (const [index, expert] of experts.entries()) {
    const { tokens, shares } = choosing(graph, routes, index)
    const own = node(graph, 'Gather', [x, tokens], { axis: 0 })
    const part = node(graph, 'Mul', [await dense(weights, expert, own), shares])
    mixture = addRows(graph, mixture, tokens, part)
  }
  return mixture
}

async function sharedPart(
  weights: GraphWeights,
  { feedForward, gate }: NonNullable<RoutedFeedForward['shared']>,
  x: string,
): Promise<string> {
  const { graph } = weights
  const part = await dense(weights, feedForward, x)
  if (gate === undefined) return part
  return node(graph, 'Mul', [part, node(graph, 'Sigmoid', [await linear(weights, gate, x)])])
}
