import type { ForwardKernels } from '../../src/kernels/forward-contract.js'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'

/** Arrays of the kernels of the forward pass. */
export interface KernelArrays {
  /** How many were allocated since watching began and not released. */
  inUse(): number
  /** How many were allocated since watching began. */
  allocated(): number
  /** Ends the watching; all that was allocated must have been released. */
  stop(): void
}

/**
 * Watches the arrays that the kernels in use hand out. Released arrays are overwritten, so that who still reads one
 * reads nonsense; releasing twice, or what was never allocated, throws.
 */
export function watchKernelArrays(): KernelArrays {
  const kernels: { -readonly [K in keyof ForwardKernels]: ForwardKernels[K] } = forwardKernels()
  const { allocate, release } = kernels
  const held = new Set<Float32Array>()
  let allocated = 0
  kernels.allocate = (length) => {
    const array = allocate(length)
    held.add(array)
    allocated++
    return array
  }
  kernels.release = (array) => {
    if (!held.delete(array)) throw new Error('released an array that is not in use')
    array.fill(Number.NaN)
    release(array)
  }
  const stop = () => Object.assign(kernels, { allocate, release })
  return { inUse: () => held.size, allocated: () => allocated, stop }
}
