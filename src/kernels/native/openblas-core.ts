import { readFileSync } from 'node:fs'

/** Cores without AVX2 that an OpenBLAS takes a processor for which is newer than itself. */
const coresOfLastResort: readonly string[] = ['Prescott', 'Nehalem', 'Barcelona']

/** What the loops of a core need of a processor, the fastest first; names as `OPENBLAS_CORETYPE` has them. */
const fasterCores: Readonly<Record<string, readonly string[]>> = {
  SkylakeX: ['avx512f', 'avx512cd', 'avx512bw', 'avx512dq', 'avx512vl'],
  Haswell: ['avx2', 'fma'],
}

/**
 * The core that OpenBLAS should be told to use in place of `core`, its own choice. Before version 0.3.25 it knows
 * processors by their numbers, and gives those from after its time loops of 2004, a fifth as fast
 * (https://github.com/OpenMathLib/OpenBLAS/issues/4267).
 *
 * @param flags what the processor can do, as `/proc/cpuinfo` names it
 * @returns undefined where its own choice is good
 */
export function fasterCore(core: string, flags: readonly string[]): string | undefined {
  if (!coresOfLastResort.includes(core)) return undefined
  return Object.keys(fasterCores).find((name) => fasterCores[name].every((flag) => flags.includes(flag)))
}

/** What Linux says that this processor can do; elsewhere nothing is known. */
export function processorFlags(): string[] {
  if (process.platform !== 'linux') return []
  try {
    const line = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))
    return line?.[1].trim().split(/\s+/) ?? []
  } catch {
    // a system without /proc: OpenBLAS's own choice stands
    return []
  }
}
