import { OptionError, UnsupportedError } from '../../../common/errors.js'
import { kernels } from '../../../kernels/kernels.js'
import type { KernelBuild } from '../../../kernels/wasm/runtime/runtime.js'
import type { StartedEngine } from '../../../model/ops/engine.js'
import { formatBytes } from '../../../report/drawing/units.js'
import { chunkTeam } from '../../calibrate/chunk-team.js'
import type { StageRunner } from '../../calibrate/stage-runner.js'
import { isCalibrated, type MethodSettings } from '../quantize-options.js'
import type { LayerPlan } from './layer-plan.js'
import type { LayerRunner } from './layer-work.js'
import { teamRunner } from './team-runner.js'

/** Work over many machines. */
export interface TeamOptions {
  /**
   * The URL of a Redis server, `redis://[USER:PASSWORD@]HOST[:PORT][/NUMBER]` or `rediss://` for TLS: layers are then
   * quantized, and with the engine `wasm` calibrated too, by the workers (`startWorker`, `gptvq worker`) that are connected to it. The bytes are those of one
   * machine. Never logged or recorded.
   */
  redis?: string
  /** A folder that all machines see: the tensors of the jobs go through it and not through Redis. */
  shared?: string
}

/** Those who calibrate and quantize layers elsewhere. */
export interface LayerTeam {
  readonly runLayer: LayerRunner
  /** Undefined where the calibration tokens stay here. */
  readonly runStage: StageRunner | undefined
  /** How it stands, for people. */
  describe(): string
  close(): Promise<void>
}

/** Whose layers go out. */
interface TeamWork {
  readonly plan: LayerPlan
  readonly settings: MethodSettings
}

/**
 * Connects where that is asked for.
 *
 * @param work what is to be done, where it is known: what has no room in Redis is then refused before it begins
 * @throws OptionError, UnsupportedError saying what to do
 */
export async function openTeam(
  { redis, shared }: TeamOptions,
  products: string,
  engine: StartedEngine | null,
  work?: TeamWork,
): Promise<LayerTeam | undefined> {
  if (redis === undefined) {
    if (shared === undefined) return undefined
    throw new OptionError(
      'shared',
      `found ${JSON.stringify(shared)} without redis; it is for work over machines`,
    )
  }
  const { REDIS_BYTES } = await import('../../../distributed/blobs.js')
  if (work && shared === undefined) requireRoom(work, REDIS_BYTES)
  const { openCoordinator } = await import('../../../distributed/coordinator.js')
  const isWasm = products === 'wasm'
  const arithmetic = { build: kernels().name as KernelBuild, products: isWasm ? 'wasm' : 'blas' } as const
  const coordinator = await openCoordinator({ redis, shared, arithmetic })
  return {
    runLayer: teamRunner(coordinator, isWasm),
    // other engines give no bytes that machines would agree on
    runStage: engine === 'wasm' ? chunkTeam(coordinator) : undefined,
    describe: () => coordinator.describe(),
    close: () => coordinator.close(),
  }
}

/** @param most bytes that the tensors of a layer may take @throws UnsupportedError that names the first that takes more */
export function requireRoom({ plan, settings }: TeamWork, most: number): void {
  for (const { name, rows, cols } of plan.linears) {
    const own = plan.settingsOf(name)
    if (own === undefined) continue
    // a Hessian, and the drift of two halves of the text, for all rows whether they go out in panels or not
    const sums = isCalibrated(own) ? 1 + (settings.order.driftCorrection > 0 ? 2 : 0) : 0
    const bytes = 4 * (rows * cols + sums * cols ** 2)
    if (bytes <= most) continue
    throw new UnsupportedError(
      `${name}: its weight and the statistics of its inputs take ${formatBytes(bytes)}, Redis is given ` +
        `${formatBytes(most)} at most; give the coordinator and all workers a folder that they share (--shared DIR)`,
    )
  }
}
