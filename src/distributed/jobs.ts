import type { PanelRows } from '../gptvq/layer-panels.js'

/**
 * What a job is about: a whole layer, what the drift asks of some of its rows, some rows to be quantized, or some of the
 * calibration sequences to be taken through a block.
 */
export type JobKind = 'layer' | 'pull' | 'panel' | 'chunk'

/** What the inputs of all kinds of jobs have. */
export interface JobInput {
  /** What is worked on. */
  readonly name: string
  readonly part?: PanelRows
}

/** What a job works on, for people. */
export function jobName({ name, part }: JobInput): string {
  return part ? `${name}, rows ${part.firstRow + 1} to ${part.lastRow}` : name
}

/** A job's begin or end. */
export interface WorkerEvent {
  /** What is worked on: the name of a layer, perhaps with some of its rows, or layers and calibration sequences. */
  readonly job: string
  /** `'dropped'`: given back unfinished, to be done elsewhere or not at all. */
  readonly state: 'begun' | 'done' | 'failed' | 'dropped'
  /** Seconds that it took. */
  readonly seconds?: number
}
