import { describe, expect, it } from 'vitest'
import { type CoordinatorState, type Pending, pollJob } from '../../src/distributed/pending-jobs.js'

/** A queue whose one job is done as soon as anything was asked about it. */
function queueOfSwiftJob() {
  let asked = 0
  const isDone = () => asked++ > 0
  const stateOf = async () => (isDone() ? 'completed' : 'active')
  return {
    getJobState: stateOf,
    getJob: async (id: string) => ({
      id,
      returnvalue: isDone() ? { status: 'done', output: '1', blobs: [] } : null,
      getState: stateOf,
      remove: async () => {},
    }),
  }
}

describe('a job that is done while one looks at it', () => {
  it('has its result read, and is not done again', async () => {
    const sent: string[] = []
    const queue = { ...queueOfSwiftJob(), add: async (kind: string) => sent.push(kind) }
    const pending = new Map<string, Pending>()
    const state = { queue, pending, uses: new Map(), blobs: {} } as unknown as CoordinatorState
    const results: unknown[] = []
    const job = {
      ...{ kind: 'layer', attempts: 0, blobs: [], ended: false, progress: 0, isDue: () => true },
      job: { id: '7', remove: async () => {} },
      resolve: (value: unknown) => results.push(value),
    } as unknown as Pending
    pending.set('7', job)
    for (let looks = 0; looks < 3 && pending.has('7'); looks++) await pollJob(state, job)
    expect(results).toEqual([1])
    expect(sent).toEqual([])
    expect(job.attempts).toBe(0)
  })
})
