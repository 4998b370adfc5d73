import { ShapeError } from '../../common/errors.js'
import { pacer } from '../../common/event-loop.js'
import { diagonalMatrix, type Matrix, matrix } from '../../common/matrix.js'
import { shareFactors } from '../../hessian/inverse-factor.js'
import { type Block, disposeBlock, loadedWeight, openBlock } from '../../model/decoder/block.js'
import { openEmbedding } from '../../model/decoder/embedding.js'
import { isExpert } from '../../model/decoder/linears.js'
import { blockStages } from '../../model/decoder/stages.js'
import { readRows } from '../../model/decoder/weights.js'
import { openDivergences } from '../../model/passes/divergences.js'
import { resolveLayoutOptions } from '../../packing/layout-options.js'
import { throughBlock } from '../../train/loop/passes.js'
import { joinTokens } from '../../train/loop/run-training.js'
import type { Calibration } from '../calibrate/calibration.js'
import { hessianGroups } from '../calibrate/statistics/token-weights.js'
import { layerCandidates } from '../mixed/candidates.js'
import { divergencesOf, TOKENS_AT_ONCE } from '../mixed/probe.js'
import { openHeldHead } from '../mixed/sensitivity.js'
import { choosePieces } from '../mixed/share-budget.js'
import { type GroupInputs, stageInputs } from '../mixed/stage-inputs.js'
import { tryCandidates } from '../mixed/trials.js'
import { type TriedLayer, variantsOf } from '../mixed/variants.js'
import type { PreparedRun } from '../quantize/prepare-run.js'
import type { MethodSettings } from '../quantize/quantize-options.js'
import { stopwatch } from '../stopwatch.js'
import { corner, growing, type LayerSeconds, timedFactors } from './measure-layer.js'
import { enoughOfLayer, measureRows } from './measure-rows.js'

/** Weights of a layer that are quantized for trial, unless its threads need more rows. */
const MOST_WEIGHTS = 2 ** 20

/** What a block takes of the phase. */
interface BlockOfSharing {
  /** Reading its weights. */
  readonly open: number
  /** Its trials, what their Hessians are summed from, its own part of the comparisons. */
  readonly own: number
  /** A token through it. */
  readonly perToken: number
  /** Tokens that its trials send through the blocks behind it. */
  readonly tokensBehind: number
}

export interface SharingToMeasure {
  readonly calibration: Calibration
  readonly bpv: number
  /** The first of the blocks that are alike, and how many those are. */
  readonly blocksAlike: ReadonlyMap<number, number>
  /** That go through a block to be timed. */
  readonly mostTokens: number
}

/** Seconds that sharing bits takes: what `measureSensitivity` does, on fewer tokens and rows. */
export async function measureSharing(
  prepared: PreparedRun,
  { calibration, bpv, blocksAlike, mostTokens }: SharingToMeasure,
): Promise<number> {
  const { weights, config } = prepared
  const pause = pacer(undefined)
  const pieces = choosePieces(calibration.sequences)
  const all = { sequences: tokensOf(pieces.sequences), probes: tokensOf(pieces.probes) }
  const few = { sequences: fewOf(pieces.sequences, mostTokens), probes: fewOf(pieces.probes, mostTokens) }
  const timed = { sequences: tokensOf(few.sequences), probes: tokensOf(few.probes) }
  const embed = await openEmbedding(weights, config)
  const states = await embed(joinTokens(few.sequences))
  const probing = await embed(joinTokens(few.probes))

  const lap = stopwatch()
  const head = await openHeldHead(weights, config)
  try {
    const predictions = await openDivergences(head, probing)
    const once = lap()
    const probe = { states: probing, length: few.probes[0].length, predictions }
    const found: { readonly count: number; readonly block: BlockOfSharing }[] = []
    try {
      for (const [index, count] of blocksAlike) found.push({ count, block: await measure(index, probe) })
    } finally {
      predictions.dispose()
    }
    const mean = (pick: (block: BlockOfSharing) => number) =>
      found.reduce((sum, { count, block }) => sum + count * pick(block), 0) / config.blocks.length
    const blocks = config.blocks.length
    const behind = mean(({ tokensBehind }) => tokensBehind)
    const through =
      mean(({ open }) => open) * Math.ceil(behind / TOKENS_AT_ONCE) +
      mean(({ perToken }) => perToken) * behind
    const alone = mean(({ own, open, perToken }) => own + 2 * open + perToken * all.probes)
    return once + blocks * alone + (through * blocks * (blocks - 1)) / 2
  } finally {
    head.dispose()
  }

  async function measure(index: number, probe: Parameters<typeof divergencesOf>[4]): Promise<BlockOfSharing> {
    const description = config.blocks[index]
    const model = { source: weights, config: { ...config, blocks: [description] } }
    const clock = stopwatch()
    const block = await openBlock(weights, description)
    const open = clock()
    try {
      const seen = { length: few.sequences[0].length, weighting: prepared.settings.order.tokenWeights }
      const { inputs } = await stageInputs(block, config, states, seen, pause)
      let own = (clock() * all.sequences) / timed.sequences
      const { tries, seconds } = await tryParts(prepared, block, bpv, inputs)
      own += seconds
      const variants = variantsOf(description, tries)
      clock()
      await divergencesOf(model, 0, block, variants, probe, pause)
      own += (clock() * all.probes) / timed.probes
      await throughBlock(block, config, states, few.sequences[0].length, pause)
      const perToken = clock() / timed.sequences
      return { open, own, perToken, tokensBehind: variants.length * all.probes }
    } finally {
      disposeBlock(block)
    }
  }
}

