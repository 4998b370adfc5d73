import type { OnProgress } from '../../pipeline/progress.js'
import type { FlagTable, FlagValues } from '../flags/flags.js'

/** Where a command reads what is typed, or comes from a pipe. */
export type Input = NodeJS.ReadableStream & { readonly isTTY?: boolean }

/** A person at a terminal. */
export interface Terminal {
  readonly stdin: Input
  write(text: string): void
  /** As of {@link CommandContext}. */
  columns(): number | undefined
}

/** What a command gets beside its arguments. */
export interface CommandContext {
  readonly onProgress: OnProgress
  readonly signal: AbortSignal | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdin: Input | undefined
  /** Writes to standard output at once, but for `--json`. */
  print(text: string): void
  /** Whether only the result is wanted: `--json` or `--quiet`. */
  readonly isTerse: boolean
  /** Writes a line to standard error, but for `--quiet`. */
  note(text: string): void
  /** The second argument, of a command that takes one. */
  readonly second: string | undefined
  /** Characters per line of the terminal that standard output is; undefined or 0: not known, or none. */
  columns(): number | undefined
  /** Where both sides are a terminal, and not `--json`. */
  readonly terminal: Terminal | undefined
}

/** What a command has to say on standard output at its end: `json` for machines, `text` for people, empty for nothing. */
export interface CommandResult {
  readonly json: unknown
  readonly text: string
}

/** A command of the command line: each takes one path, some a name behind it, and flags. */
export interface Command {
  readonly name: string
  /** The path it takes, as the help names it; undefined: none. */
  readonly argument?: 'MODEL' | 'DIR'
  /** A second argument that it takes, as the help names it. */
  readonly second?: 'NAME'
  /** One line for the list of commands. */
  readonly summary: string
  /** What it does, for its own help. */
  readonly about: string
  /** What it does in each case, for its own help: a heading, then rows. */
  readonly table?: readonly (readonly string[])[]
  /** Calls that work, without the leading `gptvq`. */
  readonly examples: readonly string[]
  readonly flags: FlagTable
  /** Headings of the help and the flags under each; the others come last. */
  readonly groups?: readonly (readonly [heading: string, options: readonly string[]])[]
  run(path: string, values: object, context: CommandContext): Promise<CommandResult>
}

interface CommandDefinition<T extends FlagTable> extends Omit<Command, 'flags' | 'run'> {
  readonly flags: T
  run(path: string, values: FlagValues<T>, context: CommandContext): Promise<CommandResult>
}

/** Makes a command whose `run` sees its flags by name and type; `values` are those that were read by its table. */
export function defineCommand<T extends FlagTable>(definition: CommandDefinition<T>): Command {
  return {
    ...definition,
    run: (path, values, context) => definition.run(path, values as FlagValues<T>, context),
  }
}
