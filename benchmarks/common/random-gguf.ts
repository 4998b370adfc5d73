import { randomFillSync } from 'node:crypto'
import { open } from 'node:fs/promises'
import { architectureOfFamily } from '../../src/gguf/architectures.js'
import { bytesOfType, type GgufType, ggufType } from '../../src/gguf/blocks/tensor-types.js'
import { metadataOfModel } from '../../src/gguf/metadata-of-model.js'
import { ggufTensors } from '../../src/gguf/tensor-names.js'
import { aligned, type GgufValue, ggufHeader } from '../../src/gguf/write-header.js'
import { describeSizes, type ModelSizes } from './random-model.js'

/** Types whose blocks have small scales at these bytes; whatever the others hold, weights are finite. */
const scaleBytes: Readonly<Record<string, readonly number[]>> = {
  Q2_K: [80, 82],
  Q4_0: [0],
  Q6_K: [208],
  IQ2_XXS: [0],
}
/** 2^-10 as a half. */
const SCALE = 0x1400
/** Read by llama.cpp alone. */
const iq2xxs: GgufType = { name: 'IQ2_XXS', id: 16, blockValues: 256, blockBytes: 66 }

/** Writes a model of random weights as llama.cpp stores them: layers of `type`, the head of `headType`. */
export async function writeRandomGguf(
  path: string,
  sizes: ModelSizes,
  type: string,
  headType: string,
): Promise<void> {
  const decoder = describeSizes(sizes)
  const architecture = architectureOfFamily('llama')!
  let offset = 0
  const tensors = ggufTensors(decoder, architecture).map(({ name, shape }) => {
    const own = shape.length === 1 ? ggufType('F32') : typeOf(/^blk/.test(name) ? type : headType)
    const bytes = bytesOfType(
      own,
      shape.reduce((product, size) => product * size, 1),
    )
    const tensor = { name, shape, type: own, offset, bytes }
    offset += aligned(bytes)
    return tensor
  })
  const values = new Map([...metadataOfModel(decoder, architecture, sizes.inner), ...vocabulary(sizes.words)])
  const file = await open(path, 'w')
  try {
    const header = ggufHeader(new Map([['general.architecture', text('llama')], ...values]), tensors)
    await file.write(header)
    for (const { type: own, offset: from, bytes } of tensors) {
      await file.write(dataOf(own, bytes), 0, bytes, header.length + from)
    }
    await file.truncate(header.length + offset)
  } finally {
    await file.close()
  }
}

const typeOf = (name: string) => (name === iq2xxs.name ? iq2xxs : ggufType(name))
const text = (value: string): GgufValue => ({ kind: 'text', value })

function dataOf({ name, blockBytes }: GgufType, bytes: number): Uint8Array {
  if (name === 'F32') return new Uint8Array(new Float32Array(bytes / 4).fill(1).buffer)
  const data = randomFillSync(new Uint8Array(bytes))
  const view = new DataView(data.buffer)
  for (let at = 0; at < bytes; at += blockBytes) {
    for (const place of scaleBytes[name]) view.setUint16(at + place, SCALE, true)
  }
  return data
}

/** Words that are there for their number alone. */
function vocabulary(words: number): Map<string, GgufValue> {
  const special = ['<unk>', '<s>', '</s>']
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  )
  const names = [...special, ...bytes]
  const tokens = Array.from({ length: words }, (_, i) => names[i] ?? `word${i}`)
  const kinds = tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < names.length ? 6 : 1))
  return new Map<string, GgufValue>([
    ['tokenizer.ggml.model', text('llama')],
    ['tokenizer.ggml.tokens', { kind: 'texts', value: tokens }],
    ['tokenizer.ggml.scores', { kind: 'f32s', value: tokens.map((_, i) => -i) }],
    ['tokenizer.ggml.token_type', { kind: 'i32s', value: kinds }],
    ['tokenizer.ggml.bos_token_id', { kind: 'u32', value: 1 }],
    ['tokenizer.ggml.eos_token_id', { kind: 'u32', value: 2 }],
  ])
}
