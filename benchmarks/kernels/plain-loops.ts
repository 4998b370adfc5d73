import { dequantizeLayer, packLayer, quantizeLayer, unpackLayer } from 'gptvq'
import { decodeBfloats, decodeHalves, encodeBfloats, encodeHalves } from '../../src/kernels/half.js'
import { hasty, spreadOf, thorough, timeTogether } from '../common/harness.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { correlatedHessian, heavyTailedWeight } from '../common/synthetic.js'

/** What stays in plain TypeScript on one thread, beside the copy of an array: how near it is to what memory allows. */
export async function plainLoopTables({ quick }: SuiteOptions): Promise<Table[]> {
  const size = quick ? 64 : 1024
  const weight = heavyTailedWeight(size, size, 1)
  const layer = await quantizeLayer(weight, correlatedHessian(size, 1), {
    bpv: 2.5,
    restarts: 1,
    refinementRounds: 0,
    codebookUpdateSteps: 0,
  })
  const packed = packLayer(layer)
  const floats = weight.data
  const [halves, bfloats] = [new Uint16Array(floats.length), new Uint16Array(floats.length)]
  const target = new Float32Array(floats.length)
  const copy = 'copy of float32'
  const contenders = [
    { name: copy, run: () => target.set(floats) },
    { name: 'float32 to bf16', run: () => encodeBfloats(floats, bfloats) },
    { name: 'bf16 to float32', run: () => decodeBfloats(bfloats, target) },
    { name: 'float32 to f16', run: () => encodeHalves(floats, halves) },
    { name: 'f16 to float32', run: () => decodeHalves(halves, target) },
    { name: 'pack a layer', run: () => packLayer(layer) },
    { name: 'unpack a layer', run: () => unpackLayer(packed) },
    { name: 'dequantize a layer', run: () => dequantizeLayer(layer) },
  ]
  const timings = await timeTogether(contenders, quick ? hasty : thorough)
  const rows = contenders.map(({ name }): Row => {
    const timing = timings.get(name)!
    return {
      loop: name,
      milliseconds: 1e3 * timing.seconds,
      spread: spreadOf(timing),
      rate: (1e-6 * floats.length) / timing.seconds,
      toCopy: timing.seconds / timings.get(copy)!.seconds,
    }
  })
  return [
    {
      id: 'plain-loops',
      title: 'Loops in plain TypeScript',
      note:
        `A million values (${size} x ${size}), one thread; the layer has 2-D vectors of 2 bits and block scales. ` +
        'These are a thousandth of what it takes to quantize the layer.',
      columns: [
        { key: 'loop', label: 'loop' },
        { key: 'milliseconds', label: 'ms', digits: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
        { key: 'rate', label: 'million values/s', digits: 3 },
        { key: 'toCopy', label: 'times a copy', digits: 3 },
      ],
      rows,
      keys: ['loop'],
      compared: 'rate',
    },
  ]
}
