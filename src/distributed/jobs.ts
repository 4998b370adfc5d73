/** What a job is about: a whole layer, what the drift asks of some of its rows, or some rows to be quantized. */
export type JobKind = 'layer' | 'pull' | 'panel'

/** A job's begin or end. */
export interface WorkerEvent {
  /** What is worked on: the name of a layer, perhaps with some of its rows. */
  readonly job: string
  /** `'dropped'`: given back unfinished, to be done elsewhere or not at all. */
  readonly state: 'begun' | 'done' | 'failed' | 'dropped'
  /** Seconds that it took. */
  readonly seconds?: number
}
