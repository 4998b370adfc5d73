import { readFileSync } from 'node:fs'
import os from 'node:os'
import { kernels, threadCount } from '../../src/kernels/kernels.js'

/** What a figure depends on beside the code. */
export interface Environment {
  readonly date: string
  readonly processor: string
  /** Cores that the process may use. */
  readonly cores: number
  readonly memoryGiB: number
  readonly system: string
  readonly node: string
  readonly package: string
  /** Build of the kernels that is used unless a row says otherwise. */
  readonly kernels: string
  readonly threads: number
  /** Processes that wanted a core in the minute before; well below 1 on an idle machine. */
  readonly loadBefore: number
}

export function environment(): Environment {
  const { name, version } = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  ) as Record<'name' | 'version', string>
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: os.cpus()[0]?.model.trim() ?? 'unknown processor',
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.arch()}`,
    node: process.version,
    package: `${name} ${version}`,
    kernels: kernels().name,
    threads: threadCount(),
    loadBefore: os.loadavg()[0],
  }
}

/** The environment in one line. */
export function describe(from: Environment): string {
  return [
    from.processor,
    `${from.cores} ${from.cores === 1 ? 'core' : 'cores'}`,
    `${from.memoryGiB} GiB`,
    from.system,
    `Node ${from.node}`,
    from.package,
    `kernels ${from.kernels} on ${from.threads} ${from.threads === 1 ? 'thread' : 'threads'}`,
    `load before ${from.loadBefore.toFixed(2)}`,
    from.date,
  ].join(', ')
}
