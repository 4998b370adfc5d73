// %% [markdown]
/*
# Vector quantization in two dimensions

To quantize is to replace each number by one of a few. This notebook shows what is gained when numbers are not replaced one by one, but two or four at a time: the idea behind [GPTVQ](https://arxiv.org/abs/2402.15319). It needs no model, and all data is made here. How to run it: [README](README.md).
*/

// %%
import { type FittedCodebook, fitCodebook, type Matrix, matrix } from 'gptvq'
import { codebookPlot, convergencePlot, type RatePoint, rateDistortionChart } from 'gptvq/report'
import { display } from 'tslab'

// %% [markdown]
/*
## Numbers that come in pairs

First some data: pairs of numbers, each alone spread like a bell, and the second leaning towards the first. A seed makes them the same every time.
*/

// %%
let state = 1
/** Uniform in (0, 1), by a seeded generator. */
function uniform(): number {
  state = (state * 48271) % 2147483647
  return state / 2147483647
}
/** Normal, of mean 0 and variance 1 (Box and Muller). */
function normal(): number {
  return Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())
}

const pairs = matrix(4000, 2)
for (let i = 0; i < pairs.rows; i++) {
  const first = normal()
  pairs.data.set([first, 0.6 * first + 0.8 * normal()], 2 * i)
}

// %% [markdown]
/*
## A grid beside a codebook

With 2 bits a number can be one of 4 levels. Two numbers then are one of 4 × 4 = 16 points, and these always form a grid, whatever the numbers are like.

The same 4 bits per pair can also name one of 16 points that lie *anywhere*: a **codebook** of 16 **centroids**. `fitCodebook` places them by k-means: each pair goes to its nearest centroid, each centroid moves to the mean of its pairs, and so on until nothing changes.

Below, the grid with the best spacing on the left, the codebook on the right, over the density of the pairs. The lines part the regions that are rounded to the same point.
*/

// %%
const fitted = fitCodebook(pairs, { k: 16, init: 'kmeans++' })
display.svg(
  codebookPlot(
    { vectorDim: 2, bits: 2, centroids: fitted.codebook.data, weights: pairs.data },
    { title: '4 bits for two numbers' },
  ),
)

// %% [markdown]
/*
The grid wastes points in the corners where hardly any pair lies. The codebook follows the cloud, and its signal-to-noise ratio (SNR) is higher at the same number of bits. Three things help it:

- **Where the data is.** Centroids are dense where pairs are dense.
- **What the data has in common.** The two numbers of a pair lean the same way; a grid cannot use that.
- **The shape of the cells.** Even for data without any structure, hexagons fill a plane better than squares, and it gets better still in more dimensions.

## How k-means gets there

K-means never makes the error larger, but where it ends depends on where it starts. `losses` is the error after each step. Good seeds save steps; the result differs by little.
*/

// %%
const starts: [string, FittedCodebook][] = [
  ['k-means++, seed 0', fitted],
  ['k-means++, seed 1', fitCodebook(pairs, { k: 16, init: 'kmeans++', seed: 1 })],
  ['evenly by Mahalanobis distance', fitCodebook(pairs, { k: 16, init: 'mahalanobis' })],
]
display.svg(
  convergencePlot(
    starts.map(([name, { losses }]) => ({ name, values: losses.map((loss) => loss / pairs.rows) })),
    { measure: 'squared distance to the nearest centroid, mean of all pairs', title: 'Three starts' },
  ),
)

// %% [markdown]
/*
## When errors do not count alike

Weights of a network are multiplied by inputs, and inputs differ in size. An error in a weight whose input is large does more harm. `metric` says how much each direction counts: here an error in the first number costs 16 times one in the second. The first number is kept with care, the second loosely.

GPTVQ takes the metric from the layer's **Hessian**, the matrix of how large inputs are and how they go together. The [next notebook](02-one-layer.ipynb) does that.
*/

// %%
const metric = matrix(1, 2, Float32Array.of(16, 1))
const careful = fitCodebook(pairs, { k: 16, init: 'kmeans++', metric })

/** Mean squared error of each of the two numbers. */
function errorsOf({ codebook, assignments }: FittedCodebook): [number, number] {
  const sums: [number, number] = [0, 0]
  for (const [i, centroid] of assignments.entries()) {
    for (const c of [0, 1]) sums[c] += (pairs.data[2 * i + c] - codebook.data[2 * centroid + c]) ** 2
  }
  return [sums[0] / pairs.rows, sums[1] / pairs.rows]
}
for (const [name, codebook] of [
  ['all errors alike', fitted],
  ['the first 16 times as dear', careful],
] as const) {
  const [first, second] = errorsOf(codebook)
  console.log(`${name.padEnd(27)} error of the first ${first.toFixed(3)}, of the second ${second.toFixed(3)}`)
}

// %%
display.svg(
  codebookPlot(
    { vectorDim: 2, bits: 2, centroids: careful.codebook.data },
    { title: 'First number 16 times as dear', width: 420 },
  ),
)

// %% [markdown]
/*
The centroids stand close along the first number, and in only two rows along the second. (The cells are drawn by plain distance; by the metric they would be narrow and tall.)

## One, two, four at a time

Now numbers with no structure at all: independent, bell-shaped. What remains is the gain of dimension itself. We cut the same 65,536 numbers into vectors of d = 1, 2 and 4, fit codebooks of several sizes, and count **all** bits: `log2(k) / d` for the index of each number, and 8 bits for each number of the codebook, shared by all.
*/

// %%
const numbers = Float32Array.from({ length: 65536 }, normal)
const variance = numbers.reduce((sum, x) => sum + x * x, 0) / numbers.length

/** Bits per number, codebook included, and mean squared error as a share of the variance. */
function measure(vectorDim: number, k: number): RatePoint {
  const vectors: Matrix = matrix(numbers.length / vectorDim, vectorDim, numbers)
  const { loss } = fitCodebook(vectors, { k, init: 'kmeans++', iterations: 30 })
  return {
    method: `d = ${vectorDim}`,
    bits: Math.log2(k) / vectorDim + (8 * k * vectorDim) / numbers.length,
    value: loss / numbers.length / variance,
  }
}

const points = [
  ...[2, 4, 8].map((k) => measure(1, k)),
  ...[4, 8, 16, 32, 64].map((k) => measure(2, k)),
  ...[16, 64, 256, 1024].map((k) => measure(4, k)),
]
for (const { method, bits, value } of points) {
  const ratio = value / 2 ** (-2 * bits)
  console.log(`${method}  ${bits.toFixed(3)} bits  error ${value.toFixed(4)}  ${ratio.toFixed(2)} x bound`)
}

// %%
display.svg(
  rateDistortionChart(points, {
    measure: 'error, share of the variance',
    scale: 'log',
    title: 'More dimensions, less error',
  }),
)

// %% [markdown]
/*
From 1.5 bits on, two dimensions have less error than one at equal size, and four less than two. *The bound* is Shannon's: no code for independent normal numbers has less error than 2^(−2 · bits), however many it takes at a time. Each doubling of the dimension brings us closer to it.

Why not 8 or 16 at a time? A codebook has k = 2^(bits · d) centroids. At 2 bits that is 4, 16, 256 for d = 1, 2, 4, and 65,536 for d = 8: it would outweigh the numbers it stands for. The last point of d = 4 shows it: 1024 centroids take half a bit per number here, and d = 2 does better at that size. That is why GPTVQ uses d up to 4, and groups of weights large enough to share a codebook.

Next: [one layer of a language model](02-one-layer.ipynb).
*/
