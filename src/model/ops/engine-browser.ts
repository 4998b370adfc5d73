import { OptionError, UnsupportedError } from '../../common/errors.js'
import type { EngineName, StartedEngine } from './engine.js'

export const engineNames: readonly EngineName[] = ['auto', 'wasm', 'cpu', 'tensorflow']

/**
 * What stands in a browser in the place of `engine.ts`: the kernels of this package, without tfjs beside them.
 *
 * @throws UnsupportedError for an engine of Node, OptionError for another name
 */
export async function startEngine(name: EngineName = 'auto'): Promise<StartedEngine> {
  if (name === 'auto' || name === 'wasm') return 'wasm'
  if (!engineNames.includes(name)) {
    throw new OptionError('engine', `found ${JSON.stringify(name)}; expected auto or wasm`)
  }
  throw new UnsupportedError(`the engine ${name} runs in Node only; in a browser use wasm`)
}
