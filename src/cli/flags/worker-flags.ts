import type { WorkerOptions } from '../../distributed/worker.js'
import { type FlagsOf, products, redis, shared, threads } from './flags.js'

/** The flags of `gptvq worker`. */
export const workerFlags = {
  redis: {
    ...redis,
    help: 'URL of the Redis server to take jobs from, redis://[USER:PASSWORD@]HOST[:PORT]; rediss:// for TLS',
    default: 'the environment variable GPTVQ_REDIS, which no list of processes shows',
  },
  shared: { ...shared, help: "the coordinators' shared folder, as this machine sees it" },
  products,
  threads,
} as const satisfies FlagsOf<Omit<WorkerOptions, 'onJob' | 'timing'>>
