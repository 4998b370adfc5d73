import { activationGrid } from '../../activations/rounding.js'
import type { CheckpointWeights } from '../../checkpoint/model-weights.js'
import { UnsupportedError } from '../../common/errors.js'
import { halfToFloat } from '../../kernels/half.js'
import { unpackScalar } from '../../packing/scalar-layer.js'

/** The grid of a tensor of the graph, as AIMET's version 1.0.0 has it: a value is `(code + offset) scale`. */
export interface Encoding {
  /** Of the tensor. */
  readonly name: string
  readonly dtype: 'INT'
  /** One grid for all, one for each output, or one for each run of `block_size` inputs of an output. */
  readonly enc_type: 'PER_TENSOR' | 'PER_CHANNEL' | 'PER_BLOCK'
  /** Whether 0 is in the middle of the codes. */
  readonly is_sym: boolean
  /** Bits of a code. */
  readonly bw: number
  readonly block_size?: number
  /** Output by output. */
  readonly scale: readonly number[]
  readonly offset: readonly number[]
}

/** What lies in an encodings file. */
export interface EncodingsFile {
  readonly version: '1.0.0'
  readonly activation_encodings: readonly Encoding[]
  readonly param_encodings: readonly Encoding[]
  readonly excluded_layers: readonly string[]
  readonly producer: string
}

/** Bits of a code, at least, in AIMET's version 1.0.0. */
const LEAST_BITS = 4

/**
 * The grids of all quantized layers, and of what they read where the model has static ranges for it.
 *
 * @param inputs the name in the graph of what a layer reads, by the layer's name
 * @throws UnsupportedError naming a layer that is no grid, or whose groups do not divide its inputs
 */
export async function encodingsOf(
  { quantization, packed }: CheckpointWeights,
  inputs: ReadonlyMap<string, string>,
  version: string,
): Promise<EncodingsFile> {
  if (quantization === undefined) {
    throw new UnsupportedError(
      'the model has no quantized layers, so there are no encodings; leave encodings (--encodings) out',
    )
  }
  const weights: Encoding[] = []
  for (const module of Object.keys(quantization.modules)) {
    const layer = await packed(`${module}.weight`)
    if (layer === undefined) continue
    if ('layout' in layer) {
      throw new UnsupportedError(
        `${module}: is stored as vectors, and encodings are grids of scalars. Quantize with --method gptq or rtn, or leave ` +
          'encodings (--encodings) out',
      )
    }
    const { cols, bits, groupSize, scales, zeros } = unpackScalar(layer)
    const isChannel = groupSize >= cols
    // fewer bits are codes of 4 bits too, of which the greater ones do not occur
    const bw = Math.max(LEAST_BITS, bits)
    if (!isChannel && cols % groupSize !== 0) {
      throw new UnsupportedError(
        `${module}: its groups of ${groupSize} do not divide its ${cols} inputs, which encodings cannot say. Quantize with a ` +
          'group size that does, or leave encodings (--encodings) out',
      )
    }
    weights.push({
      name: `${module}.weight`,
      dtype: 'INT',
      enc_type: isChannel ? 'PER_CHANNEL' : 'PER_BLOCK',
      is_sym: zeros.every((zero) => zero === 2 ** (bw - 1)),
      bw,
      ...(!isChannel && { block_size: groupSize }),
      scale: Array.from(scales, halfToFloat),
      offset: Array.from(zeros, (zero) => 0 - zero),
    })
  }
  return {
    version: '1.0.0',
    activation_encodings: activationEncodings(quantization.activations, inputs),
    param_encodings: weights,
    excluded_layers: [],
    producer: `gptvq ${version}`,
  }
}

type Activations = NonNullable<CheckpointWeights['quantization']>['activations']

/** Layers that read the same have one range between them. */
function activationEncodings(activations: Activations, inputs: ReadonlyMap<string, string>): Encoding[] {
  const { inputs: rounding, ranges } = activations ?? {}
  if (rounding === undefined || ranges === undefined) return []
  const found = new Map<string, Encoding>()
  for (const [module, name] of inputs) {
    if (found.has(name) || !Object.hasOwn(ranges, module)) continue
    const { scale, zero } = activationGrid(...ranges[module], rounding)
    found.set(name, {
      name,
      dtype: 'INT',
      enc_type: 'PER_TENSOR',
      is_sym: rounding.symmetric,
      bw: rounding.bits,
      scale: [scale],
      offset: [0 - zero],
    })
  }
  return [...found.values()]
}
