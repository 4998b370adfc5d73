import { AbortedError } from '../common/errors.js'
import type { Matrix } from '../common/matrix.js'
import { ownFactors } from '../hessian/inverse-factor.js'
import { chunkHere } from '../pipeline/calibrate/chunk-work.js'
import { panelsHere } from '../pipeline/quantize/layers/layer-panels.js'
import { type LayerWatch, quantizeHere } from '../pipeline/quantize/layers/layer-work.js'
import { toJson } from './arrays-in-json.js'
import type { Blobs } from './blobs.js'
import { packError } from './carried-errors.js'
import type { QueuedJob } from './connection.js'
import type { InputCache } from './input-cache.js'
import { type JobInput, type JobKind, jobName, type WorkerEvent } from './jobs.js'
import type { JobResult } from './protocol.js'

/** Progress is sent when it has moved by so much. */
const PROGRESS_STEP = 0.02

/** What is done with the input of each kind of job. */
type Doer = (input: never, watch: LayerWatch) => Promise<unknown>
const doers: Readonly<Record<JobKind, Doer>> = {
  layer: quantizeHere,
  pull: panelsHere.pull,
  panel: panelsHere.panel,
  chunk: chunkHere,
}

/** An input that may come with a Hessian. */
interface Work extends JobInput {
  readonly hessian?: Matrix
  readonly inputs?: { readonly hessian: Matrix }
}

/** Does one job: reads its input, works, and puts its output where the coordinator finds it. */
export async function doJob(
  job: QueuedJob,
  blobs: Blobs,
  cache: InputCache,
  signal: AbortSignal,
  tell: (what: string, state: WorkerEvent['state']) => void,
): Promise<JobResult> {
  const work = (await cache.read(job.data.input, blobs)) as Work
  const hessian = work.hessian ?? work.inputs?.hessian
  const factors = hessian ? cache.factorsOf(hessian) : ownFactors
  const what = jobName(work)
  tell(what, 'begun')
  let shown = 0
  const onProgress = (done: number) => {
    if (done - shown < PROGRESS_STEP) return
    shown = done
    job.updateProgress(done).catch(() => {})
  }
  try {
    const result = await doers[job.data.kind](work as never, { onProgress, signal, factors })
    const kept = new Set<string>()
    const output = await toJson(result, async (bytes) => {
      // results may be alike, of zeros say, and each is removed when it has been read
      const name = await blobs.put(bytes, { owner: job.id! })
      kept.add(name)
      return name
    })
    tell(what, 'done')
    return { status: 'done', output, blobs: [...kept] }
  } catch (error) {
    if (error instanceof AbortedError) {
      tell(what, 'dropped')
      return { status: 'dropped' }
    }
    tell(what, 'failed')
    const packed = packError(error)
    if (packed === undefined) throw error
    return packed
  }
}
