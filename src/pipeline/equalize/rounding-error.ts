import { findRange, type RangeSearch } from '../../activations/find-range.js'
import { roundActivations } from '../../activations/rounding.js'
import { quantizeRtn } from '../../baselines/rtn.js'
import type { ScalarOptions } from '../../baselines/scalar-options.js'
import { type Matrix, matrix } from '../../common/matrix.js'
import { wholeBlock } from '../../kernels/contract.js'
import { kernels } from '../../kernels/kernels.js'
import { dequantizeScalar } from '../../packing/scalar-layer.js'
import { countActivations } from '../activations/collect-ranges.js'
import type { ActivationSettings } from '../activations/options.js'
import type { InputSample } from './input-samples.js'

/** A layer to be rounded, and what it reads. */
export interface SampledLayer {
  readonly name: string
  /** rows x cols, as the model has it. */
  readonly weight: Matrix
  /** How its weights are rounded. */
  readonly options: ScalarOptions
  readonly sample: InputSample
  /** tokens x rows, its outputs in full precision. */
  readonly outputs: Float32Array
  /** What the squared error of each token is divided by. */
  readonly energies: Float64Array
}

/** What rows and columns of a layer's weights are multiplied by. */
export interface LayerFactors {
  readonly rows: Float64Array
  /** The inputs are divided by these. */
  readonly columns: Float64Array
}

/** The layer with its outputs. */
export function sampledLayer(layer: Omit<SampledLayer, 'outputs' | 'energies'>): SampledLayer {
  const { weight, sample } = layer
  const tokens = sample.values.length / sample.width
  const outputs = new Float32Array(tokens * weight.rows)
  multiply(sample.values, weight, outputs, 0)
  const squares = tokenSquares(outputs, weight.rows)
  const median = squares.slice().sort()[squares.length >> 1]
  return { ...layer, outputs, energies: squares.map((sum) => sum + median) }
}

/**
 * What rounding a layer's weights and inputs does to its outputs where its rows were multiplied by `r` and its columns by
 * `c` before: `|Q(x / c) Q(r W c)^T / r - x W^T|^2 / (|x W^T|^2 + m)`, the mean over tokens `x`. `m`, the median of
 * `|x W^T|^2`, keeps tokens of next to no output from counting most; without the division the few with massive activations
 * would be all that counts, though norms behind them make them as large as others.
 *
 * @param activations how inputs are rounded; undefined: not at all
 */
export function roundingError(
  { name, weight, options, sample, outputs, energies }: SampledLayer,
  { rows, columns }: LayerFactors,
  activations: ActivationSettings | undefined,
): number {
  const { cols } = weight
  const scaled = matrix(weight.rows, cols)
  for (let i = 0; i < scaled.data.length; i++) {
    scaled.data[i] = weight.data[i] * rows[Math.floor(i / cols)] * columns[i % cols]
  }
  const rounded = dequantizeScalar(quantizeRtn(scaled, options, name))
  for (let i = 0; i < rounded.data.length; i++) rounded.data[i] /= rows[Math.floor(i / cols)]
  const inputs = sample.values.map((value, i) => value / columns[i % cols])
  const errors = outputs.map((value) => -value)
  multiply(activations ? roundInputs(inputs, sample, columns, activations) : inputs, rounded, errors, 1)
  let sum = 0
  for (const [t, square] of tokenSquares(errors, weight.rows).entries()) {
    if (energies[t] > 0) sum += square / energies[t]
  }
  return sum / energies.length
}

function multiply(inputs: Float32Array, weight: Matrix, outputs: Float32Array, beta: 0 | 1): void {
  const { rows, cols, data } = weight
  kernels().gemm(
    'ABt',
    inputs.length / cols,
    rows,
    cols,
    1,
    wholeBlock(inputs, cols),
    wholeBlock(data, cols),
    beta,
    wholeBlock(outputs, rows),
  )
}

function roundInputs(
  inputs: Float32Array,
  { width, low, high }: InputSample,
  columns: Float64Array,
  { activationBits, activationRange, activationGrid, activationPercentile }: ActivationSettings,
): Float32Array {
  if (activationBits === undefined) return inputs
  const rounding = { bits: activationBits, symmetric: activationGrid === 'symmetric' }
  if (activationRange === 'token') return roundActivations(inputs, width, rounding)
  const search: RangeSearch = activationRange
  const counter = countActivations(search)
  counter.add(inputs)
  // all tokens were seen for these, and a single one can be the largest
  if (search === 'minmax') for (const ends of [low, high]) counter.add(ends.map((end, j) => end / columns[j]))
  const range = findRange(counter.histogram()!, rounding, search, activationPercentile)
  return roundActivations(inputs, width, { ...rounding, range })
}

/** The sum of squares of each row. */
function tokenSquares(values: Float32Array, rows: number): Float64Array {
  const sums = new Float64Array(values.length / rows)
  for (let i = 0; i < values.length; i++) sums[Math.floor(i / rows)] += values[i] * values[i]
  return sums
}
