import type { ModelSource } from '../checkpoint/model-source.js'
import { UnsupportedError } from '../common/errors.js'

/** What stands in a browser in the place of `open-gguf-model.ts`, whose parser brings parts of Node. @throws UnsupportedError */
export async function openGgufModel({ place }: Pick<ModelSource, 'place'>): Promise<never> {
  throw new UnsupportedError(
    `${place}: GGUF files are read in Node only. Give a model folder: gptvq quantize and gptvq dequantize write one`,
  )
}

/** The same. @throws UnsupportedError */
export const ggufModelText = openGgufModel
