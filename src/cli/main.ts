#!/usr/bin/env node
import { safeLine } from '../common/safe-text.js'
import { exitCodes } from './errors.js'
import { runCli } from './run-cli.js'
import { abortOnSignals } from './terminal/interrupt.js'

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // a reader such as `head` has seen enough
  if (error.code === 'EPIPE') return
  process.stderr.write(`gptvq: cannot write to standard output: ${safeLine(error.message)}\n`)
  process.exitCode = exitCodes.failed
})
// nobody reads progress and errors any more; the work and its exit code are not touched
process.stderr.on('error', () => {})

const interrupt = abortOnSignals(process)
const { stdin, stdout, stderr, env } = process
const exitCode = await runCli(process.argv.slice(2), { stdin, stdout, stderr, env, signal: interrupt.signal })
process.exitCode ||= exitCode
interrupt.release()
