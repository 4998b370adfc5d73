/**
 * Shows the progress of `quantizeModel` in its own way, stops it halfway, and then lets it finish from there. What is
 * stopped leaves the output as it was, and beside it what `resume` goes on with; the folder appears only when it is complete.
 *
 * Run it with `npx tsx examples/progress-and-cancel.ts`.
 */
import { existsSync } from 'node:fs'
import { AbortedError } from 'gptvq'
import { type Progress, quantizeModel } from 'gptvq/model'

const model = 'examples/models/tiny-llama'
const output = 'out/progress-and-cancel'
const options = {
  model,
  output,
  force: true,
  calibration: `${model}/texts/calibration.txt`,
  sequences: 8,
  sequenceLength: 64,
  kmeansIterations: 20,
  refinementRounds: 0,
}

/** Calls back with every further tenth of the work that is done. */
function everyTenth(report: (tenths: number, step: string) => void): (progress: Progress) => void {
  let last = 0
  return ({ step, done }) => {
    const tenths = Math.floor(10 * done)
    if (tenths > last) report(tenths, step)
    last = Math.max(last, tenths)
  }
}

const bar = (tenths: number) => '#'.repeat(tenths).padEnd(10, '.')
const existed = existsSync(output)

const controller = new AbortController()
try {
  await quantizeModel({
    ...options,
    signal: controller.signal,
    onProgress: everyTenth((tenths, step) => {
      console.log(`${bar(tenths)} ${step}`)
      if (tenths >= 5) controller.abort()
    }),
  })
} catch (error) {
  if (!(error instanceof AbortedError)) throw error
  console.log(
    `stopped: ${error.code}; ${output} ${existsSync(output) === existed ? 'is as it was' : 'CHANGED'}`,
  )
}

const names: string[] = []
const { bitsPerValue, layerBytes } = await quantizeModel({
  ...options,
  resume: true,
  onProgress: everyTenth((tenths) => process.stdout.write(tenths < 10 ? '#' : '#\n')),
  onLayer: (name) => names.push(name),
})
const kilobytes = (bytes: number) => `${Math.round(bytes / 1000)} kB`
console.log(
  `finished: ${names.length} layers at ${bitsPerValue.toFixed(3)} bits per value, ` +
    `${kilobytes(layerBytes.before)} became ${kilobytes(layerBytes.after)} in ${output}`,
)
