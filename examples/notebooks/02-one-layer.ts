// %% [markdown]
/*
# One layer of a language model

A linear layer multiplies its inputs by a matrix of weights. Here one such layer of a small Llama is quantized with four methods, and what counts is not how well its *weights* are kept, but how well its *outputs* are. How to run it: [README](README.md).
*/

// %%
import {
  bitsPerValue,
  dequantizeLayer,
  dequantizeScalar,
  HessianAccumulator,
  type Matrix,
  matrix,
  packLayer,
  packScalar,
  quantizeGptq,
  quantizeKmeans,
  quantizeLayer,
  quantizeRtn,
  reconstructionError,
  type VqLayer,
} from 'gptvq'
import { openModel, readTokens } from 'gptvq/model'
import {
  codebookGroup,
  codebookPlot,
  indexHistogram,
  indexUsage,
  type RatePoint,
  rateDistortionChart,
} from 'gptvq/report'
import { display } from 'tslab'

// %% [markdown]
/*
## The layer

The model comes with the package: 4 blocks of 256 hidden values. We take the query projection of the first block, 256 × 256 weights (outputs × inputs).
*/

// %%
const folder = '../models/tiny-llama'
const model = await openModel(folder)
const { hiddenSize, blocks } = model.config
const { epsilon } = blocks[0].norms.attentionInput!
const weight = matrix(
  hiddenSize,
  hiddenSize,
  await model.source.floats('model.layers.0.self_attn.q_proj.weight'),
)
console.log(
  `${weight.rows} x ${weight.cols} weights, from ${Math.min(...weight.data)} to ${Math.max(...weight.data)}`,
)

// %% [markdown]
/*
## What reaches the layer

To know which errors matter we need inputs that are typical of the layer. This layer is the first of the model, so they are simple to make: each token's embedding, normalized. For layers further in, `quantizeModel` runs the blocks before them ([next notebook](03-whole-model.ipynb)).
*/

// %%
const embedding = await model.source.floats('model.embed_tokens.weight')
const gain = await model.source.floats('model.layers.0.input_layernorm.weight')

/** Inputs of the layer for a text, tokens x hiddenSize. */
async function inputsOf(file: string, most: number): Promise<Matrix> {
  const tokens = (await readTokens(`${folder}/texts/${file}`, folder, model.config)).subarray(0, most)
  const inputs = matrix(tokens.length, hiddenSize)
  for (const [t, token] of tokens.entries()) {
    const row = embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize)
    const meanSquare = row.reduce((sum, x) => sum + x * x, 0) / hiddenSize
    const scale = 1 / Math.sqrt(meanSquare + epsilon)
    inputs.data.set(
      row.map((x, i) => x * scale * gain[i]),
      t * hiddenSize,
    )
  }
  return inputs
}

/** `(2 / tokens) X^T X`. */
function hessianOf(inputs: Matrix): Matrix {
  const sum = new HessianAccumulator(inputs.cols)
  sum.add(inputs)
  return sum.hessian()
}

const hessian = hessianOf(await inputsOf('calibration.txt', 8192))
const unseen = hessianOf(await inputsOf('evaluation.txt', 8192))
await model.close()

const sizes = Array.from({ length: hiddenSize }, (_, i) => hessian.data[i * hiddenSize + i]).sort(
  (a, b) => a - b,
)
console.log(
  `the largest input has ${(sizes[hiddenSize - 1] / sizes[0]).toFixed(1)} times the energy of the smallest`,
)

// %% [markdown]
/*
`HessianAccumulator` sums the products of all pairs of inputs: the **Hessian** H. With it the error of the layer's outputs follows from the error of its weights, without running the text again: `tr((W − Q) H (W − Q)ᵀ)`. We quantize with the Hessian of one text and score with that of another.

## Four methods

| method | each weight, or pair | looks at inputs |
| --- | --- | --- |
| RTN | is rounded to the nearest level of an even grid | no |
| k-means | goes to the nearest centroid of a codebook | no |
| GPTQ | is rounded; weights to its right make up for the error | yes |
| GPTVQ | goes to the best centroid; weights to its right make up for the error | yes |
*/

// %%
const points: RatePoint[] = []

/** Scores a layer on inputs that it was not quantized with, all stored bytes counted. */
function score(method: string, values: Matrix, packed: Parameters<typeof bitsPerValue>[0]): void {
  const bits = bitsPerValue(packed).total
  const { relative, snrDb } = reconstructionError(weight, values, unseen)
  points.push({ method, bits, value: relative })
  console.log(
    `${method.padEnd(12)} ${bits.toFixed(3)} bits  error ${relative.toFixed(5)}  ${snrDb.toFixed(1)} dB`,
  )
}
function scoreVectors(method: string, layer: VqLayer): void {
  score(method, dequantizeLayer(layer), packLayer(layer))
}

for (const bits of [2, 3, 4]) {
  const rounded = quantizeRtn(weight, { bits })
  score('RTN', dequantizeScalar(rounded), packScalar(rounded))
}
for (const bits of [2, 3, 4]) {
  const rounded = await quantizeGptq(weight, hessian, { bits })
  score('GPTQ', dequantizeScalar(rounded), packScalar(rounded))
}
for (const bits of [2, 3]) scoreVectors('k-means 2-D', quantizeKmeans(weight, { vectorDim: 2, bits }))

// %%
for (const bits of [2, 3, 4])
  scoreVectors('GPTVQ 1-D', await quantizeLayer(weight, hessian, { vectorDim: 1, bits }))
const layer = await quantizeLayer(weight, hessian, { vectorDim: 2, bits: 2 })
scoreVectors('GPTVQ 2-D', layer)
scoreVectors('GPTVQ 2-D', await quantizeLayer(weight, hessian, { vectorDim: 2, bits: 3 }))
scoreVectors('GPTVQ 4-D', await quantizeLayer(weight, hessian, { vectorDim: 4, bits: 2 }))

// %%
display.svg(
  rateDistortionChart(points, {
    measure: 'relative error of the outputs, unseen text',
    scale: 'log',
    title: 'One layer, four methods',
  }),
)

// %% [markdown]
/*
Two ideas, and each nearly halves the error of RTN at two bits: levels that are fitted instead of even (k-means), and errors that are made up for, with an eye on the inputs (GPTQ). GPTVQ does both, and has about a quarter of it; two and four weights at a time lower the error once more at the same size. The fewer the bits, the more all this is worth.

## The codebook

One group of the layer: the weights of 256 columns and as many rows as share a codebook, two at a time, and the centroids found for them.
*/

// %%
display.svg(codebookPlot(codebookGroup(layer, 0, weight), { title: 'Group 0 of the layer' }))

// %% [markdown]
/*
You may wonder why some centroids lie where hardly any weight does. By the time a weight is quantized it has taken over errors of those to its left; and after all weights had found their centroids, these were moved once more, so that the *outputs* come out right.

How evenly are the centroids used? If some are rare, indices could be stored in fewer bits by an entropy code.
*/

// %%
display.svg(indexHistogram(indexUsage(layer)))

// %% [markdown]
/*
Next: [a whole model](03-whole-model.ipynb).
*/
