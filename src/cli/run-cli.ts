import { GptvqError, OptionError } from '../common/errors.js'
import { finiteJson } from '../common/finite-json.js'
import { suggestion } from '../common/nearest-name.js'
import { safeJson, safeLines, safeText } from '../common/safe-text.js'
import { resolveModel } from '../hub/resolve-model.js'
import { packageVersion } from '../pipeline/folders/package-version.js'
import { commands } from './commands.js'
import { describeFailure, exitCodes, type Failure, UsageError } from './errors.js'
import { commonFlags, type FlagTable } from './flags/flags.js'
import type { Command, Input } from './parse/command.js'
import { completionScript } from './parse/completion.js'
import { readConfigFile, withConfig } from './parse/config-file.js'
import { argumentsOf, commandHelp, programHelp } from './parse/help.js'
import { asksForHelp, type ParsedArguments, parseFlags, requireFlags } from './parse/parse-flags.js'
import { openLog } from './terminal/log-file.js'
import {
  createProgress,
  jsonProgress,
  type ProgressDisplay,
  type ProgressStream,
  quietProgress,
} from './terminal/progress-bar.js'

/** What the command line touches of the process. */
export interface CliStreams {
  readonly stdout: ProgressStream
  readonly stderr: ProgressStream
  readonly stdin?: Input
  readonly env: Readonly<Record<string, string | undefined>>
  /** Its reason is the name of the signal, e.g. `'SIGINT'`. */
  readonly signal?: AbortSignal
}

/**
 * Runs the command line. Results go to `stdout`, all else to `stderr`.
 *
 * @param args without the program's name
 * @returns the exit code: 0 done, 1 failed, 2 called wrongly, 130 and so on when stopped
 */
export async function runCli(args: readonly string[], streams: CliStreams): Promise<number> {
  const command = commands.find(({ name }) => name === args[0])
  // until arguments are parsed, and where they cannot be
  let asJson = looksForJson(args)
  const onParsed = ({ values }: ParsedArguments) => {
    asJson = values.json === true
  }
  try {
    if (command !== undefined) await runCommand(command, args.slice(1), streams, onParsed)
    else await runWithoutCommand(args, streams)
    return exitCodes.ok
  } catch (error) {
    const debug = Boolean(streams.env.GPTVQ_DEBUG) && streams.env.GPTVQ_DEBUG !== '0'
    const flags: FlagTable = command?.flags ?? {}
    const failure = describeFailure(error, command?.name, flags, streams.signal?.reason, debug)
    streams.stderr.write(`${safeLines(failure.message)}\n`)
    if (asJson) streams.stdout.write(`${safeJson(failureJson(error, failure))}\n`)
    return failure.exitCode
  }
}

async function runWithoutCommand(args: readonly string[], { stdout }: CliStreams): Promise<void> {
  const [first, topic] = args
  const print = (text: string) => stdout.write(`${safeLines(text)}\n`)
  if (first === '--version' || first === '-v') print(await packageVersion())
  else if (first === '--help' || first === '-h' || (first === 'help' && topic === undefined)) {
    print(programHelp(commands, helpWidth(stdout)))
  } else if (first === 'completion') stdout.write(`${completionScript(topic, commands)}\n`)
  else if (first === 'help') print(commandHelp(findCommand(topic), helpWidth(stdout)))
  else if (first === undefined) {
    throw new UsageError(`a command is missing: ${commands.map(({ name }) => name).join(', ')}`)
  } else findCommand(first)
}

function findCommand(name: string): Command {
  const command = commands.find((candidate) => candidate.name === name)
  if (command !== undefined) return command
  if (name.startsWith('-')) {
    throw new UsageError(
      `unknown flag ${name}${suggestion(name, ['--help', '--version'])}. The flags of a command follow its name`,
    )
  }
  const near = suggestion(name, [...commands.map((candidate) => candidate.name), 'help', 'completion'])
  throw new UsageError(`unknown command '${name}'${near}`)
}

