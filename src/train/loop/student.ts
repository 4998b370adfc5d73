import type { DecoderDescription } from '../../model/decoder/description.js'
import { type Embedding, openEmbedding } from '../../model/decoder/embedding.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import type { Floats, Trainable } from '../weights/trainable.js'
import { type AdamState, startAdam, stepAdam } from './adam.js'

/** The model that is trained. What runs are its tensors as they would be stored. */
export interface Student {
  readonly config: DecoderDescription
  readonly source: WeightSource
  readonly embed: Embedding
  /** What is trained, by the name of the tensor. */
  readonly trained: ReadonlyMap<string, Trainable>
  /** One for each parameter of each tensor. */
  readonly states: ReadonlyMap<string, readonly AdamState[]>
}

/** Numbers for all parameters, by the name of the tensor: gradients, or values that were kept. */
export type ParameterValues = ReadonlyMap<string, readonly Floats[]>

/** @param weightDecay share of a weight that a step takes off, at the learning rate 1; default 0 */
export async function openStudent(
  source: WeightSource,
  config: DecoderDescription,
  trained: ReadonlyMap<string, Trainable>,
  weightDecay = 0,
): Promise<Student> {
  const states = new Map<string, readonly AdamState[]>()
  for (const [name, trainable] of trained) {
    states.set(
      name,
      trainable.parameters.map(({ values, sizes, decays }) =>
        startAdam(values, sizes, decays ? weightDecay : 0),
      ),
    )
  }
  const embed = await openEmbedding(source, config)
  return { config, source: withTrained(rememberingVectors(source), trained), embed, trained, states }
}

/** Gradients of 0, to be added to. */
export function noGradients({ states }: Student): ParameterValues {
  return mapValues(states, ({ values }) => emptyLike(values))
}

/** What a student has come to: the values of its parameters, and its indices where they are trained. */
export interface Snapshot {
  readonly parameters: ParameterValues
  readonly choices: ReadonlyMap<string, Uint16Array>
}

/** Copies it. */
export function takeSnapshot({ states, trained }: Student): Snapshot {
  const choices = new Map<string, Uint16Array>()
  for (const [name, trainable] of trained) {
    if (trainable.choices) choices.set(name, trainable.choices.values().slice())
  }
  return { parameters: mapValues(states, ({ values }) => values.slice()), choices }
}

/** Takes the student back to a snapshot. */
export function restoreSnapshot({ states, trained }: Student, { parameters, choices }: Snapshot): void {
  for (const [name, own] of states) {
    for (const [i, { values }] of own.entries()) values.set(parameters.get(name)![i])
    const indices = choices.get(name)
    if (indices) trained.get(name)!.choices!.set(indices)
    trained.get(name)!.refresh()
  }
}

/** Moves all parameters one step against their gradients. */
export function moveStudent({ states, trained }: Student, gradients: ParameterValues, rate: number): void {
  for (const [name, own] of states) {
    for (const [i, state] of own.entries()) stepAdam(state, gradients.get(name)![i], rate)
    trained.get(name)!.refresh()
  }
}

/** Scales gradients down where their norm is above `most`. @returns the norm before */
export function clipGradients(gradients: ParameterValues, most: number): number {
  let square = 0
  for (const arrays of gradients.values()) {
    for (const array of arrays) for (let i = 0; i < array.length; i++) square += array[i] ** 2
  }
  const norm = Math.sqrt(square)
  if (norm <= most) return norm
  for (const arrays of gradients.values()) {
    for (const array of arrays) for (let i = 0; i < array.length; i++) array[i] *= most / norm
  }
  return norm
}

/** Bytes that training holds for what is trained, and what is frozen of it. */
export interface StateBytes {
  /** Parameters, their gradients, the two moments of each, and the best values so far. */
  readonly trainable: number
  /** Weights in fixed point, codes, indices and scales as they would be stored. */
  readonly frozen: number
}

/** Counts the arrays. */
export function countStateBytes({ states, trained }: Student): StateBytes {
  let parameters = 0
  for (const own of states.values()) for (const { values } of own) parameters += values.byteLength
  let frozen = 0
  for (const { frozenBytes } of trained.values()) frozen += frozenBytes
  // a parameter, its gradient, mean, square, and best value
  return { trainable: 5 * parameters, frozen }
}

function emptyLike(values: Floats): Floats {
  return values instanceof Float32Array ? new Float32Array(values.length) : new Float64Array(values.length)
}

function mapValues(
  states: Student['states'],
  of: (state: AdamState) => Floats,
): Map<string, readonly Floats[]> {
  return new Map(Array.from(states, ([name, own]) => [name, own.map(of)]))
}

/** A source in which trained tensors have their values of the moment. */
function withTrained(source: WeightSource, trained: ReadonlyMap<string, Trainable>): WeightSource {
  return {
    shape: source.shape,
    rows: source.rows,
    onActivations: source.onActivations,
    floats: async (name) => trained.get(name)?.values() ?? source.floats(name),
  }
}

/** Reads norms and biases, which every load of a block needs, once. */
function rememberingVectors(source: WeightSource): WeightSource {
  const known = new Map<string, Promise<Float32Array>>()
  return {
    shape: source.shape,
    rows: source.rows,
    onActivations: source.onActivations,
    floats(name) {
      if (source.shape(name)?.length !== 1) return source.floats(name)
      const values = known.get(name) ?? source.floats(name)
      known.set(name, values)
      return values
    },
  }
}
