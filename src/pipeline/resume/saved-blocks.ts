import type { DecoderDescription } from '../../model/decoder/description.js'
import type { Calibration } from '../calibrate/calibration.js'
import type { PlaceBatch } from '../calibrate/calibration-stream.js'
import type { CalibrationStreams } from '../quantize/calibrated-block.js'
import type { PhaseSeconds } from '../quantize/phase-seconds.js'
import type { Journal } from './journal.js'
import { type SavedLayer, writeLayers } from './saved-layers.js'
import { readStream, writeStream } from './saved-streams.js'

/**
 * Keeps the layers of the next block, and the tokens as they leave it.
 *
 * @param streams undefined behind the last block, where nothing follows
 */
export async function keepBlock(
  journal: Journal,
  layers: readonly SavedLayer[],
  streams: CalibrationStreams | undefined,
  seconds: PhaseSeconds & { readonly total: number },
): Promise<void> {
  const { blocks } = journal.state
  const number = blocks.length + 1
  const file = `block-${number}.layers`
  const [present, full] = [`block-${number}.present`, `block-${number}.full`]
  const change = {
    blocks: [...blocks, file],
    streams: streams && { present, ...(streams.full && { full }) },
    seconds,
  }
  await journal.save(change, {
    [file]: writeLayers(layers),
    ...(streams && { [present]: writeStream(streams.present) }),
    ...(streams?.full && { [full]: writeStream(streams.full) }),
  })
}

/** The tokens as the last finished block left them. */
export async function keptStreams(
  { folder, state }: Journal,
  config: DecoderDescription,
  { sequences, length }: Calibration,
  place: PlaceBatch,
): Promise<CalibrationStreams> {
  const { present, full } = state.streams!
  const read = (name: string) => readStream(folder, name, config, sequences.length, length, place)
  return { present: await read(present), full: full === undefined ? undefined : await read(full) }
}
