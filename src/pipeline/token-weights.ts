import { pacer } from '../event-loop.js'
import { backwardBlock } from '../model/backward.js'
import type { LlamaConfig } from '../model/config.js'
import { openEmbedding } from '../model/embedding.js'
import { openHead } from '../model/head.js'
import { type LinearInputGroup, linearInputGroups } from '../model/linears.js'
import { sampledLossGradient } from '../model/sampled-loss.js'
import type { WeightSource } from '../model/weights.js'
import { deriveSeed, randomGenerator } from '../random.js'
import { forwardBlocks, parts, withBlock } from './tuning/passes.js'

/** Values of the inputs of all blocks that are held at once. */
const HELD_VALUES = 2 ** 28

/** Weights of the calibration tokens for each group of a block's layers, their mean 1; blocks in order. */
export type TokenWeights = readonly ReadonlyMap<LinearInputGroup, Float32Array>[]

export async function tokenWeights(
  source: WeightSource,
  config: LlamaConfig,
  sequences: readonly Int32Array[],
  seed: number,
  onProgress: (done: number) => void,
  signal: AbortSignal | undefined,
): Promise<TokenWeights> {
  const length = sequences[0].length
  const tokens = sequences.length * length
  const pause = pacer(signal)
  const weights = Array.from({ length: config.layers }, () => new Map(linearInputGroups.map((group) => [group, new Float32Array(tokens)])))
  const groupOf = new Map(linearInputGroups.flatMap((group) => group.map((kind) => [kind, group] as const)))
  const perTurn = Math.max(1, Math.floor(HELD_VALUES / (length * config.hiddenSize * config.layers)))
  const random = randomGenerator(deriveSeed(seed, 3))
  const head = await openHead(source, config)
  const embed = await openEmbedding(source, config)
  try {
    for (let first = 0; first < sequences.length; first += perTurn) {
      const turn = sequences.slice(first, first + perTurn)
      const inputs: Float32Array[] = []
      const ids = new Int32Array(turn.flatMap((sequence) => Array.from(sequence)))
      const hidden = await forwardBlocks({ source, config }, await embed(ids), length, pause, (_, input) => inputs.push(input))
      let onOutput = await sampledLossGradient(head, hidden, random)
      for (let index = config.layers - 1; index >= 0; index--) {
        const input = inputs.pop()!
        const onInput = new Float32Array(input.length)
        await withBlock({ source, config }, index, async (block) => {
          for (const { first: at, count, of } of parts(input, length, config)) {
            await pause()
            const firstToken = first * length + at / config.hiddenSize
            const passed = backwardBlock(block, of(input), of(onOutput), count, length, (kind, _, dy) => {
              const sums = weights[index].get(groupOf.get(kind)!)!
              addSquares(dy.dataSync<'float32'>(), dy.shape[1], sums, firstToken)
            })
            onInput.set(passed, at)
          }
        })
        onOutput = onInput
        onProgress((first + (turn.length * (config.layers - index)) / config.layers) / sequences.length)
      }
    }
  } finally {
    head.dispose()
  }
  for (const block of weights) for (const sums of block.values()) scaleToMeanOne(sums)
  return weights
}

function addSquares(gradient: Float32Array, width: number, sums: Float32Array, first: number): void {
  for (let token = 0; token * width < gradient.length; token++) {
    let sum = 0
    for (let i = token * width; i < (token + 1) * width; i++) sum += gradient[i] ** 2
    sums[first + token] += sum
  }
}

function scaleToMeanOne(weights: Float32Array): void {
  let sum = 0
  for (const weight of weights) sum += weight
  const p = Number(process.env.GP ?? 1)
  for (let i = 0; i < weights.length; i++) weights[i] = (weights[i] * weights.length / sum) ** p
  sum = 0
  for (const weight of weights) sum += weight
  for (let i = 0; i < weights.length; i++) weights[i] *= weights.length / sum
}
