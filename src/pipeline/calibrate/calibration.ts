import type { ModelPlace } from '../../checkpoint/model-source.js'
import { requireWhole } from '../../common/check-option.js'
import { TextError } from '../../common/errors.js'
import { deriveSeed, randomGenerator } from '../../common/random.js'
import { shownValue } from '../../common/shown-value.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { assertTokenIds } from '../../model/decoder/embedding.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { sampleSequences } from '../../model/passes/sampling.js'
import { cutText } from './first-token.js'
import { readTokens, requireTextSource, type TextSource } from './text-source.js'

/** Where calibration activations come from. */
export interface CalibrationOptions {
  /** A text, or sequences of token ids of one length. Default: text that the model itself writes. */
  calibration?:
    | TextSource
    | {
        /** Token ids, two or more in each sequence, all of one length. */
        readonly sequences: readonly Int32Array[]
      }
  /** Sequences at most, default 128. */
  sequences?: number
  /** Tokens per sequence at most, default 2048; never more than the model's context. */
  sequenceLength?: number
  /** Seed of the choice of sequences, or of the sampling. Default 0. */
  seed?: number
}

/** Sequences of one length, and what a person should know of how they were chosen. */
export interface Calibration {
  readonly sequences: readonly Int32Array[]
  readonly length: number
  /** E.g. that fewer sequences than asked for fit the text. */
  readonly notes: readonly string[]
}

/**
 * Gathers the calibration sequences: from a text, disjoint runs of tokens drawn by the seed, behind the first token of models
 * that need one.
 *
 * @throws TextError when the text is shorter than one sequence; OptionError
 */
export async function gatherCalibration(
  options: CalibrationOptions,
  model: ModelPlace,
  source: WeightSource,
  config: DecoderDescription,
  onProgress: (done: number, total: number) => void,
  signal?: AbortSignal,
): Promise<Calibration> {
  const { calibration, sequences = 128, sequenceLength = 2048, seed = 0 } = options
  requireCalibration(calibration)
  requireWhole('sequences', sequences, 1)
  requireWhole('sequenceLength', sequenceLength, 2)
  if (typeof calibration === 'object' && 'sequences' in calibration)
    return given(calibration.sequences, config)
  const length = Math.min(sequenceLength, config.maxPositions)
  const notes: string[] = []
  if (length < sequenceLength) {
    notes.push(`sequences have ${length} tokens, the model's context, instead of ${sequenceLength}`)
  }
  if (calibration === undefined) {
    const total = sequences * length
    const sampled = await sampleSequences(source, config, {
      count: sequences,
      length,
      seed: deriveSeed(seed, 1),
      onProgress: (progress) => onProgress(progress.done, progress.total ?? total),
      ...(signal && { signal }),
    })
    notes.push(`calibrated on ${sequences} sequences written by the model itself`)
    return { sequences: sampled, length, notes }
  }
  const tokens = await readTokens(calibration, model, config, signal)
  const { firstToken } = config
  const chosen = drawSequences(tokens, sequences, length, seed, firstToken)
  if (firstToken !== undefined)
    notes.push(`each sequence begins with BOS (${firstToken}), which a ${config.family} needs`)
  if (chosen.length < sequences) {
    notes.push(
      `the calibration text has ${tokens.length} tokens, enough for ${chosen.length} of ${sequences} sequences`,
    )
  }
  return { sequences: chosen, length, notes }
}

/**
 * Checks what is given as calibration, before anything is read or written.
 *
 * @throws TextError
 */
export function requireCalibration(calibration: CalibrationOptions['calibration']): void {
  if (calibration === undefined) return
  const { sequences } = Object(calibration) as { readonly sequences?: unknown }
  if (sequences === undefined) {
    requireTextSource(calibration as TextSource)
    return
  }
  if (Array.isArray(sequences) && sequences.every((ids) => ids instanceof Int32Array)) return
  throw new TextError(`calibration: expected sequences as a list of Int32Array, got ${shownValue(sequences)}`)
}

function given(sequences: readonly Int32Array[], config: DecoderDescription): Calibration {
  const length = sequences[0]?.length ?? 0
  if (
    length < 2 ||
    length > config.maxPositions ||
    sequences.some((sequence) => sequence.length !== length)
  ) {
    throw new TextError(
      `calibration sequences have ${[...new Set(sequences.map((s) => s.length))].join(', ') || 'no'} tokens; ` +
        `expected one length for all, from 2 to the model's context of ${config.maxPositions}`,
    )
  }
  for (const sequence of sequences) assertTokenIds(sequence, config.vocabSize)
  return { sequences, length, notes: [] }
}

/** Disjoint runs of a text from a random offset on, at most `count`, in random order; with what they begin with `length` long. */
function drawSequences(
  tokens: Int32Array,
  count: number,
  length: number,
  seed: number,
  firstToken: number | undefined,
): Int32Array[] {
  const { text, step, runAt } = cutText(tokens, length, firstToken)
  const fitting = Math.floor(text.length / step)
  if (fitting === 0) {
    throw new TextError(
      `the calibration text is too short: it has ${text.length} tokens, one sequence needs ${step}. ` +
        'Give more text, or shorter sequences',
    )
  }
  const random = randomGenerator(deriveSeed(seed, 2))
  const offset = Math.floor(random() * (text.length - fitting * step + 1))
  const order = Uint32Array.from({ length: fitting }, (_, i) => i)
  for (let i = fitting - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const swapped = order[i]
    order[i] = order[j]
    order[j] = swapped
  }
  return Array.from(order.subarray(0, count), (run) => runAt(offset + run * step).slice())
}
