import { suggestion } from '../../common/nearest-name.js'
import { UsageError } from '../errors.js'
import { commonFlags, type FlagTable, flagName } from '../flags/flags.js'
import type { Command } from './command.js'

/** Shells that can be told the commands and flags. */
export const shells = ['bash', 'zsh', 'fish'] as const

/**
 * A script that a shell reads once to complete commands, flags and choices, e.g. `eval "$(gptvq completion bash)"`.
 *
 * @throws UsageError for another shell
 */
export function completionScript(shell: string | undefined, commands: readonly Command[]): string {
  if (shell === 'bash') return bash(commands)
  // zsh reads what bash reads, once told so
  if (shell === 'zsh') return `autoload -U +X bashcompinit && bashcompinit\n${bash(commands)}`
  if (shell === 'fish') return fish(commands)
  const near = shell === undefined ? '' : suggestion(shell, shells)
  throw new UsageError(`completion: expected one of ${shells.join(', ')}, got ${shell ?? 'nothing'}${near}`)
}

const flagsOf = ({ flags }: Command): FlagTable => ({ ...flags, ...commonFlags })

function bash(commands: readonly Command[]): string {
  const names = [...commands.map(({ name }) => name), 'help', 'completion'].join(' ')
  const cases = commands.flatMap((command) => {
    const flags = Object.entries(flagsOf(command))
    const chosen = flags.flatMap(([option, flag]) =>
      flag.kind === 'choice'
        ? [`    ${command.name}:${flagName(option)}) words="${flag.choices.join(' ')}" ;;`]
        : [],
    )
    const all = flags.map(([option]) => flagName(option)).join(' ')
    return [...chosen, `    ${command.name}:*) [[ $word == -* ]] && words="${all}" ;;`]
  })
  return [
    '_gptvq() {',
    '  local word=$2 before=$3 words=""',
    `  if ((COMP_CWORD == 1)); then words="${names}"; fi`,
    `  ((COMP_CWORD > 1)) && case "\${COMP_WORDS[1]}:$before" in`,
    ...cases,
    '  esac',
    '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
    '}',
    'complete -o default -F _gptvq gptvq',
  ].join('\n')
}

function fish(commands: readonly Command[]): string {
  const quoted = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  return commands
    .flatMap((command) => [
      `complete -c gptvq -n __fish_use_subcommand -a ${command.name} -d ${quoted(command.summary)}`,
      ...Object.entries(flagsOf(command)).map(([option, flag]) => {
        const here = `complete -c gptvq -n '__fish_seen_subcommand_from ${command.name}' -l ${flagName(option).slice(2)}`
        const takes = flag.kind === 'switch' ? '' : flag.kind === 'choice' ? ' -x' : ' -r'
        const choices = flag.kind === 'choice' ? ` -a ${quoted(flag.choices.join(' '))}` : ''
        return `${here}${takes}${choices} -d ${quoted(flag.help)}`
      }),
    ])
    .join('\n')
}
