import { commonFlags, type Flag, type FlagTable, flagName } from '../flags/flags.js'
import { wrapText } from '../terminal/table.js'
import type { Command } from './command.js'

const exitCodeHelp = 'Exit codes: 0 done, 1 failed, 2 called wrongly, 130 stopped by Ctrl-C.'

/** The help of the program. */
export function programHelp(commands: readonly Command[], width: number): string {
  const list = commands.map(({ summary, ...command }) => [
    `${command.name} ${argumentsOf(command)}`.trimEnd(),
    summary,
  ])
  return [
    'gptvq compresses language models by vector quantization (GPTVQ, arXiv 2402.15319).',
    '',
    'Usage: gptvq COMMAND ...',
    '',
    ...tableLines(list, width).map((line) => line.trimEnd()),
    '',
    ...wrapText('gptvq help COMMAND shows the flags of a command; gptvq --version the version.', width),
    ...wrapText('gptvq completion bash|zsh|fish prints what the shell needs to complete them.', width),
    exitCodeHelp,
    'GPTVQ_DEBUG=1 shows where in the program an error came from.',
    '',
    'Example:',
    ...commands.slice(0, 2).flatMap(({ examples }) => exampleLines(examples[0], width)),
  ].join('\n')
}

/** The help of a command: usage, every flag with its default, examples. */
export function commandHelp(command: Command, width: number): string {
  const required = Object.entries(command.flags)
    .filter(([, flag]) => flag.required)
    .map(([option, flag]) => ` ${flagName(option)} ${placeholder(flag)}`)
  const called = [command.name, argumentsOf(command)].join(' ').trimEnd()
  const usage = `Usage: gptvq ${called}${required.join('')} [flags]`
  return [
    ...flagsBroken(usage, width, '', 7),
    '',
    ...wrapText(command.about, width),
    '',
    ...(command.table ? [...tableLines(command.table, width), ''] : []),
    ...flagGroups(command).flatMap(([heading, flags]) => [`${heading}:`, ...flagLines(flags, width), '']),
    'Examples:',
    ...command.examples.flatMap((example) => exampleLines(example, width)),
    '',
    exitCodeHelp,
  ].join('\n')
}

/** A call that can be pasted into a shell, on lines that fit. */
function exampleLines(example: string, width: number): string[] {
  return flagsBroken(`  gptvq ${example}`, width, ' \\', 6)
}

/** A line broken in front of flags into lines of at most `width`; all but the last end with `end`. */
function flagsBroken(text: string, width: number, end: string, indent: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const part of text.split(/ (?=--?[a-z]|\[)/)) {
    if (line === '') line = part
    else if (line.length + 1 + part.length + end.length <= width) line += ` ${part}`
    else {
      lines.push(line + end)
      line = ' '.repeat(indent) + part
    }
  }
  return [...lines, line]
}

/** The flags under their headings, each once. */
function flagGroups({ flags, groups = [] }: Command): [string, FlagTable][] {
  const grouped = groups.map(([heading, options]): [string, FlagTable] => [
    heading,
    Object.fromEntries(options.map((option) => [option, flags[option]])),
  ])
  const listed = new Set(groups.flatMap(([, options]) => options))
  const rest = Object.fromEntries(Object.entries(flags).filter(([option]) => !listed.has(option)))
  return [...grouped, [groups.length > 0 ? 'Other flags' : 'Flags', { ...rest, ...commonFlags }]]
}

/** The arguments of a command, as the help names them. */
export function argumentsOf({ argument, second }: Pick<Command, 'argument' | 'second'>): string {
  return [argument, second].filter((name) => name !== undefined).join(' ')
}

/** A table whose last column is wrapped. */
function tableLines(table: readonly (readonly string[])[], width: number): string[] {
  const columns = (table[0]?.length ?? 1) - 1
  const widths = Array.from({ length: columns }, (_, i) =>
    Math.max(...table.map((row) => row[i]?.length ?? 0)),
  )
  const indent = 2 + widths.reduce((sum, one) => sum + one + 2, 0)
  return table.flatMap((row) => {
    if (row.length === 0) return ['']
    const head = widths.map((one, i) => row[i].padEnd(one + 2)).join('')
    const [first, ...rest] = wrapText(row[columns], Math.max(20, width - indent))
    return [`  ${head}${first}`, ...rest.map((line) => ' '.repeat(indent) + line)]
  })
}

function flagLines(flags: FlagTable, width: number): string[] {
  const heads = Object.entries(flags).map(([option, flag]) => {
    const short = flag.kind === 'switch' && flag.short ? `-${flag.short}, ` : ''
    return { head: `  ${short}${flagName(option)} ${placeholder(flag)}`.trimEnd(), flag }
  })
  const indent = 2 + Math.max(...heads.map(({ head }) => (head.length <= 30 ? head.length : 0)))
  return heads.flatMap(({ head, flag }) => {
    const lines = wrapText(describe(flag), Math.max(20, width - indent)).map(
      (line) => ' '.repeat(indent) + line,
    )
    if (head.length + 2 > indent) return [head, ...lines]
    return [head.padEnd(indent) + lines[0].trimStart(), ...lines.slice(1)]
  })
}

function describe(flag: Flag): string {
  if (flag.required) return `${flag.help} (required)`
  return flag.default === undefined ? flag.help : `${flag.help} (default: ${flag.default})`
}

function placeholder(flag: Flag): string {
  switch (flag.kind) {
    case 'switch':
      return ''
    case 'path':
      return flag.value
    case 'choice':
      return flag.choices.join('|')
    case 'text':
    case 'texts':
      return 'TEXT'
    case 'patterns':
      return 'PATTERN'
    case 'settings':
      return 'PATTERN:OPTION=VALUE'
    case 'trials':
      return 'OPTION=VALUE ...'
    case 'bytes':
      return 'BYTES'
    case 'whole':
    case 'number': {
      const number = flag.kind === 'whole' ? 'N' : 'X'
      return flag.word === undefined ? number : `${number}|${flag.word}`
    }
  }
}
