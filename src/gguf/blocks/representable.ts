import { UnsupportedError } from '../../common/errors.js'
import type {
  BlockDescription,
  DecoderDescription,
  DenseFeedForward,
} from '../../model/decoder/description.js'
import { projectionsOf } from '../../model/decoder/linears.js'
import { architectureOfFamily, type GgufArchitecture, ggufArchitectures } from '../architectures.js'

/** Layers of these architectures that see a window: all but each of so many. */
const windowPeriods: Readonly<Record<string, number>> = { gemma2: 2, gemma3_text: 6, olmo3: 4 }

/** Layers of the Gemma models of 27B, whose scores llama.cpp scales otherwise. */
const largestGemma: Readonly<Record<string, number>> = { gemma2: 46, gemma3_text: 62 }

/** Families whose queries, keys and values may have biases there. */
const withBiases = new Set(['llama', 'granite', 'qwen2', 'qwen2_moe', 'stablelm', 'gpt_neox'])

/** Families whose feed-forward parts may have biases there. */
const withFeedForwardBiases = new Set(['llama', 'granite', 'gpt_neox'])

/** Families of which llama.cpp takes all heads together to be as wide as the hidden states. */
const withSquareHeads = new Set([
  'qwen2',
  'qwen2_moe',
  'phi3',
  'olmo2',
  'olmo3',
  'olmoe',
  'stablelm',
  'gpt_neox',
])

/** Families that llama.cpp reads the factors of rotary frequencies of, which these kinds of scaling have. */
const withFactors: Readonly<Record<string, ReadonlySet<string>>> = {
  llama3: new Set(['llama', 'mistral', 'mixtral', 'granite']),
  longrope: new Set(['llama', 'mistral', 'mixtral', 'granite', 'phi3']),
}

/** Families that llama.cpp reads no output projection of. */
const alwaysTied = new Set(['gemma', 'gemma2'])

/** Whether llama.cpp divides the weights of a token's experts by their sum. */
const sumsToOne: Readonly<Record<string, boolean>> = {
  mixtral: true,
  qwen2_moe: false,
  qwen3_moe: true,
  olmoe: false,
}

/**
 * The architecture that a model is written as, and what will be different in llama.cpp, in words.
 *
 * @param where how errors name the model
 * @throws UnsupportedError naming what of the model llama.cpp has no way to say
 */
export function requireRepresentable(
  decoder: DecoderDescription,
  where: string,
): { readonly architecture: GgufArchitecture; readonly notes: readonly string[] } {
  const { family, blocks } = decoder
  const refuse = (what: string): never => {
    throw new UnsupportedError(
      `${where}: ${what}, which a GGUF file of ${family} cannot say; use another format, e.g. plain safetensors (gptvq dequantize)`,
    )
  }
  const architecture = architectureOfFamily(family)
  if (architecture === undefined) {
    const known = ggufArchitectures.flatMap(({ families }) => families).join(', ')
    throw new UnsupportedError(
      `${where}: llama.cpp has no architecture for the family ${family}; there is one for: ${known}`,
    )
  }
  checkRotary(decoder, refuse)
  checkWidths(decoder, refuse)
  for (const block of blocks) checkBlock(decoder, block, refuse)
  return { architecture, notes: notesOn(decoder) }
}

type Refuse = (what: string) => never

function checkRotary({ family, blocks }: DecoderDescription, refuse: Refuse): void {
  for (const { index, attention } of blocks) {
    const { rotary, window } = attention
    const turns = family !== 'smollm3' || (index + 1) % 4 !== 0
    if ((rotary !== undefined) !== turns) {
      refuse(`block ${index} has ${rotary ? 'rotary' : 'no rotary'} positions`)
    }
    if (rotary === undefined) continue
    const { kind } = rotary.scaling
    if (kind === 'dynamic') refuse('rotary positions are scaled dynamically')
    if (withFactors[kind]?.has(family) === false) refuse(`rotary positions are scaled as ${kind}`)
    if (rotary.scaling.kind === 'yarn' && !rotary.scaling.truncate) refuse('yarn has truncate false')
    if (window === undefined) continue
    if ((family === 'gemma3_text' || family === 'olmo3') && kind !== 'default') {
      refuse(`block ${index} sees a window and scales its rotary positions`)
    }
    const full = blocks.find((block) => block.attention.window === undefined)?.attention.rotary
    if (family === 'olmo3' && full !== undefined && full.theta !== rotary.theta) {
      refuse(`block ${index} sees a window and has rotary positions of another base than those that see all`)
    }
  }
}

