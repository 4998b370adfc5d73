import { createCheckpointWriter } from '../../checkpoint/output/checkpoint-writer.js'
import type { OutputOptions } from './output.js'

/**
 * Checks before hours of work that a model folder can be written to a place, and leaves nothing there.
 *
 * @throws CheckpointError when it is taken or cannot be written to
 */
export async function requireUsableOutput(
  folder: string,
  { force, maxShardBytes }: OutputOptions,
): Promise<void> {
  const writer = await createCheckpointWriter(folder, { force, maxShardBytes })
  await writer.discard()
}
