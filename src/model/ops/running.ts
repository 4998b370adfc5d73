import { kernelOps } from './kernels/kernel-ops.js'
import type { LinearWeights, NormWeights, Ops } from './ops.js'
import { usesOwnKernels } from './tensors/products.js'
import { tensorOps } from './tensors/tensor-ops.js'

/** A matrix of the engine that runs: only its {@link Ops} know what is in it. */
export interface Handle {
  readonly isHandle: never
}

/** What forward passes run on: the kernels of this package, or tensors on another engine. */
export function runningOps(): Ops<Handle> {
  const ops: unknown = usesOwnKernels() ? kernelOps : tensorOps()
  return ops as Ops<Handle>
}

/** Frees what any engine holds for weights. */
export function releaseWeights(weights: LinearWeights | NormWeights): void {
  kernelOps.release(weights)
  tensorOps().release(weights)
}
