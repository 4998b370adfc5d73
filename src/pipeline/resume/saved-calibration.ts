import { createHash } from 'node:crypto'
import { OptionError } from '../../common/errors.js'
import { bytesOf } from '../../common/view-bytes.js'
import type { Calibration } from '../calibrate/calibration.js'
import type { Journal } from './journal.js'
import { readValues, writeValues } from './saved-values.js'

const WRITTEN_FILE = 'written-text.ids'

/**
 * The calibration of a run: one that the model wrote is kept, any other is gathered again and must be the same.
 *
 * @param gather gathers it
 * @param isWritten whether the model writes it itself
 * @throws OptionError when the tokens are not those that the unfinished run began with
 */
export async function calibrationOf(
  journal: Journal | undefined,
  gather: () => Promise<Calibration>,
  isWritten: boolean,
): Promise<Calibration> {
  const kept = journal && (await keptCalibration(journal))
  if (kept) return kept
  const calibration = await gather()
  if (journal === undefined) return calibration
  const { sequences, length, notes } = calibration
  const tokens = digestOf(sequences)
  const { state } = journal
  if (state.tokens !== undefined && state.tokens !== tokens) {
    throw new OptionError(
      'resume',
      `the calibration text gives other tokens than in the unfinished run in ${journal.folder}: its tokenizer has ` +
        'changed. Restore it, or remove that folder to begin anew',
    )
  }
  if (!isWritten) await journal.save({ tokens })
  else {
    const written = { file: WRITTEN_FILE, count: sequences.length, length, notes }
    await journal.save({ tokens, written }, { [WRITTEN_FILE]: writeValues(sequences) })
  }
  return calibration
}

async function keptCalibration({ folder, state }: Journal): Promise<Calibration | undefined> {
  const { written } = state
  if (written === undefined) return undefined
  const { file, count, length, notes } = written
  const sequences = Array.from({ length: count }, () => new Int32Array(length))
  await readValues(folder, file, sequences)
  return { sequences, length, notes }
}

function digestOf(sequences: readonly Int32Array[]): string {
  const hash = createHash('sha256')
  for (const sequence of sequences) hash.update(bytesOf(sequence))
  return hash.digest('hex')
}
