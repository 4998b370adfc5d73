import { join } from 'node:path'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { forwardLogits } from '../../../src/model/passes/forward-logits.js'
import { openModel } from '../../../src/pipeline/folders/open-model.js'
import { rangeOf, worstDifference } from '../../model/families/fixture.js'

type Feeds = Record<string, Tensor>

/** Opens the model of an exported folder in onnxruntime; one thread, so that workers do not fight. */
export function openOnnx(
  folder: string,
  options: InferenceSession.SessionOptions = {},
): Promise<InferenceSession> {
  return InferenceSession.create(join(folder, 'onnx', 'model.onnx'), {
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    ...options,
  })
}

/**
 * Logits of sequences of one length, tokens x vocabSize, some tokens of each at a time: what a call gives as `present` goes
 * into the next as `past_key_values`.
 *
 * @param cuts tokens of each call
 * @param padding positions in front of the first token of each sequence, masked
 */
export async function onnxLogits(
  session: InferenceSession,
  tokens: Int32Array,
  sequences: number,
  cuts: readonly number[],
  padding: readonly number[] = [],
): Promise<Float32Array> {
  const length = tokens.length / sequences
  const pads = Array.from({ length: sequences }, (_, i) => padding[i] ?? 0)
  let cache = emptyCache(session, sequences)
  let logits: Float32Array | undefined
  let position = 0
  for (const count of cuts) {
    const end = position + count
    const rows = pads.flatMap((pad, s) =>
      Array.from({ length: count }, (_, i) => ({ s, at: position + i - pad, i: position + i })),
    )
    const mask = pads.flatMap((pad) => Array.from({ length: end }, (_, i) => (i < pad ? 0n : 1n)))
    const found: Feeds = (await session.run({
      ...cache,
      input_ids: int64(
        rows.map(({ s, at }) => (at < 0 || at >= length ? 0 : tokens[s * length + at])),
        [sequences, count],
      ),
      position_ids: int64(
        rows.map(({ at }) => Math.max(0, at)),
        [sequences, count],
      ),
      attention_mask: new Tensor('int64', BigInt64Array.from(mask), [sequences, end]),
    })) as Feeds
    const vocabSize = found.logits.dims[2]
    logits ??= new Float32Array(tokens.length * vocabSize)
    const own = found.logits.data as Float32Array
    for (const [row, { s, at }] of rows.entries()) {
      if (at < 0 || at >= length) continue
      logits.set(own.subarray(row * vocabSize, (row + 1) * vocabSize), (s * length + at) * vocabSize)
    }
    cache = Object.fromEntries(
      Object.entries(found)
        .filter(([name]) => name.startsWith('present.'))
        .map(([name, value]) => [name.replace('present.', 'past_key_values.'), value]),
    )
    position = end
  }
  return logits!
}

/**
 * The largest distance of onnxruntime's logits from ours, as a share of their range: two sequences, whole and in parts with
 * a cache.
 *
 * @param folder exported
 * @param model it was made of
 */
export async function worstShareOf(tokens: Int32Array, folder: string, model: string): Promise<number> {
  const length = tokens.length / 2
  const opened = await openModel(model)
  const session = await openOnnx(folder)
  try {
    const ours = await forwardLogits(opened.source, opened.config, tokens, 2)
    const whole = await onnxLogits(session, tokens, 2, [length])
    const parts = await onnxLogits(session, tokens, 2, [5, 1, 1, length - 7])
    return Math.max(worstDifference(whole, ours), worstDifference(parts, ours)) / rangeOf(ours)
  } finally {
    await Promise.all([session.release(), opened.close()])
  }
}

function emptyCache(session: InferenceSession, sequences: number): Feeds {
  const cache: Feeds = {}
  for (const value of session.inputMetadata) {
    if (!value.isTensor || !value.name.startsWith('past_key_values.')) continue
    const [, heads, , width] = value.shape
    cache[value.name] = new Tensor('float32', new Float32Array(0), [
      sequences,
      Number(heads),
      0,
      Number(width),
    ])
  }
  return cache
}

function int64(values: readonly number[], dims: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), dims)
}
