import { AbortedError } from '../errors.js'
import { type LayerWork, quantizeHere } from '../pipeline/quantize/layers/layer-work.js'
import { fromJson, toJson } from './arrays-in-json.js'
import type { Blobs } from './blobs.js'
import { packError } from './carried-errors.js'
import type { QueuedJob } from './connection.js'
import type { JobResult } from './protocol.js'

/** A job's begin or end. */
export interface WorkerEvent {
  /** What is worked on, e.g. the name of a layer. */
  readonly job: string
  /** `'dropped'`: given back unfinished, to be done elsewhere or not at all. */
  readonly state: 'begun' | 'done' | 'failed' | 'dropped'
  /** Seconds that it took. */
  readonly seconds?: number
}

/** Progress is sent when it has moved by so much. */
const PROGRESS_STEP = 0.02

/** Does one job: reads its input, works, and puts its output where the coordinator finds it. */
export async function doJob(
  job: QueuedJob,
  blobs: Blobs,
  signal: AbortSignal,
  tell: (what: string, state: WorkerEvent['state']) => void,
): Promise<JobResult> {
  const work = (await fromJson(job.data.input, (hash) => blobs.get(hash))) as LayerWork
  tell(work.name, 'begun')
  let shown = 0
  const onProgress = (done: number) => {
    if (done - shown < PROGRESS_STEP) return
    shown = done
    job.updateProgress(done).catch(() => {})
  }
  try {
    const result = await quantizeHere(work, { onProgress, signal })
    const kept = new Set<string>()
    const output = await toJson(result, async (bytes) => {
      const hash = await blobs.put(bytes)
      kept.add(hash)
      return hash
    })
    tell(work.name, 'done')
    return { status: 'done', output, blobs: [...kept] }
  } catch (error) {
    if (error instanceof AbortedError) {
      tell(work.name, 'dropped')
      return { status: 'dropped' }
    }
    tell(work.name, 'failed')
    const packed = packError(error)
    if (packed === undefined) throw error
    return packed
  }
}
