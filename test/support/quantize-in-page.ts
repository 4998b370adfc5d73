// Runs in Node and, bundled, in a browser: the same layer quantized in both.
import {
  dequantizeLayer,
  HessianAccumulator,
  matrix,
  packLayer,
  quantizeLayer,
  reconstructionError,
} from 'gptvq'
import { randomGenerator } from '../../src/common/random.js'
import { useKernels } from '../../src/kernels/kernels.js'
import { bestBuild, type KernelBuild } from '../../src/kernels/wasm/runtime/runtime.js'

/** What can be passed out of a page. */
export interface QuantizedInPage {
  readonly build: KernelBuild
  /** Bytes of indices, codebooks and scales. */
  readonly indices: number[]
  readonly codebooks: number[]
  readonly codebookScales: number[]
  readonly relativeError: number
}

/** Quantizes a 64 x 64 layer; its weights and inputs are sums and products only, so that every engine makes the same. */
export async function quantizeInPage(build: KernelBuild | 'best'): Promise<QuantizedInPage> {
  const used = build === 'best' ? bestBuild() : build
  useKernels(used)
  const random = randomGenerator(7)
  const spread = () => random() + random() + random() - 1.5
  const weight = matrix(64, 64, Float32Array.from({ length: 64 * 64 }, spread))
  const inputs = new HessianAccumulator(64)
  const activations = matrix(256, 64)
  for (let token = 0; token < 256; token++) {
    const common = spread()
    for (let j = 0; j < 64; j++) activations.data[64 * token + j] = spread() + common * (1 + (j % 5))
  }
  inputs.add(activations)
  const hessian = inputs.hessian()
  const layer = await quantizeLayer(weight, hessian, { bits: 2, groupSize: 1024 })
  const { indices, codebooks, codebookScales } = packLayer(layer)
  return {
    build: used,
    indices: [...indices],
    codebooks: [...codebooks],
    codebookScales: [...codebookScales],
    relativeError: reconstructionError(weight, dequantizeLayer(layer), hessian).relative,
  }
}
