import { abortOnSignals } from '../../src/cli/terminal/interrupt.js'

// a program that pays no heed to its abort signal, run by interrupt.test.ts
const { signal } = abortOnSignals(process)
process.stderr.write('started\n')
let said = false
setInterval(() => {
  if (said || process.listenerCount('SIGINT') > 0) return
  said = true
  process.stderr.write(`released after ${signal.reason}\n`)
}, 20)
