import {
  openModel,
  type QuantizedLayer,
  quantizeModel,
  readTokens,
  startEngine,
  withQuantizedLayers,
} from 'gptvq/model'
import { type PackedActivations, packedActivations } from '../../src/kernels/packed-contract.js'
import { setPackedActivations } from '../../src/model/ops/kernels/kernel-weights.js'
import {
  closeCaches,
  type Decoder,
  decodeTokens,
  disposeDecoder,
  loadDecoder,
  openCaches,
} from '../../src/model/passes/cached-decoder.js'
import { tallGroups } from '../common/random-layers.js'
import { modelFolder, sequenceLength } from '../common/real-layers.js'
import type { Row, Table } from '../common/report.js'

const forms = [
  { name: '2-D, 2 bits', options: { trellisBits: 0 } },
  { name: '2-D, 2 bits, 160 rows', options: { trellisBits: 0, ...tallGroups } },
  { name: '2-D, 2 bits, trellis', options: { trellisBits: 8 } },
]

/** How tokens are read: one by one, as they are written, or all at once, as a prompt. */
const readings = ['one by one', 'at once'] as const
type Reading = (typeof readings)[number]

/** What rounded activations do to the predictions of the embedded model. */
export async function activationsTable(quick: boolean): Promise<Table> {
  await startEngine('wasm')
  const [perText, texts] = quick ? [8, 1] : [64, 4]
  const rows: Row[] = []
  for (const form of quick ? forms.slice(0, 1) : forms) rows.push(...(await rowsOf(form, perText, texts)))
  return {
    id: 'packed-activations',
    title: 'Rounded activations',
    note:
      `The embedded model, quantized, on ${texts} pieces of its evaluation text, ${perText} tokens one by one or at once. KL: ` +
      "divergence from the predictions with `'float32'` activations in nats a token, mean; quantized: divergence of those from the " +
      'unquantized model. Top: share of tokens for which both rank the same next token first.',
    columns: [
      { key: 'form', label: 'layers' },
      { key: 'reading', label: 'tokens' },
      { key: 'activations', label: 'activations' },
      { key: 'divergence', label: 'KL', digits: 3 },
      { key: 'quantized', label: 'KL, quantized', digits: 3 },
      { key: 'top', label: 'top', decimals: 4 },
    ],
    rows,
    keys: ['form', 'reading', 'activations'],
    compared: 'top',
  }
}

async function rowsOf(form: (typeof forms)[number], perText: number, texts: number): Promise<Row[]> {
  const layers = new Map<string, QuantizedLayer>()
  await quantizeModel({
    model: modelFolder,
    calibration: `${modelFolder}/texts/calibration.txt`,
    ...{ sequences: texts, sequenceLength, bits: 2, ...form.options, engine: 'wasm' },
    onLayer: (weight, layer) => layers.set(weight, layer),
  })
  const model = await openModel(modelFolder)
  try {
    const tokens = await readTokens(`${modelFolder}/texts/evaluation.txt`, modelFolder, model.config)
    const logits = async (source: typeof model.source, reading: Reading, activations: PackedActivations) => {
      const decoder = await loadDecoder(source, model.config, { keepsPacked: true })
      setPackedActivations(activations)
      try {
        return await decodeAll(decoder, tokens, perText, texts, reading === 'at once' ? perText : 1)
      } finally {
        setPackedActivations('float32')
        disposeDecoder(decoder)
      }
    }
    const { vocabSize } = model.config
    const source = withQuantizedLayers(model.source, layers)
    const [fine, ...rest] = packedActivations
    const rows: Row[] = []
    for (const reading of readings) {
      const plain = await logits(model.source, reading, fine)
      const reference = await logits(source, reading, fine)
      const quantized = divergence(plain, reference, vocabSize).mean
      rows.push({ form: form.name, reading, activations: fine, divergence: 0, quantized, top: 1 })
      for (const activations of rest) {
        const { mean, top } = divergence(reference, await logits(source, reading, activations), vocabSize)
        rows.push({ form: form.name, reading, activations, divergence: mean, quantized: null, top })
      }
    }
    return rows
  } finally {
    await model.close()
  }
}

/** Logits after each token of pieces of a text, `atOnce` tokens at a time. */
export async function decodeAll(
  decoder: Decoder,
  tokens: Int32Array,
  perText: number,
  texts: number,
  atOnce: number,
): Promise<Float32Array[]> {
  const { vocabSize } = decoder.config
  const all: Float32Array[] = []
  for (let text = 0; text < texts; text++) {
    const caches = openCaches(decoder, 1, perText)
    for (let i = text * perText; i < (text + 1) * perText; i += atOnce) {
      const logits = await decodeTokens(decoder, caches, tokens.slice(i, i + atOnce))
      for (let j = 0; j < atOnce; j++) all.push(logits.slice(j * vocabSize, (j + 1) * vocabSize))
    }
    closeCaches(caches)
  }
  return all
}

/** KL divergence in nats a token, and the share of tokens for which both rank the same next token first. */
export function divergence(
  expected: readonly Float32Array[],
  actual: readonly Float32Array[],
  size: number,
): { mean: number; top: number } {
  let [sum, same] = [0, 0]
  for (const [at, logits] of expected.entries()) {
    const [p, q] = [logSoftmax(logits.subarray(0, size)), logSoftmax(actual[at].subarray(0, size))]
    for (let i = 0; i < size; i++) sum += Math.exp(p[i]) * (p[i] - q[i])
    if (p.indexOf(Math.max(...p)) === q.indexOf(Math.max(...q))) same++
  }
  return { mean: sum / expected.length, top: same / expected.length }
}

function logSoftmax(logits: Float32Array): Float64Array {
  const most = Math.max(...logits)
  const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0)) + most
  return Float64Array.from(logits, (logit) => logit - total)
}
