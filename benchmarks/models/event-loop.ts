// How long quantizing keeps the event loop from timers, signals and requests at most:
// `npm run bench:event-loop` (a layer of 2048 x 2048), `npm run bench:event-loop -- MODEL --calibration TEXT --sequences 16`.
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { quantizeLayer } from '../../src/index.js'
import { quantizeModel } from '../../src/model.js'
import { describe, environment } from '../common/environment.js'
import { correlatedHessian, gaussianWeight } from '../common/synthetic.js'

/** Milliseconds that the main thread has worked; of all time where the system does not tell. */
function worked(): number {
  try {
    return Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[0]) / 1e6
  } catch {
    return performance.now()
  }
}

/** The longest times between two turns of the event loop, in milliseconds of the main thread, longest first. */
async function longestBlocks(work: () => Promise<unknown>): Promise<number[]> {
  const blocks: number[] = []
  let last = worked()
  const timer = setInterval(() => {
    const now = worked()
    blocks.push(now - last)
    last = now
  }, 1)
  await work()
  clearInterval(timer)
  blocks.push(worked() - last)
  return blocks.sort((a, b) => b - a)
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    calibration: { type: 'string' },
    sequences: { type: 'string', default: '16' },
    size: { type: 'string', default: '2048' },
  },
})
const [model] = positionals
const size = Number(values.size)
const [weight, hessian] = model ? [] : [gaussianWeight(size, size, 1), correlatedHessian(size, 1)]
const blocks = model
  ? await longestBlocks(() =>
      quantizeModel({
        model,
        sequences: Number(values.sequences),
        ...(values.calibration && { calibration: values.calibration }),
      }),
    )
  : await longestBlocks(() => quantizeLayer(weight!, hessian!))
const shown = blocks.slice(0, 5).map((milliseconds) => milliseconds.toFixed(0))
console.log(`${model ?? `${size} x ${size}`}: blocked for at most ${shown.join(', ')} ms`)
console.log(describe(environment()))
