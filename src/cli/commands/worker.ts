import { OptionError } from '../../common/errors.js'
import type { WorkerEvent } from '../../distributed/jobs.js'
import { workerFlags } from '../flags/worker-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatSeconds } from '../terminal/format.js'

/** `gptvq worker --redis URL` */
export const workerCommand = defineCommand({
  name: 'worker',
  summary: 'do work of gptvq quantize for other machines',
  about:
    'Takes jobs of gptvq quantize --redis from a Redis server, one at a time, until Ctrl-C or SIGTERM, which give the job at ' +
    'work back. Start one on each machine, on that of gptvq quantize too. Only jobs are taken whose bytes come out the ' +
    'same here: same version of gptvq and Node, same rounding of products.',
  examples: [
    'worker --redis redis://10.0.0.5',
    'worker --redis rediss://:SECRET@10.0.0.5 --shared /mnt/gptvq',
  ],
  flags: workerFlags,
  async run(_, { redis: given, ...flags }, { signal, print, note, env }) {
    const redis = given ?? env.GPTVQ_REDIS
    if (!redis) {
      throw new OptionError(
        'redis',
        'is missing; give the URL of a Redis server, e.g. --redis redis://localhost',
      )
    }
    const { startWorker } = await import('../../distributed/worker.js')
    const worker = await startWorker({ ...flags, redis, onJob: (event) => note(logLine(event)) })
    print(`takes jobs as ${worker.queues.join(', ')}; Ctrl-C ends it\n`)
    await new Promise<void>((stop) => {
      if (signal?.aborted) stop()
      signal?.addEventListener('abort', () => stop())
    })
    await worker.close()
    return { json: { queues: worker.queues }, text: '' }
  },
})

function logLine({ job, state, seconds }: WorkerEvent): string {
  return seconds === undefined ? `${job}: ${state}` : `${job}: ${state}, ${formatSeconds(seconds)}`
}