async function runCommand(
  command: Command,
  args: readonly string[],
  streams: CliStreams,
  onParsed: (parsed: ParsedArguments) => void,
): Promise<void> {
  const { stdout, stderr, env, signal } = streams
  if (asksForHelp(args, { ...command.flags, ...commonFlags })) {
    stdout.write(`${commandHelp(command, helpWidth(stdout))}\n`)
    return
  }
  const parsed = await readArguments(command, args, signal)
  onParsed(parsed)
  const [path, second] = onlyArguments(command, parsed.positionals)
  requireFlags(command.name, parsed, command.flags)
  const { json, quiet, progress: style, help: _, config: __, logFile, ...values } = parsed.values
  const now = () => performance.now()
  const log = openLog(logFile as string | undefined, now)
  const shown = style === 'json' ? jsonProgress(stderr, now) : createProgress(stderr, env, now)
  const display = quiet ? quietProgress(stderr) : shown
  const progress: ProgressDisplay = {
    ...display,
    report(step) {
      display.report(step)
      log.report(step)
    },
    note(text) {
      if (!quiet) display.note(text)
      log.add({ note: text })
    },
  }
  const announceStop = () => {
    const again = signal?.reason === 'SIGINT' ? '; a second Ctrl-C ends the program at once' : ''
    display.note(`stopping${again}`)
    log.add({ note: 'stopping' })
  }
  signal?.addEventListener('abort', announceStop)
  try {
    log.add({ command: command.name, model: path, flags: withoutSecrets(values) })
    const { stdin } = streams
    const columns = () => (stdout.isTTY ? stdout.columns : undefined)
    const place =
      path && (await resolveModel(path, { onProgress: progress.report, ...(signal && { signal }) }))
    const result = await command.run(place, values, {
      onProgress: progress.report,
      signal,
      second,
      env,
      stdin,
      print(text) {
        progress.close()
        if (!json) stdout.write(stdout.isTTY ? safeText(text) : text)
      },
      isTerse: Boolean(json || quiet),
      note: (text) => progress.note(safeLines(text)),
      columns,
      terminal:
        stdin?.isTTY && stdout.isTTY && !json
          ? {
              stdin,
              write(text) {
                progress.close()
                stdout.write(text)
              },
              columns,
            }
          : undefined,
    })
    progress.close()
    // what runs until it is stopped has nothing to print
    if (signal?.aborted && result.text !== '')
      progress.note('it was done before it could be stopped; what follows is its result')
    const document = finiteJson(result.json, 2)
    log.add({ result: result.json })
    if (json) stdout.write(`${safeJson(document)}\n`)
    else if (result.text !== '') stdout.write(`${safeLines(result.text)}\n`)
  } catch (error) {
    log.add({ error: error instanceof Error ? error.message : String(error) })
    throw error
  } finally {
    log.close()
    progress.close()
    signal?.removeEventListener('abort', announceStop)
  }
}

/** The flags of the command line, and behind them those of the file that it names. */
async function readArguments(
  command: Command,
  args: readonly string[],
  signal: AbortSignal | undefined,
): Promise<ParsedArguments> {
  const table = { ...command.flags, ...commonFlags }
  const given = parseFlags(command.name, args, table)
  const { config } = given.values
  if (typeof config !== 'string') return given
  return withConfig(given, await readConfigFile(command.name, config, table, signal))
}

function looksForJson(args: readonly string[]): boolean {
  const end = args.indexOf('--')
  return (end < 0 ? args : args.slice(0, end)).includes('--json')
}

/** A failure for machines: what `--json` prints in the place of the result. */
function failureJson(error: unknown, { message, exitCode }: Failure): string {
  const code = error instanceof GptvqError ? error.code : error instanceof UsageError ? 'USAGE' : 'UNKNOWN'
  const option = error instanceof OptionError ? { option: error.option } : {}
  return JSON.stringify({ error: { code, ...option, message, exitCode } }, null, 2)
}

/** Flags for the log: a URL of Redis may hold a password, and others read logs. */
function withoutSecrets(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { redis, apiKey, ...others } = values
  const key = apiKey === undefined ? {} : { apiKey: '***' }
  return {
    ...others,
    ...key,
    ...(redis !== undefined && { redis: String(redis).replace(/\/\/[^/]*@/, '//***@') }),
  }
}

function onlyArguments(command: Command, positionals: readonly string[]): [path: string, second?: string] {
  const { name, argument, second: secondName } = command
  const [path, second, ...more] = positionals
  if (argument === undefined) {
    if (path === undefined) return ['']
    throw new UsageError(`${name} takes flags only, got '${path}'`, name)
  }
  if (path === undefined || path === '') {
    throw new UsageError(`${argument} is missing: gptvq ${name} ${argumentsOf(command)} ...`, name)
  }
  if (secondName === undefined && second !== undefined) {
    throw new UsageError(`expected one ${argument}, got '${path}' and '${second}'`, name)
  }
  if (secondName === undefined) return [path]
  if (second === undefined || second === '') {
    throw new UsageError(`${secondName} is missing: gptvq ${name} ${argumentsOf(command)} ...`, name)
  }
  if (more.length > 0) {
    throw new UsageError(`expected one ${argument} and one ${secondName}, got '${more[0]}' too`, name)
  }
  return [path, second]
}

function helpWidth({ columns }: ProgressStream): number {
  return Math.min(100, Math.max(40, (columns || 100) - 1))
}
