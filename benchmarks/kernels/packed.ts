import { wholeBlock } from '../../src/kernels/contract.js'
import { forwardKernels } from '../../src/kernels/forward-kernels.js'
import { setThreads, threadCount } from '../../src/kernels/kernels.js'
import { packedActivations } from '../../src/kernels/packed-contract.js'
import { preparePackedWeight } from '../../src/packing/packed-weight.js'
import type { PackedQuantizedLayer } from '../../src/packing/quantized-layer.js'
import { type Contender, hasty, spreadOf, type Timing, thorough, timeTogether } from '../common/harness.js'
import { normals, scalarLayer, tallGroups, vectorLayer } from '../common/random-layers.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { activationsTable } from './packed-activations.js'

/** Bytes of weights that are multiplied by in turn: more than caches hold, as the layers of a model are. */
const IN_TURN = 2 ** 26

/** Products with packed weights beside those with the same weights in float32. */
export async function run({ quick }: SuiteOptions): Promise<Table[]> {
  const large = [
    [2048, 2048],
    [2048, 5632],
  ]
  const shapes = quick ? [[64, 128]] : large
  const rows: Row[] = []
  for (const [out, inner] of shapes) {
    for (const tokens of quick ? [1, 5] : [1, 4, 64])
      rows.push(...(await timeShape(out, inner, tokens, quick)))
  }
  return [
    {
      id: 'packed-products',
      title: 'Products with packed weights',
      note:
        '`X W^T` of some tokens with a weight as it is stored, random indices; as many weights in turn as fill 64 MiB. Rate: ' +
        'billions of weights per second and token. To float32: the rate over that of the same product with a float32 ' +
        'weight on the same threads. 160 rows: so many share a codebook, for 64 columns. GB/s: bytes of the weight; `copy`: 64 MiB are copied to another array.',
      columns: [
        { key: 'weight', label: 'weight' },
        { key: 'tokens', label: 'tokens', decimals: 0 },
        { key: 'form', label: 'form' },
        { key: 'threads', label: 'threads', decimals: 0 },
        { key: 'milliseconds', label: 'ms', digits: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
        { key: 'rate', label: 'billion weights/s', digits: 3 },
        { key: 'toFloat', label: 'to float32', digits: 3 },
        { key: 'bandwidth', label: 'GB/s', digits: 3 },
      ],
      rows,
      keys: ['weight', 'tokens', 'form', 'threads'],
      compared: 'bandwidth',
    },
    await activationsTable(quick),
  ]
}

function formsOf(rows: number, cols: number): Record<string, PackedQuantizedLayer> {
  return {
    '2-D, 2 bits': vectorLayer(rows, cols, {}),
    '2-D, 2 bits, 160 rows': vectorLayer(rows, cols, tallGroups),
    '2-D, 2 bits, trellis of 12': vectorLayer(rows, cols, { trellisBits: 8 }),
    '2-D, 4 bits, trellis of 12': vectorLayer(rows, cols, { bits: 4, trellisBits: 4 }),
    '1-D, 4 bits, trellis of 12': vectorLayer(rows, cols, { vectorDim: 1, bits: 4, trellisBits: 8 }),
    '2-D, 5 bits, trellis of 12': vectorLayer(rows, cols, { bits: 5, trellisBits: 2 }),
    '1-D, 5 bits, trellis of 12': vectorLayer(rows, cols, { vectorDim: 1, bits: 5, trellisBits: 7 }),
    'scalar, 4 bits': scalarLayer(rows, cols, 4, 128),
  }
}

const FLOAT = 'float32'
const COPY = 'copy'

async function timeShape(rows: number, cols: number, tokens: number, quick: boolean): Promise<Row[]> {
  const kernels = forwardKernels()
  const [x, y] = [kernels.allocate(tokens * cols), kernels.allocate(tokens * rows)]
  x.set(normals(x.length, 1))
  const [input, output] = [wholeBlock(x, cols), wholeBlock(y, rows)]
  const floats = Array.from({ length: copiesOf(4 * rows * cols, quick) }, () => {
    const weight = kernels.allocate(rows * cols)
    weight.set(normals(weight.length, 2))
    return weight
  })
  const source = new Float32Array(quick ? 1024 : IN_TURN / 4)
  const target = new Float32Array(source.length)
  const forms = Object.entries(formsOf(rows, cols)).map(([name, packed]) => {
    const first = preparePackedWeight(packed)
    const more = Array.from({ length: copiesOf(first.bytes, quick) - 1 }, () => preparePackedWeight(packed))
    return { name, copies: [first, ...more] }
  })
  const contenders: TimedForm[] = [
    { form: COPY, threads: 1, bytes: 4 * source.length, run: () => target.set(source) },
  ]
  for (const threads of new Set([1, threadCount()])) {
    const weights = floats.map((weight) => wholeBlock(weight, cols))
    contenders.push(
      turnsOf(FLOAT, threads, 4 * rows * cols, weights, (weight) =>
        forwardKernels().gemm('ABt', tokens, rows, cols, 1, input, weight, 0, output),
      ),
    )
    for (const { name, copies } of forms) {
      for (const activations of packedActivations) {
        const form = activations === 'float32' ? name : `${name}, ${activations}`
        contenders.push(
          turnsOf(form, threads, copies[0].bytes, copies, (weight) =>
            forwardKernels().multiplyPacked(tokens, input, weight, output, activations),
          ),
        )
      }
    }
  }
  const most = threadCount()
  const timings = await timeTogether(contenders.map(contenderOf), quick ? hasty : thorough)
  setThreads(most)
  for (const { copies } of forms) for (const weight of copies) kernels.releasePacked(weight)
  for (const array of [x, y, ...floats]) kernels.release(array)
  return contenders.map((contender) => rowOf(contender, contenders, timings, rows, cols, tokens))
}

interface TimedForm {
  readonly form: string
  readonly threads: number
  readonly bytes: number
  readonly run: () => void
}

const nameOf = ({ form, threads }: TimedForm) => `${form} ${threads}`

function contenderOf(timed: TimedForm): Contender {
  return {
    name: nameOf(timed),
    run() {
      setThreads(timed.threads)
      timed.run()
    },
  }
}

/** Each run takes the next of `weights`. */
function turnsOf<W>(
  form: string,
  threads: number,
  bytes: number,
  weights: readonly W[],
  use: (weight: W) => void,
): TimedForm {
  let turn = 0
  return { form, threads, bytes, run: () => use(weights[turn++ % weights.length]) }
}

function copiesOf(bytes: number, quick: boolean): number {
  return quick ? 2 : Math.ceil(IN_TURN / bytes)
}

function rowOf(
  own: TimedForm,
  all: readonly TimedForm[],
  timings: ReadonlyMap<string, Timing>,
  rows: number,
  cols: number,
  tokens: number,
): Row {
  const timing = timings.get(nameOf(own))!
  const float = all.find(({ form, threads }) => form === FLOAT && threads === own.threads)!
  const isCopy = own.form === COPY
  return {
    weight: `${rows} x ${cols}`,
    tokens,
    form: own.form,
    threads: own.threads,
    milliseconds: 1e3 * timing.seconds,
    spread: spreadOf(timing),
    rate: isCopy ? null : (1e-9 * rows * cols * tokens) / timing.seconds,
    toFloat: isCopy ? null : timings.get(nameOf(float))!.seconds / timing.seconds,
    bandwidth: (1e-9 * own.bytes) / timing.seconds,
  }
}
