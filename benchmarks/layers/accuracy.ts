import { HessianAccumulator, type Matrix, reconstructionError } from 'gptvq'
import { secondsOf } from '../common/harness.js'
import { type Quantized, type Setting, settings } from '../common/methods.js'
import { type BenchmarkLayer, realLayers } from '../common/real-layers.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { correlatedInputs, gaussianWeight, generatorInWords, heavyTailedWeight } from '../common/synthetic.js'

/** How much of a layer's output each method gets wrong at what it takes to store. */
export async function run({ quick }: SuiteOptions): Promise<Table[]> {
  const size = quick ? 64 : 512
  const real = await realLayers(quick ? 2 : 64, quick ? 1 : 4)
  const heavyTailed = syntheticLayer('heavy-tailed', heavyTailedWeight(size, size, 1), 1)
  const gaussian = syntheticLayer('gaussian', gaussianWeight(size, size, 2), 2)
  return [
    await accuracyTable(
      'real-layers',
      'Layers of the embedded model',
      `Means over ${real.length} layers (${real.map(({ name, weight }) => `\`${shortName(name)}\` ${weight.rows} x ${weight.cols}`).join(', ')}), ` +
        "Hessians of the full model's activations on its calibration text; held out: on its evaluation text.",
      real,
      settings({ quick, large: false }),
    ),
    await accuracyTable(
      'heavy-tailed',
      `A synthetic layer of ${size} x ${size}, heavy-tailed weights`,
      `Generator (\`benchmarks/common/synthetic.ts\`): ${generatorInWords}; ${8 * size} tokens, and as many held out.`,
      [heavyTailed],
      settings({ quick, large: !quick }),
    ),
    await accuracyTable(
      'gaussian',
      `A synthetic layer of ${size} x ${size}, Gaussian weights`,
      'Weights independent and normal, inputs as above: the case without outliers among the weights.',
      [gaussian],
      settings({ quick, large: !quick }),
    ),
  ]
}

const shortName = (name: string) => name.replace('model.layers.', '').replace('.weight', '')

function syntheticLayer(name: string, weight: Matrix, seed: number): BenchmarkLayer {
  const hessianOf = (draw: number) => {
    const inputs = new HessianAccumulator(weight.cols)
    inputs.add(correlatedInputs(8 * weight.cols, weight.cols, seed, draw))
    return inputs.hessian()
  }
  return { name, weight, hessian: hessianOf(0), heldOut: hessianOf(1) }
}

async function accuracyTable(
  id: string,
  title: string,
  note: string,
  layers: readonly BenchmarkLayer[],
  compared: readonly Setting[],
): Promise<Table> {
  const points: Point[] = []
  for (const setting of compared) {
    console.error(`accuracy: ${id}, ${setting.method}, ${setting.setting}`)
    points.push(await measure(setting, layers))
  }
  const scalar = points.filter(({ method }) => method === 'GPTQ')
  return {
    id,
    title,
    note:
      `${note} Error: \`tr((W-Q) H (W-Q)^T) / tr(W H W^T)\`; SNR: the same in decibels; bits counted from the bytes ` +
      "stored; over GPTQ: SNR less that of GPTQ at the same bits, read off the line through GPTQ's points.",
    columns: [
      { key: 'method', label: 'method' },
      { key: 'setting', label: 'setting' },
      { key: 'bits', label: 'bits per value', decimals: 3 },
      { key: 'error', label: 'error', digits: 3 },
      { key: 'snr', label: 'SNR dB', decimals: 2 },
      { key: 'overGptq', label: 'over GPTQ dB', decimals: 2 },
      { key: 'heldOut', label: 'error held out', digits: 3 },
      { key: 'bytes', label: 'bytes' },
      { key: 'seconds', label: 'seconds', digits: 2 },
    ],
    rows: points.map((point): Row => ({ ...point, overGptq: point.snr - snrAt(point.bits, scalar) })),
    keys: ['method', 'setting'],
    compared: 'error',
  }
}

type Point = {
  readonly method: string
  readonly setting: string
  readonly bits: number
  readonly error: number
  readonly snr: number
  readonly heldOut: number
  readonly bytes: number
  readonly seconds: number
}

async function measure(
  { method, setting, quantize }: Setting,
  layers: readonly BenchmarkLayer[],
): Promise<Point> {
  let [error, heldOut, bytes, weights, seconds] = [0, 0, 0, 0, 0]
  for (const { weight, hessian, heldOut: unseen } of layers) {
    let quantized: Quantized | undefined
    seconds += await secondsOf(async () => {
      quantized = await quantize(weight, hessian)
    })
    error += reconstructionError(weight, quantized!.values, hessian).relative / layers.length
    heldOut += reconstructionError(weight, quantized!.values, unseen).relative / layers.length
    bytes += quantized!.bytes
    weights += weight.data.length
  }
  return {
    method,
    setting,
    bits: (8 * bytes) / weights,
    error,
    snr: -10 * Math.log10(error),
    heldOut,
    bytes,
    seconds,
  }
}

/** The SNR at `bits` on the line through `points`, the ends prolonged. */
function snrAt(bits: number, points: readonly Point[]): number {
  const sorted = [...points].sort((a, b) => a.bits - b.bits)
  const above = sorted.findIndex((point) => point.bits >= bits)
  const right = above < 0 ? sorted.length - 1 : Math.max(1, above)
  const [from, to] = [sorted[right - 1], sorted[right]]
  return from.snr + ((to.snr - from.snr) * (bits - from.bits)) / (to.bits - from.bits)
}
