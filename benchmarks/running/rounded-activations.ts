/**
 * What rounded activations change in quantized model folders: `npx tsx benchmarks/running/rounded-activations.ts TEXT FOLDER...`
 * prints Markdown. Logits after each of some tokens of the text, one by one, beside those of `'float32'`: how far the farthest is
 * off, in parts of the range that the logits of its token have, KL divergence, and for how many tokens both rank the same next
 * token first; then how many of some likeliest tokens in a row are the same.
 */
import { openModel, readTokens, startEngine } from 'gptvq/model'
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
import { decodeAll, divergence } from '../kernels/packed-activations.js'

const PIECES = 3
const TOKENS = 48
const PROMPT = 16

const [text, ...folders] = process.argv.slice(2)
if (text === undefined || folders.length === 0) {
  console.error('usage: npx tsx benchmarks/running/rounded-activations.ts TEXT FOLDER...')
  process.exit(2)
}
await startEngine('wasm')
console.log(`| folder | activations | off, of the range | KL | same top | same of ${TOKENS} written |`)
console.log('| ------ | ----------- | ----------------: | -: | -------: | -----------------------: |')
for (const folder of folders) await measure(folder)
process.exit(0)

async function measure(folder: string): Promise<void> {
  const model = await openModel(folder)
  const decoder = await loadDecoder(model.source, model.config, { keepsPacked: true })
  const tokens = await readTokens(text, folder, model.config)
  const run = async (activations: PackedActivations) => {
    setPackedActivations(activations)
    return {
      logits: await decodeAll(decoder, tokens, TOKENS, PIECES, 1),
      written: await write(decoder, tokens.slice(0, PROMPT)),
    }
  }
  const [fine, ...rest] = packedActivations
  const reference = await run(fine)
  for (const activations of rest) {
    const { logits, written } = await run(activations)
    const { mean, top } = divergence(reference.logits, logits, model.config.vocabSize)
    const off = Math.max(...logits.map((own, i) => offOf(reference.logits[i], own)))
    const parted = written.findIndex((token, i) => token !== reference.written[i])
    const name = folder.replace(/^.*\//, '')
    const figures = [off.toExponential(1), mean.toExponential(1), top.toFixed(4)]
    console.log(`| ${name} | ${activations} | ${figures.join(' | ')} | ${parted < 0 ? TOKENS : parted} |`)
  }
  disposeDecoder(decoder)
  await model.close()
}

/** The largest difference, in parts of the range. */
function offOf(expected: Float32Array, actual: Float32Array): number {
  let [least, most, off] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0]
  for (const [i, value] of expected.entries()) {
    least = Math.min(least, value)
    most = Math.max(most, value)
    off = Math.max(off, Math.abs(actual[i] - value))
  }
  return off / (most - least)
}

/** The likeliest tokens behind a prompt, one after the other. */
async function write(decoder: Decoder, prompt: Int32Array): Promise<number[]> {
  const caches = openCaches(decoder, 1, prompt.length + TOKENS)
  const written: number[] = []
  let next = prompt
  for (let i = 0; i < TOKENS; i++) {
    const logits = (await decodeTokens(decoder, caches, next)).subarray(-decoder.config.vocabSize)
    written.push(logits.indexOf(Math.max(...logits)))
    next = Int32Array.of(written[i])
  }
  closeCaches(caches)
  return written
}