/** Tries a part of a layer of each shape. @returns all layers, unchanged, and the seconds that their trials would take */
async function tryParts(
  { plan, settings }: PreparedRun,
  block: Block,
  bpv: number,
  inputs: GroupInputs,
): Promise<{ tries: TriedLayer[]; seconds: number }> {
  const tries: TriedLayer[] = []
  const known = new Map<string, TrialSeconds>()
  let seconds = 0
  const { tokenWeights } = settings.order
  const groups = blockStages(block.description).flatMap((stage) => hessianGroups(stage, tokenWeights))
  for (const { linears } of groups) {
    const wanted = linears.filter(({ module }) => plan.settingsOf(`${module}.weight`))
    for (const [i, linear] of wanted.entries()) {
      const { kind, module, rows, cols } = linear
      const shape = `${rows} x ${cols}`
      let trial = known.get(shape)
      if (trial === undefined) {
        const hessian = inputs.get(linears[0].kind)?.hessian() ?? diagonalMatrix(cols, 1)
        const values =
          loadedWeight(block, kind) ?? (await readRows(block.source, `${module}.weight`, 0, rows))
        trial = await timeTrials(matrix(rows, cols, values), hessian, settings, bpv)
        known.set(shape, trial)
      }
      seconds += trial.own + (i === 0 ? trial.factors : 0)
      const unchanged = { error: 1, change: new Float32Array(rows * cols) }
      const trials = Array.from({ length: trial.lists }, () => unchanged)
      const losses = isExpert(block.description, linear) ? trials.map(() => 1) : []
      const weight = loadedWeight(block, kind) ?? unchanged.change
      tries.push({
        kind,
        name: `${module}.weight`,
        weight,
        trials: { errors: trials.map(() => [1]), trials },
        losses,
      })
    }
  }
  return { tries, seconds }
}

/** Seconds of a layer's trials, and how many there are. */
interface TrialSeconds extends LayerSeconds {
  readonly lists: number
}

async function timeTrials(
  weight: Matrix,
  hessian: Matrix,
  settings: MethodSettings,
  bpv: number,
): Promise<TrialSeconds> {
  if (settings.method !== 'gptvq')
    throw new ShapeError(`trials of ${settings.method}; expected those of gptvq`)
  const { options } = settings
  const resolved = resolveLayoutOptions(options)
  const most = enoughOfLayer()
  let lists = 0
  const found = await growing(weight.cols, most.cols, async (cols) => {
    const rows = Math.min(weight.rows, Math.max(most.rows, Math.floor(MOST_WEIGHTS / cols)))
    const candidates = layerCandidates(rows, cols, resolved, bpv)
    lists = candidates.length
    const { timed, seconds, besides } = timedFactors(shareFactors())
    const inputs = corner(hessian, cols, cols)
    const how = { name: 'a trial', factors: timed }
    const time = (count: number) =>
      besides(async () => {
        await tryCandidates(corner(weight, count, cols), inputs, candidates, { ...options, bpv }, how)
      })
    const alike = resolved.trellisBits > 0
    return { ...(await measureRows(time, rows, weight.rows, alike)), factors: seconds() }
  })
  return { ...found, lists }
}

/** The first of the sequences, and of a single one its beginning. */
function fewOf(sequences: readonly Int32Array[], most: number): Int32Array[] {
  const { length } = sequences[0]
  return sequences
    .slice(0, Math.max(1, Math.floor(most / length)))
    .map((sequence) => sequence.subarray(0, Math.min(length, most)))
}

function tokensOf(sequences: readonly Int32Array[]): number {
  return sequences.length * sequences[0].length
}
