import type { DistillModelOptions } from '../../train/distill-model.js'
import type { TrainingOptions } from '../../train/options.js'
import type { TrainingMethod, TrainModelOptions } from '../../train/train-model-options.js'
import { UsageError } from '../errors.js'
import { engine, type FlagsOf, quantizeFlags, threads } from './flags.js'

const loopFlags = {
  text: {
    kind: 'path',
    value: 'FILE',
    required: true,
    help: 'UTF-8 text to train on, - for standard input; part of it is held out. Never the text of an evaluation',
  },
  sequences: { kind: 'whole', help: 'sequences at most', default: '128' },
  sequenceLength: {
    kind: 'whole',
    help: "tokens per sequence; never more than the model's context",
    default: '2048',
  },
  heldOut: {
    kind: 'number',
    help: 'share of the sequences that chooses the step that is kept',
    default: '0.125',
  },
  distillation: {
    kind: 'number',
    help: 'what KL(teacher || student) counts in the loss, 0 to 1; the cross entropy of the next token counts the rest',
    default: '1',
  },
  hiddenWeight: {
    kind: 'number',
    help: "what the distance of hidden states from the teacher's, relative to their size, counts beside that",
    default: '0',
  },
  epochs: { kind: 'whole', help: 'times that the sequences are gone through at most', default: '4' },
  batch: { kind: 'whole', help: 'sequences that run at once', default: '8' },
  accumulation: { kind: 'whole', help: 'batches whose gradients make one step', default: '1' },
  learningRate: {
    kind: 'number',
    help: 'the highest learning rate, in steps of the grid or shares of the size of codebooks and weights',
    default: '0.01 for qat, 0.003 for lr-qat, 0.01 for codebooks, 0.005 for distill',
  },
  warmup: { kind: 'number', help: 'share of the steps in which the learning rate rises', default: '0.05' },
  weightDecay: {
    kind: 'number',
    help: 'share of a weight that a step takes off, at the learning rate 1; not for codebooks',
    default: '0',
  },
  clip: { kind: 'number', help: 'norm above which the gradients of a step are scaled down', default: '1' },
  measureEvery: {
    kind: 'whole',
    help: 'steps between two measurements on held-out text',
    default: 'one epoch',
  },
  patience: { kind: 'whole', help: 'measurements without gain after which training stops', default: '3' },
  seed: {
    kind: 'whole',
    help: 'seed of all random choices; the same seed gives the same bytes',
    default: '0',
  },
  checkpoint: {
    kind: 'path',
    value: 'FILE',
    help: 'write the state here after each measurement, and go on from it; removed once the output is written',
    default: 'none',
  },
  engine,
  threads,
} as const satisfies FlagsOf<TrainingOptions>

const output = {
  out: { kind: 'path', value: 'DIR', required: true, help: 'the folder to write' },
  force: quantizeFlags.force,
  maxShardBytes: quantizeFlags.maxShardBytes,
} as const

/** The flags of `gptvq train`. */
export const trainFlags = {
  ...output,
  method: {
    kind: 'choice',
    choices: ['qat', 'lr-qat', 'codebooks'] satisfies readonly TrainingMethod[],
    required: true,
    help: 'what is trained, see the table',
  },
  start: {
    kind: 'path',
    value: 'MODEL',
    help: 'a quantized folder of the model to start from',
    default: 'the model is quantized now: by gptq, for codebooks by gptvq',
  },
  teacher: { kind: 'path', value: 'MODEL', help: 'another model to learn from', default: 'the model itself' },
  bits: { kind: 'whole', help: 'without --start: bits of a weight, 2 to 8', default: '4; 2 for codebooks' },
  groupSize: {
    kind: 'whole',
    help: 'without --start, for qat and lr-qat: weights of a row that share a scale',
    default: '128',
  },
  startMethod: {
    kind: 'choice',
    choices: ['gptq', 'rtn'] satisfies readonly TrainModelOptions['startMethod'][],
    help: 'without --start, for qat and lr-qat: what makes the layers to start from',
    default: 'gptq',
  },
  scaleRate: {
    kind: 'number',
    help: 'for qat and lr-qat: how far the outermost weight moves with its scale, relative to one trained by itself',
    default: '1; 2 for lr-qat',
  },
  normRate: {
    kind: 'number',
    help: 'learning rate of norms, counted as that of scales; 0: they stay',
    default: '1; 0.4 for codebooks',
  },
  rank: {
    kind: 'whole',
    help: 'for lr-qat: rank of the factors, at most the smaller side of a layer',
    default: '16',
  },
  frozenBits: {
    kind: 'choice',
    choices: [8, 16] satisfies readonly TrainModelOptions['frozenBits'][],
    help: 'for lr-qat: bits of a frozen weight',
    default: '8 where all layers have up to 4 bits, else 16',
  },
  indexRate: {
    kind: 'number',
    help: 'for codebooks: learning rate of what indices are chosen for, relative to that of codebooks; 0: they stay',
    default: '0',
  },
  rechooseEvery: {
    kind: 'whole',
    help: 'with --index-rate: steps between two choices of all indices',
    default: 'one epoch',
  },
  report: {
    kind: 'path',
    value: 'FILE',
    help: 'write an HTML page on the result too, as gptvq report does, with the curves of the losses',
  },
  ...loopFlags,
} as const satisfies FlagsOf<TrainModelOptions & { report?: string }>

/** The flags of `gptvq distill`. */
export const distillFlags = {
  ...output,
  student: { kind: 'path', value: 'MODEL', help: 'the plain model that learns; or --keep-blocks' },
  keepBlocks: {
    kind: 'text',
    help: 'make the student of these blocks of the teacher, counted from 0, e.g. 0,2; or --student',
  },
  ...loopFlags,
} as const satisfies FlagsOf<Omit<DistillModelOptions, 'teacher'>>

/** The numbers in `0,2,3`. @throws UsageError */
export function blockNumbers(text: string): number[] {
  if (/^\d+(,\d+)*$/.test(text)) return text.split(',').map(Number)
  throw new UsageError(`--keep-blocks: expected numbers of blocks with commas, e.g. 0,2, got '${text}'`)
}
