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
  for (const block of blocks) checkBlock(decoder, block, refuse)
  return { architecture, notes: [...windowNotes(decoder), ...activationNotes(decoder)] }
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
    if (rotary.scaling.kind === 'yarn' && !rotary.scaling.truncate) refuse('yarn has truncate false')
    if (window !== undefined && family === 'gemma3_text' && kind !== 'default') {
      refuse(`block ${index} sees a window and scales its rotary positions`)
    }
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
  checkActivation(decoder, feedForward.kind === 'routed' ? feedForward.experts[0] : feedForward, refuse)
}

function checkActivation({ family }: DecoderDescription, part: DenseFeedForward, refuse: Refuse): void {
  const wanted = family.startsWith('gemma') || family === 'gpt_neox' ? ['gelu-tanh', 'gelu'] : ['silu']
  if (!wanted.includes(part.activation)) refuse(`the activation is ${part.activation}, not ${wanted[0]}`)
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
