import { type ChildProcess, spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Timing } from '../../src/distributed/protocol.js'
import type { WorkerOptions } from '../../src/distributed/worker.js'
import { HessianAccumulator } from '../../src/hessian/hessian.js'
import type { LayerWork } from '../../src/pipeline/quantize/layers/layer-work.js'
import { resolveMethod } from '../../src/pipeline/quantize/quantize-options.js'
import { gaussianMatrix } from '../support/random-matrix.js'

/** So short that lost jobs are found within a test. */
export const shortTiming: Timing = { lock: 2000, stalled: 500, heartbeat: 300, poll: 50, patience: 60_000 }

/** A layer as a whole, with a Hessian of its own. */
export function layerWork(name: string, size: number, seed: number): LayerWork {
  const inputs = new HessianAccumulator(size)
  inputs.add(gaussianMatrix(2 * size, size, seed))
  return {
    name,
    weight: gaussianMatrix(size, size, seed + 1),
    inputs: { hessian: inputs.hessian(), tokens: inputs.tokens },
    settings: resolveMethod('gptvq', { bits: 2 }),
    driftShare: 1,
  }
}

/** Of two panels, and quickly done: it is high, its columns are few. */
export function highLayer(): LayerWork {
  const [rows, cols] = [66_000, 48]
  const half = (seed: number) => ({ tokens: 100, input: gaussianMatrix(cols, cols, seed) })
  const inputs = new HessianAccumulator(cols)
  inputs.add(gaussianMatrix(200, cols, 1))
  const plain = { trellisBits: 0, bits: 1, groupSize: 2000 * cols, scaleBlockSize: 'none' } as const
  return {
    name: 'high',
    weight: gaussianMatrix(rows, cols, 2),
    inputs: { hessian: inputs.hessian(), tokens: inputs.tokens, drift: [half(3), half(4)] },
    settings: resolveMethod('gptvq', { ...plain, restarts: 1, kmeansIterations: 2, refinementRounds: 1 }),
    driftShare: 1,
  }
}

export interface WorkerProcess {
  readonly child: ChildProcess
  /** Resolves when a line of its output contains `text`. */
  says(text: string): Promise<void>
  /** What it has said of its jobs, line by line. */
  jobs(): string[]
  kill(): Promise<void>
}

/**
 * Starts a worker in a process of its own.
 *
 * @param step milliseconds of each job that let nothing else have its turn
 * @param within what its command begins with, such as that it runs in a network namespace
 */
export async function workerProcess(
  options: WorkerOptions,
  step = 0,
  within: readonly string[] = [],
): Promise<WorkerProcess> {
  const script = fileURLToPath(new URL('run-worker.ts', import.meta.url))
  const own = [process.execPath, '--import', 'tsx', script, JSON.stringify(options), `${step}`]
  const [program, ...words] = [...within, ...own]
  const child = spawn(program, words, {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  const waiting = new Set<() => void>()
  child.stdout!.on('data', (text) => {
    output += text
    for (const look of [...waiting]) look()
  })
  const says = (text: string) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!output.includes(text)) return
        waiting.delete(look)
        resolve()
      }
      waiting.add(look)
      look()
    })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  await says('ready')
  return {
    child,
    says,
    jobs: () => output.split('\n').filter((line) => / (begun|done|dropped|failed)$/.test(line)),
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** What a run writes that must not depend on who did the work. */
export async function writtenBytes(folder: string): Promise<Buffer[]> {
  return Promise.all(['model.safetensors', 'config.json'].map((name) => readFile(join(folder, name))))
}
