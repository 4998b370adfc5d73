/** Where the work on a model stands. */
export interface Progress {
  /** What is being done now, in words, e.g. `'block 2 of 4: quantizing mlp.up_proj'`. */
  readonly step: string
  /** Share of the whole work done, 0 to 1; never falls. */
  readonly done: number
}

/** Is told how far a long work has come. */
export type OnProgress = (progress: Progress) => void

/** Reports the progress of a part of the work, its own share counted from 0 to 1. */
export type PartProgress = (step: string, done: number) => void

/** Progress of the part of the work that lies between the shares `from` and `to` of the whole. */
export function partOf(onProgress: OnProgress | undefined, from: number, to: number): PartProgress {
  return (step, done) => onProgress?.({ step, done: from + (to - from) * Math.min(1, done) })
}
