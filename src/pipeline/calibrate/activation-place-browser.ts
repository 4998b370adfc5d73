import { OptionError } from '../../common/errors.js'
import type { ActivationPlace } from './activation-place.js'
import { batchInMemory } from './calibration-stream.js'

/** What stands in a browser in the place of `activation-place.ts`: there is memory alone. @throws OptionError */
export async function openActivations(resident: number): Promise<ActivationPlace> {
  if (Number.isFinite(resident)) {
    throw new OptionError('memory', 'a browser has no disk for what is beyond the bound; leave it out')
  }
  return { place: async (_, sequences, state) => batchInMemory(sequences, state), async close() {} }
}
