/** The parts of quantizing a layer whose time can be watched. */
export type LayerPhase = 'factor' | 'codebooks' | 'columns' | 'update' | 'refine'

/** Is told how long a stretch of a phase took; a phase comes in many stretches. */
export type OnPhase = (phase: LayerPhase, seconds: number) => void

/** Runs a stretch of work as part of a phase. */
export type PhaseClock = <T>(phase: LayerPhase, work: () => T | Promise<T>) => Promise<T>

export function phaseClock(onPhase: OnPhase | undefined): PhaseClock {
  return async (phase, work) => {
    const start = performance.now()
    const result = await work()
    onPhase?.(phase, (performance.now() - start) / 1000)
    return result
  }
}
