import { type Branch, cast, type Graph, ints, node } from '../graph.js'

/**
 * Stages that weights are decoded in. onnxruntime goes over a graph ten times at most when it loads it; what is not folded
 * by then is decoded in every run.
 */
const STAGES = 8

/** Gives what a weight's stored values are to be combined with by `BitwiseOr` before they are decoded; undefined: nothing. */
export type NextGate = (values: number) => string | undefined

/**
 * Parts the weights of a model into stages. onnxruntime folds what depends on constants alone in passes over the whole graph,
 * and what decoding gives on the way, several times the weights, is freed only at the end of a pass. So the stored values of
 * every stage but the first depend on a zero (uint8, one value) that becomes a constant one pass after that of the stage
 * before: it comes out of an `If`, which a pass replaces by the operations in its branch without folding these. Where a
 * runtime folds otherwise, or not at all, a zero is a zero.
 *
 * @param total values of all weights that are decoded
 * @returns gives the gate of the next weight, of so many values
 */
export function decodingStages(graph: Graph, total: number): NextGate {
  let [stage, begun] = [0, 0]
  let one = ints(graph, 1)
  return (values) => {
    const due = Math.min(STAGES - 1, Math.floor((STAGES * begun) / total))
    for (; stage < due; stage++) one = onePassLater(graph, one, stage)
    begun += values
    return stage === 0 ? undefined : cast(graph, node(graph, 'Sub', [one, ints(graph, 1)]), 'uint8')
  }
}

/**
 * A one (int64, one dimension) out of a one, which becomes a constant a pass later: the size of what a branch sees is not known
 * there, only where the branch was put in the place of the `If`.
 */
function onePassLater(graph: Graph, one: string, stage: number): string {
  const sized = node(graph, 'Reshape', [one, node(graph, 'Abs', [one])])
  const branch = (which: string): { branch: Branch } => {
    const name = `stage_${stage}_${which}`
    const nodes = [{ op: 'Shape', domain: '', inputs: [sized], outputs: [name], attributes: {} }]
    return { branch: { nodes, output: { name, type: 'int64', dims: [1] } } }
  }
  return node(graph, 'If', [cast(graph, one, 'bool')], {
    then_branch: branch('then'),
    else_branch: branch('else'),
  })
}

/** Stored values behind their gate. */
export function gated(graph: Graph, stored: string, gate: string | undefined): string {
  return gate === undefined ? stored : node(graph, 'BitwiseOr', [stored, gate])
}
