/**
 * Training: quantized models end to end (quantization-aware training, LR-QAT, codebooks), and students of larger models. Runs
 * in Node.
 *
 * @module gptvq/train
 */
export type { TextSource } from './pipeline/calibrate/text-source.js'
export type { OnProgress, Progress } from './pipeline/progress.js'
export { type DistillModelOptions, type DistillModelReport, distillModel } from './train/distill-model.js'
export type { TrainingCurve, TrainingLoss, TrainingPoint } from './train/loop/report.js'
export type { StateBytes } from './train/loop/student.js'
export type { TrainingOptions } from './train/options.js'
export { type TrainModelReport, trainModel } from './train/train-model.js'
export { type TrainingMethod, type TrainModelOptions, trainingMethods } from './train/train-model-options.js'
export { trainingDetails } from './train/training-details.js'
