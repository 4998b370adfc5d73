import type { ElementActivation, ForwardKernels } from '../../forward-contract.js'
import { jobKinds } from '../runtime/job.js'
import { type JobParam, type Pool, runJob } from '../runtime/pool.js'
import type { ResidentArrays } from '../runtime/resident.js'

/** Values of a tile, whole vectors. */
const TILE_VALUES = 2 ** 14
/** Their numbers are their places here: see `assembly/activation.ts`. */
const elementActivations: readonly ElementActivation[] = ['silu', 'gelu', 'gelu-tanh', 'relu']

/** What is done value by value, on arrays in the kernels' memory. */
export function elementKernels(
  pool: Pool,
  { addressOf }: ResidentArrays,
): Pick<ForwardKernels, 'activate' | 'gate' | 'add' | 'softCap'> {
  const run = (kind: number, addresses: readonly number[], length: number, param: JobParam) => {
    const params = [...addresses, length, TILE_VALUES, param]
    runJob(pool, kind, Math.ceil(length / TILE_VALUES), params, 0)
  }
  return {
    activate(activation, x, y) {
      const kind = elementActivations.indexOf(activation)
      run(jobKinds.activate, [addressOf(x), 0, addressOf(y)], y.length, kind)
    },
    gate(activation, gate, up, y) {
      const kind = elementActivations.indexOf(activation)
      run(jobKinds.activate, [gate, up, y].map(addressOf), y.length, kind)
    },
    add(x, added, factor, y) {
      run(jobKinds.add, [x, added, y].map(addressOf), y.length, { f32: factor })
    },
    softCap(x, cap, y) {
      run(jobKinds.softCap, [addressOf(x), addressOf(y), 0], y.length, { f32: cap })
    },
  }
}
