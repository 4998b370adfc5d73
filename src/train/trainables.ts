import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { type FloatDtype, isFloatDtype } from '../checkpoint/dtype.js'
import { findTensor } from '../checkpoint/tensor-source.js'
import { OptionError, UnsupportedError } from '../common/errors.js'
import { matrix } from '../common/matrix.js'
import { deriveSeed } from '../common/random.js'
import { normsOf } from '../model/decoder/block.js'
import type { DecoderDescription } from '../model/decoder/description.js'
import { allLinearLayers } from '../model/decoder/linears.js'
import { dequantize, type QuantizedLayer } from '../packing/quantized-layer.js'
import { isTrellis } from '../packing/vq-layer.js'
import { dtypeThatHolds } from '../pipeline/folders/output.js'
import type { FoundModel } from './prepare.js'
import type { StartLayers } from './start-layers.js'
import type { SettledTraining } from './train-model-options.js'
import { trainableCodebooks } from './weights/codebooks.js'
import { outermostRate } from './weights/grid.js'
import { trainableLowRank } from './weights/low-rank.js'
import { trainablePlain } from './weights/plain.js'
import { trainableScalar } from './weights/scalar.js'
import type { Trainable } from './weights/trainable.js'
import { trainableTrellis } from './weights/trellis.js'

/**
 * What is trained of a quantized model, by the name of the tensor: its quantized linear layers, and the norms of its blocks.
 *
 * @throws UnsupportedError for a layer that the method cannot train
 */
export async function quantizedTrainables(
  checkpoint: Checkpoint,
  { source, config }: FoundModel,
  { layers, plain, isEqualized }: StartLayers,
  settings: SettledTraining,
): Promise<Map<string, Trainable>> {
  const trained = new Map<string, Trainable>()
  for (const [index, { name, rows, cols }] of allLinearLayers(config).entries()) {
    const layer = layers.get(name)
    if (layer === undefined) continue
    // the full weights say nothing of where those of an equalized model lie within their cells
    const full = async () => (isEqualized ? dequantize(layer) : matrix(rows, cols, await source.floats(name)))
    trained.set(name, await trainableLayer(name, layer, full, settings, index))
  }
  if (settings.normRate === 0) return trained
  const rate = outermostRate(settings.normRate, meanBits(layers))
  for (const name of normNames(config)) {
    const values = await source.floats(name)
    const dtype = dtypeOf(checkpoint, name)
    trained.set(name, trainablePlain(values, plain.has(name) ? dtypeThatHolds(values, dtype) : dtype, rate))
  }
  return trained
}

/** Bits of a code or an index per weight, over all weights. */
function meanBits(layers: ReadonlyMap<string, QuantizedLayer>): number {
  let bits = 0
  let weights = 0
  for (const layer of layers.values()) {
    const { rows, cols, bits: own } = 'layout' in layer ? layer.layout : layer
    bits += rows * cols * own
    weights += rows * cols
  }
  return bits / weights
}

/** The tensors of all norms of the blocks. */
export function normNames({ blocks }: DecoderDescription): string[] {
  return blocks.flatMap((block) =>
    Object.values(normsOf(block)).flatMap(({ weights, biases }) => [...weights, ...biases]),
  )
}

/** The dtype that a tensor is stored in, F32 where that is none of floats. */
export function dtypeOf({ tensors, folder }: Checkpoint, name: string): FloatDtype {
  const { dtype } = findTensor(tensors, name, folder)
  return isFloatDtype(dtype) ? dtype : 'F32'
}

/** Refuses factors that are thicker than a layer. @throws OptionError naming the layer that bounds them */
export function requireThin(
  { method, rank }: Pick<SettledTraining, 'method' | 'rank'>,
  config: DecoderDescription,
  isTrained: (name: string) => boolean,
): void {
  if (method !== 'lr-qat') return
  const sideOf = ({ rows, cols }: { rows: number; cols: number }) => Math.min(rows, cols)
  const [least] = allLinearLayers(config)
    .filter(({ name }) => isTrained(name))
    .sort((a, b) => sideOf(a) - sideOf(b))
  if (least === undefined || rank <= sideOf(least)) return
  const { name, rows, cols } = least
  throw new OptionError(
    'rank',
    `expected at most ${sideOf(least)}, the smaller side of ${name} (${rows} x ${cols}), got ${rank}`,
  )
}

async function trainableLayer(
  name: string,
  layer: QuantizedLayer,
  full: () => Promise<ReturnType<typeof matrix>>,
  { method, scaleRate, rank, frozenBits, indexRate, seed }: SettledTraining,
  index: number,
): Promise<Trainable> {
  const isVector = 'layout' in layer
  if (isVector !== (method === 'codebooks')) {
    throw new UnsupportedError(
      isVector
        ? `${name}: is a layer of vectors; method '${method}' trains scalar layers. Choose method 'codebooks', or a start of ` +
            "method 'gptq' or 'rtn'"
        : `${name}: is a scalar layer; method 'codebooks' trains layers of vectors. Choose method 'qat' or 'lr-qat', or a ` +
            "start of method 'gptvq'",
    )
  }
  if (isVector) {
    return isTrellis(layer.layout)
      ? trainableTrellis(layer, { indexRate })
      : trainableCodebooks(layer, { indexRate })
  }
  if (method === 'qat') return trainableScalar(await full(), layer, scaleRate)
  const bits = layer.bits > frozenBits ? 16 : frozenBits
  const factors = { rank, frozenBits: bits, scaleRate, seed: deriveSeed(seed, 7, index) } as const
  return trainableLowRank(await full(), layer, factors)
}
