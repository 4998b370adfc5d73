import { wholeBlock } from '../../../kernels/contract.js'
import { forwardKernels } from '../../../kernels/forward-kernels.js'
import type { PackedActivations } from '../../../kernels/packed-contract.js'
import { preparePackedWeight } from '../../../packing/packed-weight.js'
import type { LinearWeights, NormWeights } from '../ops.js'
import { expandedWeight, isPrepared, type LinearWeight } from '../weight-forms.js'
import type { KernelRows } from './kernel-scope.js'

/** Bytes of dense weights in the kernels' memory at most: 2 GiB are all there is, and activations need room too. */
const HELD_BYTES = 2 ** 30
/** The same of all weights, where packed ones are among them. */
const HELD_PACKED_BYTES = 1.75 * 2 ** 30

let activations: PackedActivations = 'float32'

/** How finely products of few rows with packed weights see their operand from now on; at the start `'float32'`. */
export function setPackedActivations(fineness: PackedActivations): void {
  activations = fineness
}

const held = new Map<LinearWeight, number>()
let heldBytes = 0
/** The memory of weights in bfloat16. */
const words = new Map<Uint16Array, Float32Array>()

/** `y = x W^T`, whatever form W has. A packed weight that is not held is prepared for this product alone. */
export function multiplyWeights(x: KernelRows, weights: LinearWeights, y: KernelRows): void {
  const { rows, cols } = weights
  if (weights.weight instanceof Uint16Array && words.has(weights.weight)) {
    forwardKernels().multiplyBfloats(x.rows, rows, cols, x.data, weights.weight, y.data)
    return
  }
  const weight = weights.weight instanceof Uint16Array ? expandedWeight(weights) : weights.weight
  const [input, output] = [wholeBlock(x.data, cols), wholeBlock(y.data, rows)]
  const kernels = forwardKernels()
  if (weight instanceof Float32Array) {
    kernels.gemm('ABt', x.rows, rows, cols, 1, input, wholeBlock(weight, cols), 0, output)
    return
  }
  if (isPrepared(weight)) {
    kernels.multiplyPacked(x.rows, input, weight, output, activations)
    return
  }
  const prepared = preparePackedWeight(weight)
  try {
    kernels.multiplyPacked(x.rows, input, prepared, output, activations)
  } finally {
    kernels.releasePacked(prepared)
  }
}

/**
 * Weights in the kernels' memory, where there is room: products with few rows then read dense ones without a copy, and
 * packed ones need not be prepared each time. Beyond, weights are given back as they are.
 */
export function holdWeights(weights: LinearWeights): LinearWeights {
  const { weight } = weights
  if (weight instanceof Float32Array) {
    if (held.has(weight) || heldBytes + weight.byteLength > HELD_BYTES) return weights
    const copy = forwardKernels().allocate(weight.length)
    copy.set(weight)
    return holding(weights, copy, weight.byteLength)
  }
  if (weight instanceof Uint16Array) {
    const bytes = 4 * Math.ceil(weight.length / 2)
    if (words.has(weight) || heldBytes + bytes > HELD_PACKED_BYTES) return weights
    const memory = forwardKernels().allocate(bytes / 4)
    const copy = new Uint16Array(memory.buffer, memory.byteOffset, weight.length)
    copy.set(weight)
    words.set(copy, memory)
    return holding(weights, copy, bytes)
  }
  if (isPrepared(weight)) return weights
  const prepared = preparePackedWeight(weight)
  if (heldBytes + prepared.bytes <= HELD_PACKED_BYTES) return holding(weights, prepared, prepared.bytes)
  forwardKernels().releasePacked(prepared)
  return weights
}

function holding(weights: LinearWeights, weight: LinearWeight, bytes: number): LinearWeights {
  held.set(weight, bytes)
  heldBytes += bytes
  return { ...weights, weight }
}

/** Frees what {@link holdWeights} took, if these weights are what it returned. */
export function releaseHeld(weights: LinearWeights | NormWeights): void {
  if (!('weight' in weights)) return
  const { weight } = weights
  const bytes = held.get(weight)
  if (bytes === undefined) return
  held.delete(weight)
  heldBytes -= bytes
  if (weight instanceof Float32Array) forwardKernels().release(weight)
  else if (weight instanceof Uint16Array) {
    forwardKernels().release(words.get(weight)!)
    words.delete(weight)
  } else if (isPrepared(weight)) forwardKernels().releasePacked(weight)
}
