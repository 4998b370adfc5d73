import { type EndTensorOptions, endMethods } from '../../pipeline/quantize/end-tensors.js'

const bits = [2, 3, 4, 8] satisfies readonly EndTensorOptions['embeddingBits'][]

/** How embedding and head are quantized. */
export const endFlags = {
  embeddingBits: {
    kind: 'choice',
    choices: bits,
    help: 'bits of the input embedding: 4 or 8, by gptvq 2 to 4',
    default: 'it stays as it is',
  },
  embeddingMethod: {
    kind: 'choice',
    choices: endMethods,
    help: 'how the input embedding is quantized',
    default: 'rtn',
  },
  headBits: {
    kind: 'choice',
    choices: bits,
    help: 'bits of the output projection: 4 or 8, by gptvq 2 to 4',
    default: 'it stays as it is',
  },
  headMethod: {
    kind: 'choice',
    choices: endMethods,
    help: 'how the output projection is quantized',
    default: 'rtn',
  },
} as const
