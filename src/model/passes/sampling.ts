import { OptionError, throwIfAborted, UnsupportedError } from '../../common/errors.js'
import { deriveSeed, type Random, randomGenerator } from '../../common/random.js'
import { forwardKernels } from '../../kernels/forward-kernels.js'
import type { DecoderDescription } from '../decoder/description.js'
import type { WeightSource } from '../decoder/weights.js'
import {
  cacheBytes,
  closeCaches,
  type Decoder,
  decodeTokens,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from './cached-decoder.js'
import { drawTokens } from './draw-token.js'

export interface SamplingOptions {
  /** Sequences to sample. */
  readonly count: number
  /** Tokens per sequence, the leading BOS included. */
  readonly length: number
  /** Logits are divided by it. Default 1: the model's own distribution. */
  readonly temperature?: number
  readonly seed: number
  readonly onProgress?: (progress: { readonly done: number; readonly total: number }) => void
  readonly signal?: AbortSignal
}

/** Bytes of cached keys and values at once; more sequences than fit are sampled in turns. */
const heldCacheBytes = 2 ** 30

/**
 * Samples the model's own text. Each sequence starts with BOS; one that emits EOS goes on, as documents follow each
 * other in training. Sequence `i` depends on the seed and `i` only, not on `count`.
 *
 * @returns `count` sequences of `length` token ids
 * @throws UnsupportedError when the configuration has no BOS token, or the engine cannot hold the model
 * @throws OptionError for an impossible option
 * @throws AbortedError when `signal` fires
 */
export async function sampleSequences(
  source: WeightSource,
  config: DecoderDescription,
  { count, length, temperature = 1, seed, onProgress, signal }: SamplingOptions,
): Promise<Int32Array[]> {
  const bos = assertSamplable(config, count, length, temperature)
  const perSequence = cacheBytes(config, length)
  const turn = Math.max(1, Math.min(count, Math.floor(heldCacheBytes / perSequence)))
  const total = count * length
  const sequences: Int32Array[] = []
  throwIfAborted(signal)
  const decoder = await loadDecoder(source, config)
  try {
    while (sequences.length < count) {
      const size = Math.min(turn, count - sequences.length)
      const randoms = Array.from({ length: size }, (_, i) =>
        randomGenerator(deriveSeed(seed, sequences.length + i)),
      )
      const before = sequences.length * length
      const sampled = await sampleTogether(decoder, bos, length, temperature, randoms, (position) => {
        throwIfAborted(signal)
        onProgress?.({ done: before + position * size, total })
      })
      sequences.push(...sampled)
    }
  } finally {
    disposeDecoder(decoder)
  }
  return sequences
}

function assertSamplable(
  config: DecoderDescription,
  count: number,
  length: number,
  temperature: number,
): number {
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new OptionError('count', `found ${count}; expected a positive number of sequences`)
  }
  if (!Number.isSafeInteger(length) || length < 1 || length > config.maxPositions) {
    throw new OptionError(
      'length',
      `found ${length}; expected 1 to ${config.maxPositions} tokens (max_position_embeddings of the model)`,
    )
  }
  if (!(temperature > 0) || !Number.isFinite(temperature)) {
    throw new OptionError('temperature', `found ${temperature}; expected a positive number`)
  }
  return requireBos(config, 'Give a calibration text instead')
}

/**
 * The token that sampled text begins with.
 *
 * @param instead what errors tell to do
 * @throws UnsupportedError when the model has none
 */
export function requireBos({ bosTokenId, vocabSize }: DecoderDescription, instead: string): number {
  if (bosTokenId !== undefined && bosTokenId < vocabSize) return bosTokenId
  throw new UnsupportedError(
    `config.json: bos_token_id is ${bosTokenId ?? 'missing'}; sampling starts from that token. ${instead}`,
  )
}

async function sampleTogether(
  decoder: Decoder,
  bos: number,
  length: number,
  temperature: number,
  randoms: readonly Random[],
  onPosition: (position: number) => void,
): Promise<Int32Array[]> {
  const { vocabSize } = decoder.config
  const caches = openCaches(decoder, randoms.length, length)
  const sequences = randoms.map(() => new Int32Array(length).fill(bos, 0, 1))
  const { allocate, release } = forwardKernels()
  const logits = allocate(randoms.length * vocabSize)
  try {
    for (let position = 0; position + 1 < length; position++) {
      const tokens = Int32Array.from(sequences, (sequence) => sequence[position])
      await decodeTokens(decoder, caches, tokens, logits)
      const drawn = drawTokens(logits, vocabSize, temperature, randoms)
      sequences.forEach((sequence, i) => {
        sequence[position + 1] = drawn[i]
      })
      onPosition(position + 2)
    }
  } finally {
    release(logits)
    closeCaches(caches)
  }
  return sequences
}
