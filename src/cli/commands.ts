import { analyzeCommand } from './commands/analyze.js'
import { compareCommand } from './commands/compare.js'
import { dequantizeCommand } from './commands/dequantize.js'
import { distillCommand } from './commands/distill.js'
import { estimateCommand } from './commands/estimate.js'
import { evalCommand } from './commands/eval.js'
import { exportCommand } from './commands/export.js'
import { inspectCommand } from './commands/inspect.js'
import { pushCommand } from './commands/push.js'
import { quantizeCommand } from './commands/quantize.js'
import { quantizeTensorsCommand } from './commands/quantize-tensors.js'
import { reportCommand } from './commands/report.js'
import { runCommand } from './commands/run.js'
import { serveCommand } from './commands/serve.js'
import { trainCommand } from './commands/train.js'
import { workerCommand } from './commands/worker.js'
import type { Command } from './parse/command.js'

/** All commands, in the order of the help. */
export const commands: readonly Command[] = [
  quantizeCommand,
  estimateCommand,
  evalCommand,
  compareCommand,
  analyzeCommand,
  inspectCommand,
  reportCommand,
  dequantizeCommand,
  quantizeTensorsCommand,
  exportCommand,
  trainCommand,
  distillCommand,
  pushCommand,
  runCommand,
  serveCommand,
  workerCommand,
]
