import { openEmbedding } from '../../src/model/decoder/embedding.js'
import { openHead } from '../../src/model/decoder/head.js'
import { predictionLoss } from '../../src/model/passes/prediction-loss.js'
import { openModel } from '../../src/pipeline/folders/open-model.js'
import { forwardBlocks } from '../../src/train/loop/passes.js'
import { joinTokens } from '../../src/train/loop/run-training.js'
import { splitSequences } from '../../src/train/loop/sequences.js'
import type { TrainingOptions } from '../../src/train/options.js'
import { tinyText } from './tiny-model.js'

/** Tokens of each of the {@link trainingSequences}. */
const LENGTH = 16

/** Sequences of tokens of the tiny model. */
export function trainingSequences(count = 24): Int32Array[] {
  const bytes = Buffer.from(tinyText(count * LENGTH, 3))
  return Array.from({ length: count }, (_, i) =>
    Int32Array.from(bytes.subarray(i * LENGTH, (i + 1) * LENGTH)),
  )
}

/** Those of them that training holds out by default. */
export function heldOutOf(sequences: readonly Int32Array[]): Int32Array[] {
  return splitSequences(sequences, 1 / 8).heldOut.map((i) => sequences[i])
}

/** The mean losses of a folder on sequences of 16 tokens, by a forward pass that is not training's own. */
export async function lossesOf(folder: string, model: string, chosen: readonly Int32Array[]) {
  const run = async (from: string) => {
    const { source, config, close } = await openModel(from)
    const embed = await openEmbedding(source, config)
    const noPause = async () => {}
    const hidden = await forwardBlocks({ source, config }, await embed(joinTokens(chosen)), LENGTH, noPause)
    return { hidden, head: await openHead(source, config), close }
  }
  const [student, teacher] = [await run(folder), await run(model)]
  const tokens = joinTokens(chosen)
  const next = tokens.map((_, i) => (i % LENGTH === LENGTH - 1 ? -1 : tokens[i + 1]))
  const sums = await predictionLoss(student.head, student.hidden, { next, teacher })
  for (const { head, close } of [student, teacher]) {
    head.dispose()
    await close()
  }
  return {
    divergence: sums.divergence / tokens.length,
    crossEntropy: sums.crossEntropy / (tokens.length - chosen.length),
  }
}

/** Options that stop a training as a step begins. */
export function stopAtStep(step: number): Pick<TrainingOptions, 'onProgress' | 'signal'> {
  const stop = new AbortController()
  const onProgress = (progress: { readonly step: string }) => {
    if (progress.step.startsWith(`training: step ${step} `)) stop.abort()
  }
  return { onProgress, signal: stop.signal }
}
