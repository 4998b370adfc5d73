import { compareCommand } from './commands/compare.js'
import { dequantizeCommand } from './commands/dequantize.js'
import { estimateCommand } from './commands/estimate.js'
import { evalCommand } from './commands/eval.js'
import { exportCommand } from './commands/export.js'
import { inspectCommand } from './commands/inspect.js'
import { quantizeCommand } from './commands/quantize.js'
import { reportCommand } from './commands/report.js'
import { runCommand } from './commands/run.js'
import { serveCommand } from './commands/serve.js'
import type { Command } from './parse/command.js'

/** All commands, in the order of the help. */
export const commands: readonly Command[] = [
  quantizeCommand,
  estimateCommand,
  evalCommand,
  compareCommand,
  inspectCommand,
  reportCommand,
  dequantizeCommand,
  exportCommand,
  runCommand,
  serveCommand,
]
