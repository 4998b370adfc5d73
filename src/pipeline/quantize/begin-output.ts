import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import type { QuantizationConfig } from '../../checkpoint/quantized/quantized-config.js'
import type { StartedEngine } from '../../model/ops/engine.js'
import type { CalibrationOptions } from '../calibrate/calibration.js'
import {
  type ChangedTensors,
  createQuantizedOutput,
  type OutputOptions,
  type QuantizedOutput,
} from '../folders/output.js'
import { runRecord } from './run-record.js'

/** What the folder says of how it was made. */
export interface OutputRun extends Pick<QuantizationConfig, 'method'> {
  readonly stated: QuantizationConfig['settings']
  readonly engine: StartedEngine | null
  readonly products: string
  /** Plain tensors that are not as in the checkpoint. */
  readonly changed: ChangedTensors
}

/** Begins to write the folder of a run: its record, and all that stays as it is. */
export async function beginOutput(
  folder: string,
  checkpoint: Checkpoint,
  replaced: ReadonlySet<string>,
  { method, stated, engine, products, changed }: OutputRun,
  options: OutputOptions & CalibrationOptions & { readonly signal?: AbortSignal },
): Promise<QuantizedOutput> {
  const run = await runRecord(checkpoint, options, { engine, products }, options.signal)
  return createQuantizedOutput(folder, checkpoint, replaced, { method, stated, run, changed }, options)
}
