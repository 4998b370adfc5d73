import type { Matrix } from '../common/matrix.js'
import { ownFactors, type SharedFactors, shareFactors } from '../hessian/inverse-factor.js'
import { fromJson } from './arrays-in-json.js'
import type { Blobs } from './blobs.js'

/**
 * What a worker keeps from one job to the next: the panels of a layer, and layers of one Hessian, bring the same large
 * arrays, and need the same factors.
 */
export interface InputCache {
  /** A job's input; what the job before had too is not read again, what it alone had is forgotten. */
  read(json: string, blobs: Blobs): Promise<unknown>
  /** Factors of a Hessian that came with a job. They are kept as long as it is. */
  factorsOf(hessian: Matrix): SharedFactors
  /** Forgets all, factors too. */
  clear(): void
}

export function inputCache(): InputCache {
  const kept = new Map<string, Promise<Uint8Array>>()
  const factors = new WeakMap<ArrayBufferLike, SharedFactors>()
  return {
    read(json, blobs) {
      for (const hash of kept.keys()) if (!json.includes(hash)) kept.delete(hash)
      return fromJson(json, (hash) => {
        const known = kept.get(hash)
        if (known) return known
        const bytes = blobs.get(hash).then(inOwnBuffer)
        kept.set(hash, bytes)
        bytes.then(
          ({ buffer }) => factors.set(buffer, shareFactors()),
          () => kept.delete(hash),
        )
        return bytes
      })
    },
    factorsOf: ({ data }) => factors.get(data.buffer) ?? ownFactors,
    clear: () => kept.clear(),
  }
}

/** Bytes alone in their buffer, which then stands for them. */
function inOwnBuffer(bytes: Uint8Array): Uint8Array {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
}
