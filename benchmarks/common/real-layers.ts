import { fileURLToPath } from 'node:url'
import { type Matrix, matrix } from 'gptvq'
import { type LinearLayer, linearLayers, type OpenModel, openModel, startEngine } from 'gptvq/model'
import { type Block, disposeBlock, openBlock } from '../../src/model/decoder/block.js'
import { embedTokens } from '../../src/model/decoder/embedding.js'
import { blockStages } from '../../src/model/decoder/stages.js'
import { gatherCalibration } from '../../src/pipeline/calibrate/calibration.js'
import {
  type CalibrationStream,
  calibrationStream,
  passStage,
} from '../../src/pipeline/calibrate/calibration-stream.js'
import { collectStatistics } from '../../src/pipeline/calibrate/statistics/input-statistics.js'

/** A layer with the Hessian that it is quantized by, and one of inputs that quantization does not see. */
export interface BenchmarkLayer {
  readonly name: string
  readonly weight: Matrix
  readonly hessian: Matrix
  readonly heldOut: Matrix
}

/** The embedded model. */
export const modelFolder = fileURLToPath(new URL('../../examples/models/tiny-llama', import.meta.url))
/** Tokens of a sequence, the model's context. */
export const sequenceLength = 256

/** One layer of each kind of input, each of another block, and of each shape that the model has. */
const chosen = [
  { block: 0, kind: 'self_attn.k_proj' },
  { block: 1, kind: 'self_attn.o_proj' },
  { block: 2, kind: 'mlp.gate_proj' },
  { block: 3, kind: 'mlp.down_proj' },
] as const

/**
 * Layers of the embedded model. Hessians are those of the full model's activations on `sequences` sequences of its
 * calibration text, held-out ones on as many of its evaluation text, unless stated.
 */
export async function realLayers(
  sequences: number,
  blocks: number,
  heldOutSequences = sequences,
): Promise<BenchmarkLayer[]> {
  await startEngine('wasm')
  const model = await openModel(modelFolder)
  try {
    const [calibration, evaluation] = [
      await embeddedText(model, 'calibration', sequences),
      await embeddedText(model, 'evaluation', heldOutSequences),
    ]
    const layers: BenchmarkLayer[] = []
    for (let index = 0; index < blocks; index++) {
      const block = await openBlock(model.source, model.config.blocks[index])
      try {
        const hessians = await hessiansThrough(block, calibration)
        const heldOut = await hessiansThrough(block, evaluation)
        for (const linear of linearLayers(model.config, index).filter(({ kind }) => isChosen(index, kind))) {
          const { name, kind, rows, cols } = linear
          const weight = matrix(rows, cols, await model.source.floats(name))
          layers.push({ name, weight, hessian: hessians.get(kind)!, heldOut: heldOut.get(kind)! })
        }
      } finally {
        disposeBlock(block)
      }
    }
    return layers
  } finally {
    await model.close()
  }
}

function isChosen(index: number, layer: LinearLayer['kind']): boolean {
  return chosen.some(({ block, kind }) => block === index && kind === layer)
}

/** Takes the tokens through a block and gives the Hessians of its linear layers. */
export async function hessiansThrough(
  block: Block,
  stream: CalibrationStream,
): Promise<Map<LinearLayer['kind'], Matrix>> {
  const hessians = new Map<LinearLayer['kind'], Matrix>()
  for (const stage of blockStages(block.description)) {
    for (const [kind, { hessian }] of await collectStatistics(stage, { block, stream })) {
      hessians.set(kind, hessian)
    }
    await passStage(block, stage, stream)
  }
  return hessians
}

/** The embeddings of `count` sequences of one of the model's texts: what flows into its first block. */
export async function embeddedText(
  { source, config }: OpenModel,
  text: 'calibration' | 'evaluation',
  count: number,
): Promise<CalibrationStream> {
  const options = {
    calibration: `${modelFolder}/texts/${text}.txt`,
    sequences: count,
    sequenceLength,
  }
  const { sequences } = await gatherCalibration(options, modelFolder, source, config, () => {})
  const data = await embedTokens(source, config, Int32Array.from(sequences.flatMap((run) => [...run])))
  return calibrationStream(config, data, sequenceLength)
}
