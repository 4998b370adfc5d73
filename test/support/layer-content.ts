import { createHash } from 'node:crypto'
import type { LayerResult } from '../../src/pipeline/quantize/layers/layer-work.js'

/** All of a result but the time, arrays as digests: they are too long to be compared element by element. */
export function contentOf({ seconds: _, ...result }: LayerResult): unknown {
  return JSON.parse(
    JSON.stringify(result, (_, value) => {
      if (!ArrayBuffer.isView(value)) return value
      const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
      return `${value.constructor.name} ${createHash('sha256').update(bytes).digest('hex')}`
    }),
  )
}
