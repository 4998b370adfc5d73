import { kernelOps } from './kernels/kernel-ops.js'
import type { LinearWeights, NormWeights, Ops } from './ops.js'
import type { Handle } from './running.js'

/** What stands in a browser in the place of `running.ts`: forward passes run on the kernels of this package. */
export function runningOps(): Ops<Handle> {
  const ops: unknown = kernelOps
  return ops as Ops<Handle>
}

/** Frees what the kernels hold for weights. */
export function releaseWeights(weights: LinearWeights | NormWeights): void {
  kernelOps.release(weights)
}
