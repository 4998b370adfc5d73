import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { commands } from '../../../src/cli/commands.js'
import { type Flag, flagName } from '../../../src/cli/flags/flags.js'
import { runCli } from '../../../src/cli/run-cli.js'
import { randomGenerator } from '../../../src/common/random.js'
import { quantizeModel } from '../../../src/model.js'
import { tinyText, writeTinyModel } from '../tiny-model.js'
import type { Fuzzer } from './fuzzer.js'
import { oddValues, pick } from './mutate.js'

/** What holds for the whole process, reaches another machine, does not end, or writes where it is told. */
const apart = new Set([
  'threads',
  'products',
  'redis',
  'shared',
  'port',
  'host',
  'checkpoint',
  'out',
  'report',
  'chart',
  'logFile',
])

const words = [
  ...[
    '1',
    '2',
    '4',
    '8',
    '16',
    '0.5',
    '2.125',
    'none',
    'mixed',
    'auto',
    'rtn',
    'gptq',
    'kmeans',
    'gptvq',
    'w8a8',
  ],
  ...[
    '*q_proj',
    '*q_proj:bits=3',
    '*:bits=99',
    ':',
    '=',
    'bits=2',
    'bits=2 vectorDim=4',
    '4GB',
    '1e999',
    '-1',
    '--',
  ],
  ...oddValues.filter((value) => typeof value === 'string').filter((value) => !value.includes('\0')),
]

/** Commands with flags that make no sense, alone or together. */
export const commandLineFuzzer: Fuzzer = {
  name: 'command line',
  async prepare(work) {
    const { folder: model } = await writeTinyModel(join(work, 'model'))
    const quantized = join(work, 'quantized')
    await quantizeModel({ model, output: quantized, method: 'rtn' })
    const text = join(work, 'text.txt')
    await writeFile(text, tinyText(200))
    const output = join(work, 'output')
    const few = [
      '--calibration',
      text,
      '--sequences',
      '2',
      '--sequence-length',
      '16',
      '--refinement-rounds',
      '1',
    ]
    const scored = ['--text', text, '--context', '16', '--windows', '1']
    const sound: Readonly<Record<string, readonly string[]>> = {
      quantize: [model, '--out', output, '--force', ...few],
      estimate: [model, ...few],
      eval: [quantized, ...scored],
      compare: [model, ...scored, '--try', 'method=rtn'],
      analyze: [model, ...scored],
      report: [quantized, '--out', `${output}.html`, '--force'],
      dequantize: [quantized, '--out', output, '--force'],
      'quantize-tensors': [model, '--out', output, '--force'],
      export: [quantized, '--format', 'onnx', '--out', output, '--force'],
      run: [quantized, '--prompt', 'a', '--max-tokens', '2'],
    }
    const names = Object.keys(sound)
    return async (seed) => {
      const random = randomGenerator(seed)
      const name = names[seed % names.length]
      const flags = Object.entries(commands.find((command) => command.name === name)?.flags ?? {})
      const changed: string[] = []
      for (let i = 0; i < 1 + Math.floor(3 * random()); i++) {
        const [option, flag] = pick(
          flags.filter(([option]) => !apart.has(option)),
          random,
        )
        changed.push(flagName(option), ...valuesOf(flag, random))
      }
      let printed = ''
      const stream = { write: (text: string) => (printed += text) }
      const args = [name, ...sound[name], ...changed]
      // to a pipe a model's own text goes as it is
      const stdout = { ...stream, isTTY: true }
      const code = await runCli(args, { stdout, stderr: stream, env: {} })
      await rm(output, { recursive: true, force: true })
      const isBug = printed.includes('this is a bug') || ![0, 1, 2].includes(code)
      const isUnsafe = /[^\P{Cc}\n\t]/u.test(printed)
      if (!isBug && !isUnsafe) return []
      return [{ what: `${name} ${changed.join(' ').slice(0, 300)}`, error: printed.slice(0, 3000) }]
    }
  },
}

function valuesOf(flag: Flag, random: () => number): string[] {
  if (flag.kind === 'switch') return random() < 0.9 ? [] : [pick(words, random)]
  if (flag.kind === 'choice' && random() < 0.7) return [String(pick(flag.choices, random))]
  return [pick(words, random)]
}
