import { type StartedEngine, startEngine } from '../../src/model.js'

/**
 * The engines that start on this machine: always `wasm` and `cpu`, and `tensorflow` where it is installed. Where it is
 * not, one line says that its tests are left out. A test starts the engine that it wants after this.
 */
export async function availableEngines(): Promise<StartedEngine[]> {
  try {
    return ['wasm', 'cpu', await startEngine('tensorflow')]
  } catch {
    console.warn('The engine tensorflow does not start: its tests are skipped. To install it: .ci/tensorflow')
    return ['wasm', 'cpu']
  }
}
