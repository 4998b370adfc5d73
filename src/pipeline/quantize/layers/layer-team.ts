import { OptionError } from '../../../common/errors.js'
import { kernels } from '../../../kernels/kernels.js'
import type { KernelBuild } from '../../../kernels/wasm/runtime/runtime.js'
import type { StartedEngine } from '../../../model/ops/engine.js'
import { chunkTeam } from '../../calibrate/chunk-team.js'
import type { StageRunner } from '../../calibrate/stage-runner.js'
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

/** Connects where that is asked for. @throws OptionError, UnsupportedError saying what to do */
export async function openTeam(
  { redis, shared }: TeamOptions,
  products: string,
  engine: StartedEngine | null,
): Promise<LayerTeam | undefined> {
  if (redis === undefined) {
    if (shared === undefined) return undefined
    throw new OptionError(
      'shared',
      `found ${JSON.stringify(shared)} without redis; it is for work over machines`,
    )
  }
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
