import type { Command } from './command.js'
import { dequantizeCommand } from './dequantize.js'
import { evalCommand } from './eval.js'
import { exportCommand } from './export.js'
import { inspectCommand } from './inspect.js'
import { quantizeCommand } from './quantize.js'
import { reportCommand } from './report.js'
import { runCommand } from './run.js'
import { serveCommand } from './serve.js'

/** All commands, in the order of the help. */
export const commands: readonly Command[] = [
  quantizeCommand,
  evalCommand,
  inspectCommand,
  reportCommand,
  dequantizeCommand,
  exportCommand,
  runCommand,
  serveCommand,
]
