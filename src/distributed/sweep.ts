import { type BullMq, type QueuePackages, type Redis, scanKeys } from './connection.js'
import { PREFIX, runKey } from './protocol.js'

type Queue = InstanceType<BullMq['Queue']>

const STATES = ['waiting', 'active', 'completed', 'failed'] as const

/** What BullMQ keeps of a queue without jobs; jobs have names of their own, so that its counter is not missed. */
const OF_QUEUE = ['events', 'id', 'marker', 'meta']

/** Removes what runs left that are gone, killed ones say: their jobs in all queues, and queues that are then empty. */
export async function sweepQueues({ bullmq }: QueuePackages, redis: Redis): Promise<void> {
  for (const name of await queueNames(redis)) {
    const options = { connection: redis, prefix: PREFIX, skipVersionCheck: true, skipMetasUpdate: true }
    const queue = new bullmq.Queue(name, options)
    queue.on('error', () => {})
    for (const job of await queue.getJobs(STATES)) {
      // one that a worker has goes when it notices that the run is gone
      if (job && (await redis.get(runKey(job.data.run))) === null) await job.remove().catch(() => {})
    }
    await sweepQueue(name, queue, redis)
    await queue.close()
  }
}

/** Removes an empty queue; jobs that come make it anew. */
export async function sweepQueue(name: string, queue: Queue, redis: Redis): Promise<void> {
  const counts = await queue.getJobCounts(...STATES)
  if (Object.values(counts).every((count) => count === 0)) {
    await redis.unlink(...OF_QUEUE.map((key) => `${PREFIX}:${name}:${key}`))
  }
}

async function queueNames(redis: Redis): Promise<string[]> {
  const keys = await scanKeys(redis, `${PREFIX}:*:meta`)
  return keys.map((key) => key.slice(PREFIX.length + 1, -':meta'.length))
}
