// %% [markdown]
/*
# A whole model

The embedded Llama of 4.2 million parameters is quantized block by block to about two bits per weight, scored on text that it has not seen, and looked at: which layers suffer, what the codebooks are like. How to run it: [README](README.md).
*/

// %%
import { writeFile } from 'node:fs/promises'
import { evaluateModel, quantizeModel, reportData } from 'gptvq/model'
import { codebookPlot, indexHistogram, layerBars, meanUsage, reportHtml, sensitivityMap } from 'gptvq/report'
import { display } from 'tslab'

// %% [markdown]
/*
## Quantize

Calibration text runs through the model; each block is quantized on what comes out of the quantized blocks before it, so that later blocks can make up for earlier ones. 16 sequences of 128 tokens are few, to be quick; the default is 128 of up to 2048.

RTN, which only rounds, serves to compare.
*/

// %%
const model = '../models/tiny-llama'
const output = '../../out/notebooks/tiny-llama'
const options = { model, bits: 2, force: true }
const rounded = await quantizeModel({ ...options, output: `${output}-rtn`, method: 'rtn' })
const report = await quantizeModel({
  ...options,
  output: `${output}-gptvq`,
  vectorDim: 2,
  calibration: `${model}/texts/calibration.txt`,
  sequences: 16,
  sequenceLength: 128,
})
for (const { method, bitsPerValue, layerBytes } of [rounded, report]) {
  const [before, after] = [layerBytes.before, layerBytes.after].map((bytes) => Math.round(bytes / 1000))
  console.log(
    `${method.padEnd(5)}  ${bitsPerValue.toFixed(3)} bits per value: ${before} kB became ${after} kB`,
  )
}

// %% [markdown]
/*
## Score

*Perplexity* says how surprised a model is by text; less is better. *KL divergence* compares its predictions with those of the original, token by token: 0 is the same. *Top-1 agreement* is how often both think the same token the likeliest. KL divergence is the steadiest of the three.
*/

// %%
const scoring = { reference: model, text: `${model}/texts/evaluation.txt`, context: 128, windows: 32 }
const rtn = await evaluateModel({ ...scoring, model: `${output}-rtn` })
const gptvq = await evaluateModel({ ...scoring, model: `${output}-gptvq` })

const rows = [
  ['original', 16, gptvq.reference?.perplexity, 0, 1],
  ['RTN', rounded.bitsPerValue, rtn.perplexity, rtn.klDivergence, rtn.top1Agreement],
  ['GPTVQ 2-D', report.bitsPerValue, gptvq.perplexity, gptvq.klDivergence, gptvq.top1Agreement],
] as const
const heads = ['model', 'bits per value', 'perplexity', 'KL divergence', 'top-1 agreement']
const body = rows.map(([name, bits, perplexity = NaN, kl = NaN, top1 = NaN]) => {
  const figures = [bits.toFixed(3), perplexity.toFixed(1), kl.toFixed(3), `${(100 * top1).toFixed(1)} %`]
  return `<tr><td>${name}</td>${figures.map((figure) => `<td>${figure}</td>`).join('')}</tr>`
})
display.html(
  `<table>\n<tr>${heads.map((head) => `<th>${head}</th>`).join('')}</tr>\n${body.join('\n')}\n</table>`,
)

// %% [markdown]
/*
## Look

`reportData` reads the quantized folder back and gathers all there is to show. How much did the outputs of each layer move, on the calibration text? Each bar is a layer, grouped by block.
*/

// %%
const data = await reportData({ model: `${output}-gptvq`, reference: model })
display.svg(layerBars(data.layers))

// %%
display.svg(
  sensitivityMap(
    data.layers.map(({ name, relativeError }) => ({ name, value: relativeError })),
    { scale: 'log' },
  ),
)

// %% [markdown]
/*
The codebook of the layer that suffers most, over the original weights that it stands for.
*/

// %%
const errorOf = new Map(data.layers.map(({ name, relativeError }) => [name, relativeError ?? 0]))
const [worst] = [...(data.codebooks ?? [])].sort((a, b) => errorOf.get(b.layer)! - errorOf.get(a.layer)!)
display.svg(codebookPlot(worst, { title: worst.layer }))

// %% [markdown]
/*
Over all layers, how evenly are the 16 centroids of a group used?
*/

// %%
const usages = data.layers.flatMap(({ usage }) => (usage ? [usage] : []))
display.svg(
  indexHistogram(
    meanUsage(
      usages,
      data.layers.map(({ rows, cols }) => rows * cols),
    ),
  ),
)

// %% [markdown]
/*
## Keep

`reportHtml` makes one page of all this, with a table of layers that can be sorted, the settings, and the command that makes the same folder. On the command line it is `gptvq report DIR --out report.html`.
*/

// %%
const page = reportHtml(data)
await writeFile('../../out/notebooks/report.html', page)
console.log(`out/notebooks/report.html: ${data.layers.length} layers, ${data.codebooks?.length} codebooks`)

// %% [markdown]
/*
The quantized folder is a checkpoint like any other: `gptvq eval`, `gptvq inspect` and `gptvq dequantize` read it. All settings are described in [Choosing settings](../../docs/settings.md), measured results in [Accuracy](../../docs/accuracy.md).
*/
