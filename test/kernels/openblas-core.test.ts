import { describe, expect, it } from 'vitest'
import { fasterCore, processorFlags } from '../../src/kernels/native/openblas-core.js'
import { availableBlas } from '../support/blas.js'

const avx2 = ['sse3', 'avx', 'avx2', 'fma']
const avx512 = [...avx2, 'avx512f', 'avx512dq', 'avx512cd', 'avx512bw', 'avx512vl']
const blas = await availableBlas()

describe('the core of an OpenBLAS', () => {
  it('is the fastest that the processor can run, where the library does not know it', () => {
    expect(fasterCore('Prescott', avx512)).toBe('SkylakeX')
    expect(fasterCore('Prescott', avx2)).toBe('Haswell')
    expect(fasterCore('Barcelona', avx2)).toBe('Haswell')
    expect(fasterCore('Prescott', [...avx2, 'avx512f'])).toBe('Haswell')
  })

  it('stays what the library chose, where that is as new as the processor', () => {
    for (const core of ['Haswell', 'SkylakeX', 'Cooperlake', 'Zen', 'neoversen1']) {
      expect(fasterCore(core, avx512)).toBeUndefined()
    }
    expect(fasterCore('Prescott', ['sse3'])).toBeUndefined()
    expect(fasterCore('Prescott', [])).toBeUndefined()
  })

  it.skipIf(!blas?.description.startsWith('OpenBLAS') || process.env.OPENBLAS_CORETYPE !== undefined)(
    'is none of before AVX2 on a processor that has it',
    () => {
      const core = blas!.description.split(' ').at(-1)!
      expect(fasterCore(core, processorFlags())).toBeUndefined()
      expect(process.env.OPENBLAS_CORETYPE).toBeUndefined()
    },
  )
})
