import { OptionError } from '../../../common/errors.js'
import { builtin } from '../../builtin.js'
import { hasWorkers } from './workers.js'

export const MOST_THREADS = 256

interface Os {
  availableParallelism(): number
}
interface Files {
  readFileSync(path: string, encoding: 'utf8'): string
}

/**
 * How many threads the kernels use unless told otherwise: `GPTVQ_THREADS`, else the cores that the process may use
 * (its affinity, and a container's quota of processor time); in a browser the cores that it tells of, where the page is
 * cross-origin isolated, and one elsewhere.
 *
 * @throws OptionError when `GPTVQ_THREADS` is not a whole number from 1 to 256
 */
export function availableThreads(): number {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } }
  const asked = process?.env?.GPTVQ_THREADS
  if (asked !== undefined && asked !== '') {
    const count = Number(asked)
    if (Number.isInteger(count) && count >= 1 && count <= MOST_THREADS) return count
    throw new OptionError(
      'GPTVQ_THREADS',
      `found ${JSON.stringify(asked)}; expected a whole number from 1 to ${MOST_THREADS}`,
    )
  }
  const os = builtin('node:os') as Os | undefined
  const files = builtin('node:fs') as Files | undefined
  if (os === undefined || files === undefined) return coresOfBrowser()
  return Math.max(1, Math.min(MOST_THREADS, os.availableParallelism(), Math.ceil(coreQuota(files))))
}

function coresOfBrowser(): number {
  const { navigator } = globalThis as { navigator?: { hardwareConcurrency?: number } }
  return hasWorkers() ? Math.max(1, Math.min(MOST_THREADS, navigator?.hardwareConcurrency ?? 1)) : 1
}

/** Cores' worth of processor time that the control group grants, Infinity without a limit. */
function coreQuota(files: Files): number {
  const read = (path: string) => {
    try {
      return files.readFileSync(path, 'utf8').trim()
    } catch {
      return undefined
    }
  }
  const [quota, period] = read('/sys/fs/cgroup/cpu.max')?.split(' ').map(Number) ?? [
    Number(read('/sys/fs/cgroup/cpu/cpu.cfs_quota_us')),
    Number(read('/sys/fs/cgroup/cpu/cpu.cfs_period_us')),
  ]
  return quota > 0 && period > 0 ? quota / period : Number.POSITIVE_INFINITY
}
