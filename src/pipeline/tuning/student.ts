import type { DecoderDescription } from '../../model/decoder/description.js'
import { type Embedding, openEmbedding } from '../../model/decoder/embedding.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { decodeCodebooks, type VqLayer } from '../../packing/vq-layer.js'
import { withQuantizedLayers } from '../folders/open-model.js'
import { type AdamState, startAdam, stepAdam } from './adam.js'
import { codebookSizes, withCodebooks } from './codebook-values.js'

/** The quantized model that is tuned. What runs are its codebooks as they would be stored. */
export interface Student {
  readonly config: DecoderDescription
  readonly source: WeightSource
  readonly embed: Embedding
  /** The layers as they stand, by the name of their weight; {@link moveStudent} replaces them. */
  readonly layers: Map<string, VqLayer>
  readonly states: ReadonlyMap<string, AdamState>
}

export async function openStudent(
  source: WeightSource,
  config: DecoderDescription,
  initial: ReadonlyMap<string, VqLayer>,
): Promise<Student> {
  const layers = new Map(initial)
  const states = new Map<string, AdamState>()
  for (const [name, layer] of layers) {
    const values = Float64Array.from(decodeCodebooks(layer))
    states.set(name, startAdam(values, codebookSizes(values, layer.codebookScales.length)))
  }
  const embed = await openEmbedding(source, config)
  return { config, source: withQuantizedLayers(rememberingVectors(source), layers), embed, layers, states }
}

/** Gradients on the codebooks of each layer, groups x k x d, by the name of its weight. */
export type CodebookGradients = ReadonlyMap<string, Float64Array>

/** Gradients of 0, to be added to. */
export function noGradients({ states }: Student): Map<string, Float64Array> {
  return new Map(Array.from(states, ([name, { values }]) => [name, new Float64Array(values.length)]))
}

/** Moves all codebooks one step against their gradients. */
export function moveStudent(student: Student, gradients: CodebookGradients, learningRate: number): void {
  for (const [name, state] of student.states) {
    stepAdam(state, gradients.get(name)!, learningRate)
    student.layers.set(name, withCodebooks(student.layers.get(name)!, state.values))
  }
}

/** Reads norms and biases, which every load of a block needs, once. */
function rememberingVectors(source: WeightSource): WeightSource {
  const known = new Map<string, Promise<Float32Array>>()
  return {
    ...source,
    floats(name) {
      if (source.shape(name)?.length !== 1) return source.floats(name)
      const values = known.get(name) ?? source.floats(name)
      known.set(name, values)
      return values
    },
  }
}
