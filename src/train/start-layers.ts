import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { type Checkpoint, openCheckpoint } from '../checkpoint/checkpoint.js'
import { readQuantization } from '../checkpoint/quantized/quantization.js'
import type { QuantizationConfig } from '../checkpoint/quantized/quantized-config.js'
import { readQuantizedLayer, storedTensors } from '../checkpoint/quantized/quantized-tensors.js'
import { activationListener, type StoredActivations } from '../checkpoint/quantized/stored-activations.js'
import { CheckpointError } from '../common/errors.js'
import { bytesOf } from '../common/view-bytes.js'
import { allLinearLayers } from '../model/decoder/linears.js'
import type { WeightSource } from '../model/decoder/weights.js'
import { describeDecoder } from '../model/families/index.js'
import { pack, type QuantizedLayer } from '../packing/quantized-layer.js'
import { withQuantizedLayers } from '../pipeline/folders/open-model.js'
import type { PartProgress } from '../pipeline/progress.js'
import { type QuantizeModelOptions, quantizeModel } from '../pipeline/quantize/quantize-model.js'
import { digestOfWeights } from '../pipeline/quantize/run-record.js'
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
  /** Plain tensors of its blocks that are not those of the full model: it was equalized, or its norms were trained. */
  readonly plain: ReadonlyMap<string, Float32Array>
  /** Whether its layers are not those of the full model, rounded, but of one with sizes moved between tensors. */
  readonly isEqualized: boolean
  /** SHA-256 of its weights files; undefined where it was quantized now. */
  readonly weights?: string
  /** What a person should know of it. */
  readonly notes: readonly string[]
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
  return { layers, method, settings, plain: new Map(), isEqualized: false, notes: [] }
}

/**
 * Reads the layers of a quantized folder.
 *
 * @param full the model that it was made from
 * @param weights SHA-256 of that model's weights files
 * @throws CheckpointError when it is not quantized, or of another model
 */
export async function storedStart(
  folder: string,
  { folder: model, source, config }: FoundModel,
  weights: string,
  signal: AbortSignal | undefined,
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
    const notes = notesOnOrigin(folder, quantization, model, weights)
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
    return {
      ...{ layers, method, settings, activations, notes },
      plain: await changedTensors(checkpoint, { folder: model, source, config }),
      isEqualized: 'equalization' in settings,
      weights: await digestOfWeights(checkpoint, signal),
    }
  } finally {
    await checkpoint.close()
  }
}

/**
 * @returns what a person should know where a folder does not say which weights it was made of
 * @throws CheckpointError where they are not those of the model
 */
function notesOnOrigin(
  folder: string,
  { run }: Pick<QuantizationConfig, 'run'>,
  model: string,
  weights: string,
): string[] {
  const made = run?.weights
  if (typeof made !== 'string') {
    return [
      `${folder} does not say which weights it was made of; that they are those of ${model} was not checked`,
    ]
  }
  if (made === weights) return []
  throw new CheckpointError(
    `${folder}: was made of other weights than those of ${model} (SHA-256 ${made.slice(0, 12)}… by its config.json, ` +
      `found ${weights.slice(0, 12)}…); give the model that it was made from`,
  )
}

/** Plain tensors of the blocks of a quantized folder whose values are not those of the full model. */
async function changedTensors(
  checkpoint: Checkpoint,
  { source, config: { blocks } }: FoundModel,
): Promise<Map<string, Float32Array>> {
  const changed = new Map<string, Float32Array>()
  for (const name of checkpoint.tensors.keys()) {
    const isOfBlock = blocks.some(({ prefix }) => name.startsWith(prefix))
    if (!isOfBlock || source.shape(name) === undefined) continue
    const [values, full] = [await checkpoint.readFloats(name), await source.floats(name)]
    if (values.some((value, i) => value !== full[i])) changed.set(name, values)
  }
  return changed
}

/**
 * A full model as training has it: with the plain tensors of its start and the embedding and head that it rounded, and its
 * activations rounded as there. Linear layers of the blocks are those of the full model.
 */
export function asStarted(
  { folder, source, config }: FoundModel,
  { layers, activations, plain }: StartLayers,
): FoundModel {
  const linear = new Set(allLinearLayers(config).map(({ name }) => name))
  const ends = withQuantizedLayers(source, new Map([...layers].filter(([name]) => !linear.has(name))))
  const isQuantized = (layer: string) => layers.has(`${layer}.weight`)
  const rounded: WeightSource = {
    shape: ends.shape,
    rows: ends.rows,
    floats: async (name) => plain.get(name) ?? ends.floats(name),
    ...(activations && { onActivations: activationListener(activations, isQuantized) }),
  }
  return { folder, source: rounded, config }
}

/** SHA-256 of all that training takes from its start. */
export function digestOfStart({ layers, plain, activations }: StartLayers): string {
  const hash = createHash('sha256').update(JSON.stringify(activations ?? null))
  for (const [weight, layer] of layers) {
    for (const { name, dtype, shape, bytes } of storedTensors(weight, pack(layer))) {
      hash.update(JSON.stringify([name, dtype, shape])).update(bytes)
    }
  }
  for (const [name, values] of plain) hash.update(name).update(bytesOf(values))
  return hash.digest('hex')
}
