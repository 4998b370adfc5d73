import { correctDrift, type DriftHalves, quantizeLayer } from 'gptvq'
import { type Matrix, matrix } from '../../src/common/matrix.js'
import { ownFactors, type SharedFactors, shareFactors } from '../../src/hessian/inverse-factor.js'
import { hasty, spreadOf, thorough, timeTogether } from '../common/harness.js'
import type { Row, Table } from '../common/report.js'
import type { SuiteOptions } from '../common/suites.js'
import { correlatedHessian, generatorInWords, heavyTailedWeight } from '../common/synthetic.js'

/** Outputs of the layers that share a Hessian, as shares of their inputs. */
const groups = [
  { name: 'q, k, v', outputs: [1, 1, 1] },
  { name: 'q, k, v, grouped', outputs: [1, 0.25, 0.25] },
  { name: 'gate, up', outputs: [2.75, 2.75] },
] as const

/** Layers that read the same inputs, with a factor for each and with one for all. */
export async function run({ quick, full }: SuiteOptions): Promise<Table[]> {
  const rows: Row[] = []
  for (const cols of sizes(quick, full)) {
    for (const { name, outputs } of groups) rows.push(await timeGroup(name, outputs, cols, quick))
  }
  return [
    {
      id: 'shared',
      title: 'Layers that share a Hessian',
      note:
        'Drift correction and quantization at the defaults of all layers of a group, in one process in turn: each with ' +
        `inverse factors of its own, and with one for all, which gives the same bytes. Synthetic layers: ${generatorInWords}.`,
      columns: [
        { key: 'group', label: 'layers' },
        { key: 'cols', label: 'inputs', decimals: 0 },
        { key: 'own', label: 'own factors, s', digits: 3 },
        { key: 'shared', label: 'one factor, s', digits: 3 },
        { key: 'ratio', label: 'one / own', decimals: 3 },
        { key: 'spread', label: 'spread %', decimals: 0 },
      ],
      rows,
      keys: ['group', 'cols'],
      compared: 'shared',
    },
  ]
}

function sizes(quick: boolean, full: boolean): number[] {
  if (quick) return [64]
  return full ? [512, 1024, 2048, 4096] : [512, 1024]
}

async function timeGroup(
  group: string,
  outputs: readonly number[],
  cols: number,
  quick: boolean,
): Promise<Row> {
  const hessian = correlatedHessian(cols, 1)
  const weights = outputs.map((share, i) => heavyTailedWeight(Math.round(share * cols), cols, 1 + i))
  const drift = smallDrift(hessian)
  const quantizeAll = async (factorsOf: () => SharedFactors) => {
    for (const weight of weights) {
      const factors = factorsOf()
      const { weight: target } = await correctDrift(weight, hessian, drift, { factors })
      await quantizeLayer(target, hessian, { factors })
    }
  }
  const patience = quick ? hasty : { ...thorough, rounds: 3, warmUpSeconds: 0, sampleSeconds: 0 }
  const timings = await timeTogether(
    [
      { name: 'own', run: () => quantizeAll(() => ownFactors) },
      {
        name: 'shared',
        run: () => {
          const factors = shareFactors()
          return quantizeAll(() => factors)
        },
      },
    ],
    patience,
  )
  const [own, shared] = [timings.get('own')!, timings.get('shared')!]
  const ratio = shared.fastest / own.fastest
  return { group, cols, own: own.fastest, shared: shared.fastest, ratio, spread: spreadOf(shared) }
}

/** Inputs that are 1 percent larger in the full model than in the quantized one. */
function smallDrift({ rows, cols, data }: Matrix): DriftHalves {
  const input = matrix(
    rows,
    cols,
    data.map((value) => value / 100),
  )
  return [
    { tokens: 1000, input },
    { tokens: 1000, input },
  ]
}
