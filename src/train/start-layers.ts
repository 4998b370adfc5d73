import { join } from 'node:path'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.js'
import { readQuantization } from '../checkpoint/quantized/quantization.js'
import { readQuantizedLayer } from '../checkpoint/quantized/quantized-tensors.js'
import { activationListener, type StoredActivations } from '../checkpoint/quantized/stored-activations.js'
import { CheckpointError } from '../common/errors.js'
import type { DecoderDescription } from '../model/decoder/description.js'
import { allLinearLayers } from '../model/decoder/linears.js'
import type { WeightSource } from '../model/decoder/weights.js'
import { describeDecoder } from '../model/families/index.js'
import type { QuantizedLayer } from '../packing/quantized-layer.js'
import type { PartProgress } from '../pipeline/progress.js'
import { type QuantizeModelOptions, quantizeModel } from '../pipeline/quantize/quantize-model.js'
import type { FoundModel } from './prepare.js'

/** The quantized layers that training starts from. */
export interface StartLayers {
  /** By the name of the weight; linear layers first, then others, such as a rounded embedding. */
  readonly layers: ReadonlyMap<string, QuantizedLayer>
  /** `'gptvq'`, `'gptq'` or `'rtn'`. */
  readonly method: string
  /** The options they were made with. */
  readonly settings: Readonly<Record<string, unknown>>
  /** How activations are rounded where it is run; undefined: not at all. */
  readonly activations?: StoredActivations | undefined
  /**
   * Of a model that was equalized the plain tensors of its blocks, which are not those of the full model any more. Undefined:
   * all are.
   */
  readonly equalized?: ReadonlyMap<string, Float32Array> | undefined
}

/** Quantizes the model in memory. */
export async function quantizedStart(
  options: Omit<QuantizeModelOptions, 'output' | 'onLayer' | 'onProgress'>,
  onProgress: PartProgress,
): Promise<StartLayers> {
  const layers = new Map<string, QuantizedLayer>()
  const { method, settings } = await quantizeModel({
    ...options,
    onLayer: (name, layer) => layers.set(name, layer),
    onProgress: ({ step, done }) => onProgress(step, done),
  })
  return { layers, method, settings }
}

/**
 * Reads the layers of a quantized folder.
 *
 * @param full the model that it was made from
 * @throws CheckpointError when it is not quantized, or of another model
 */
export async function storedStart(
  folder: string,
  { folder: model, source, config }: FoundModel,
): Promise<StartLayers> {
  const checkpoint = await openCheckpoint(folder)
  try {
    const quantization = readQuantization(checkpoint)
    if (quantization === undefined) {
      throw new CheckpointError(
        `${folder}: is not quantized; start is the folder that quantizeModel made of ${model}. Leave it out to have it ` +
          'quantized now',
      )
    }
    const own = describeDecoder(checkpoint.config, join(folder, 'config.json'))
    if (JSON.stringify(own) !== JSON.stringify(config)) {
      throw new CheckpointError(
        `${folder}: its config.json describes another model than that of ${model}; give the model that it was made from`,
      )
    }
    const layers = new Map<string, QuantizedLayer>()
    const names = new Set(allLinearLayers(config).map(({ name }) => name))
    const records = Object.entries(quantization.modules)
    const isLinear = ([module]: (typeof records)[number]) => names.has(`${module}.weight`)
    for (const [module, record] of [
      ...records.filter(isLinear),
      ...records.filter((one) => !isLinear(one)),
    ]) {
      layers.set(`${module}.weight`, await readQuantizedLayer(checkpoint, module, record))
    }
    const { method, settings, activations } = quantization
    const isPlain = (name: string) => source.shape(name) !== undefined && !layers.has(name)
    const plain = 'equalization' in settings ? await tensorsOfBlocks(checkpoint, config, isPlain) : undefined
    return { layers, method, settings, activations, equalized: plain }
  } finally {
    await checkpoint.close()
  }
}

async function tensorsOfBlocks(
  checkpoint: Checkpoint,
  { blocks }: DecoderDescription,
  isWanted: (name: string) => boolean,
): Promise<Map<string, Float32Array>> {
  const tensors = new Map<string, Float32Array>()
  for (const name of checkpoint.tensors.keys()) {
    const isOfBlock = blocks.some(({ prefix }) => name.startsWith(prefix))
    if (isOfBlock && isWanted(name)) tensors.set(name, await checkpoint.readFloats(name))
  }
  return tensors
}

/** A full model as training has it: with the plain tensors of its start, and its activations rounded as there. */
export function asStarted(
  { folder, source, config }: FoundModel,
  { layers, activations, equalized }: StartLayers,
): FoundModel {
  const isQuantized = (layer: string) => layers.has(`${layer}.weight`)
  const rounded: WeightSource = {
    shape: source.shape,
    rows: source.rows,
    floats: async (name) => equalized?.get(name) ?? source.floats(name),
    ...(activations && { onActivations: activationListener(activations, isQuantized) }),
  }
  return { folder, source: rounded, config }
}
