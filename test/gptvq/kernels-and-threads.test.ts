import { afterAll, describe, expect, it } from 'vitest'
import type { VqOptions } from '../../src/gptvq/options.js'
import { quantizeLayer } from '../../src/gptvq/quantize-layer.js'
import { reconstructionError } from '../../src/gptvq/reconstruction-error.js'
import type { KernelName } from '../../src/kernels/contract.js'
import { setThreads, threadCount, useKernels } from '../../src/kernels/kernels.js'
import { bestBuild } from '../../src/kernels/wasm/runtime/runtime.js'
import { packLayer } from '../../src/packing/pack-layer.js'
import { dequantizeLayer } from '../../src/packing/vq-layer.js'
import { gaussianMatrix, randomHessian } from '../support/random-matrix.js'

const threads = threadCount()
afterAll(() => {
  setThreads(threads)
  useKernels(bestBuild())
})

const weight = gaussianMatrix(150, 301, 3)
const hessian = randomHessian(301, 700, 4)
const settings: readonly VqOptions[] = [
  { vectorDim: 1, bits: 3, groupSize: 4096 },
  { vectorDim: 2, bits: 2, groupSize: 2048, columnsPerGroup: 128 },
  { vectorDim: 4, bits: 2, groupSize: 8192 },
  { vectorDim: 2, bits: 2, groupSize: 2048, columnsPerGroup: 128, scaleBlockSize: 32 },
  { vectorDim: 2, bits: 2, trellisBits: 4, groupSize: 32 * 256 },
  { vectorDim: 2, bits: 1.5, trellisBits: 5, groupSize: 8192, columnsPerGroup: 128 },
]
const builds: readonly KernelName[] = bestBuild() === 'relaxed' ? ['baseline', 'relaxed'] : ['baseline']

const quantize = (options: VqOptions) =>
  quantizeLayer(weight, hessian, { ...options, ...(!options.trellisBits && { kmeansIterations: 10 }) })

describe.each(settings)(
  'a whole layer, vectorDim $vectorDim, scales $scaleBlockSize, trellis $trellisBits',
  (options) => {
    it.each(builds)('has the same bytes on 1, 2 and 3 threads, %s build', async (build) => {
      useKernels(build)
      setThreads(1)
      const alone = packLayer(await quantize(options))
      for (const count of [2, 3]) {
        setThreads(count)
        expect(packLayer(await quantize(options))).toEqual(alone)
      }
    })

    it('is as good by the SIMD kernels as by the plain ones, within 3 percent of its error', async () => {
      const errorBy = async (name: KernelName) => {
        useKernels(name)
        return reconstructionError(weight, dequantizeLayer(await quantize(options)), hessian).relative
      }
      const plain = await errorBy('reference')
      for (const build of builds) expect(Math.abs((await errorBy(build)) / plain - 1)).toBeLessThan(0.03)
    })
  },
)