function checkWidths(
  { family, blocks, embedding, head, hiddenSize }: DecoderDescription,
  refuse: Refuse,
): void {
  const { heads, headDim } = blocks[0].attention
  if (withSquareHeads.has(family) && heads * headDim !== hiddenSize) {
    refuse(`${heads} heads of ${headDim} values are not as wide as the hidden states of ${hiddenSize}`)
  }
  if (alwaysTied.has(family) && head.tensor !== embedding.tensor) {
    refuse('the output projection is not the embedding')
  }
}

function checkBlock(decoder: DecoderDescription, block: BlockDescription, refuse: Refuse): void {
  const { family, hiddenSize, blocks } = decoder
  const { index, attention, feedForward } = block
  const { heads, headDim, scale, window } = attention
  const largest = blocks.length === largestGemma[family]
  const usual = 1 / Math.sqrt(largest ? hiddenSize / heads : headDim)
  if (family !== 'granite' && Math.abs(scale / usual - 1) > 1e-6) {
    refuse(`attention scores are scaled by ${scale}, not by ${usual}`)
  }
  const period = windowPeriods[family]
  if (period !== undefined && (window !== undefined) !== ((index + 1) % period !== 0)) {
    refuse(`block ${index} sees ${window === undefined ? 'all' : 'a window'}`)
  }
  if (family === 'gemma2' && (attention.softCap === undefined || decoder.head.softCap === undefined)) {
    refuse('scores or logits have no soft cap')
  }
  if (attention.clip !== undefined) refuse('queries, keys and values are clipped')
  const routed = family in sumsToOne
  if (routed !== (feedForward.kind === 'routed')) refuse(`block ${index} has no experts`)
  if (feedForward.kind === 'routed' && feedForward.sumToOne !== sumsToOne[family]) {
    refuse(`the weights of experts are ${feedForward.sumToOne ? '' : 'not '}divided by their sum`)
  }
  const biased = projectionsOf(attention.projections).some(({ bias }) => bias)
  if (biased && !withBiases.has(family)) refuse(`block ${index} has biases of queries, keys or values`)
  if (!biased && family === 'gpt_neox') refuse(`block ${index} has no biases of queries, keys and values`)
  const part = feedForward.kind === 'routed' ? feedForward.experts[0] : feedForward
  if (part.down.bias && !withFeedForwardBiases.has(family)) {
    refuse(`block ${index} has biases of its feed-forward part`)
  }
  checkActivation(decoder, part, refuse)
}

function checkActivation({ family }: DecoderDescription, part: DenseFeedForward, refuse: Refuse): void {
  const wanted = family.startsWith('gemma') || family === 'gpt_neox' ? ['gelu-tanh', 'gelu'] : ['silu']
  if (!wanted.includes(part.activation)) refuse(`the activation is ${part.activation}, not ${wanted[0]}`)
}

function notesOn(decoder: DecoderDescription): string[] {
  return [...windowNotes(decoder), ...longropeNotes(decoder), ...activationNotes(decoder)]
}

function longropeNotes({ blocks }: DecoderDescription): string[] {
  const scaling = blocks[0].attention.rotary?.scaling
  if (scaling?.kind !== 'longrope') return []
  return [
    `llama.cpp turns all texts by the long factors where its context (-c) is beyond ${scaling.originalMaxPositions} ` +
      'tokens, and by the short ones elsewhere; here the length of a text decides',
  ]
}

function windowNotes({ family, blocks, maxPositions }: DecoderDescription): string[] {
  const window = blocks.find(({ attention }) => attention.window !== undefined)?.attention.window
  if (window === undefined || window >= maxPositions || family in windowPeriods) return []
  return [
    `layers that see a window of ${window} tokens see all tokens in llama.cpp: texts longer than that are continued otherwise`,
  ]
}

function activationNotes({ blocks }: DecoderDescription): string[] {
  const { feedForward } = blocks[0]
  if (feedForward.kind === 'routed' || feedForward.activation !== 'gelu') return []
  return ['llama.cpp computes GELU by its approximation with tanh: logits differ in the fourth digit or so']
}
