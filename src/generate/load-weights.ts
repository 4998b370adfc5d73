import { throwIfAborted } from '../errors.js'
import { type Decoder, loadDecoder } from '../model/passes/cached-decoder.js'
import type { OpenModel } from '../pipeline/folders/open-model.js'
import type { OnProgress } from '../pipeline/progress.js'

/** Loads all weights of a model, quantized layers as they are stored; experts and the head stay in memory too. */
export function loadWeights(
  { source, config }: OpenModel,
  onProgress: OnProgress | undefined,
  signal: AbortSignal | undefined,
): Promise<Decoder> {
  return loadDecoder(source, config, {
    keepsExperts: true,
    keepsPacked: true,
    onBlock(done) {
      throwIfAborted(signal)
      onProgress?.({ step: 'loading weights', done })
    },
  })
}
