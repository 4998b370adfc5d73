import { throwIfAborted } from '../common/errors.js'
import { type Decoder, disposeDecoder, loadDecoder } from '../model/passes/cached-decoder.js'
import type { OpenModel } from '../pipeline/folders/open-model.js'
import type { OnProgress } from '../pipeline/progress.js'

/** Loads all weights of a model, quantized layers as they are stored; experts and the head stay in memory too. */
export async function loadWeights(
  { source, config }: OpenModel,
  onProgress: OnProgress | undefined,
  signal: AbortSignal | undefined,
): Promise<Decoder> {
  const report = (done: number) => {
    throwIfAborted(signal)
    onProgress?.({ step: 'loading weights', done })
  }
  const headShare = 1 / (config.blocks.length + 1)
  const decoder = await loadDecoder(source, config, {
    keepsExperts: true,
    keepsPacked: true,
    onBlock: (done) => report((1 - headShare) * done),
  })
  try {
    report(1 - headShare)
    // reads it now, and not when the first token is waited for
    await decoder.head.forEachSlice(() => {})
    report(1)
    return decoder
  } catch (error) {
    disposeDecoder(decoder)
    throw error
  }
}
