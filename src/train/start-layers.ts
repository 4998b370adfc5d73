import { join } from 'node:path'
import { openCheckpoint } from '../checkpoint/checkpoint.js'
import { readQuantization } from '../checkpoint/quantized/quantization.js'
import { readQuantizedLayer } from '../checkpoint/quantized/quantized-tensors.js'
import { CheckpointError, UnsupportedError } from '../errors.js'
import type { DecoderDescription } from '../model/decoder/description.js'
import { allLinearLayers } from '../model/decoder/linears.js'
import { describeDecoder } from '../model/families/index.js'
import type { QuantizedLayer } from '../packing/quantized-layer.js'
import type { PartProgress } from '../pipeline/progress.js'
import { type QuantizeModelOptions, quantizeModel } from '../pipeline/quantize/quantize-model.js'

/** The quantized layers that training starts from. */
export interface StartLayers {
  /** By the name of the weight; linear layers first, then others, such as a rounded embedding. */
  readonly layers: ReadonlyMap<string, QuantizedLayer>
  /** `'gptvq'`, `'gptq'` or `'rtn'`. */
  readonly method: string
  /** The options they were made with. */
  readonly settings: Readonly<Record<string, unknown>>
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
 * @param model where the model that it was made from lies, for errors
 * @throws CheckpointError when it is not quantized, or of another model
 */
export async function storedStart(
  folder: string,
  model: string,
  config: DecoderDescription,
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
    if (quantization.activations !== undefined) {
      throw new UnsupportedError(
        `${folder}: rounds activations (scheme or activationBits), which training does not simulate; start from a folder of ` +
          'the same model without, or leave start out',
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
    const { method, settings } = quantization
    return { layers, method, settings }
  } finally {
    await checkpoint.close()
  }
}
