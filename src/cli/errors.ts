import { AbortedError, GptvqError, OptionError } from '../common/errors.js'
import { safeMessage } from '../common/safe-text.js'
import { type FlagTable, flagName } from './flags/flags.js'

/** What the process exits with: done, failed, or called wrongly. */
export const exitCodes = { ok: 0, failed: 1, usage: 2 } as const

/** Signals that stop a command, and what the process exits with after each. */
export const signalExitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

export type StopSignal = keyof typeof signalExitCodes

/** The command line itself is wrong. */
export class UsageError extends Error {
  /** The command whose help to point to. */
  readonly command: string | undefined

  constructor(message: string, command?: string) {
    super(safeMessage(message))
    this.name = 'UsageError'
    this.command = command
  }
}

/** How a run ends that did not succeed: what to print on stderr, and the exit code. */
export interface Failure {
  readonly message: string
  readonly exitCode: number
}

/**
 * Tells what went wrong in the words of the command line.
 *
 * @param command the command that ran, when it got as far
 * @param flags its flags, which the names of options are translated into
 * @param stoppedBy the reason of the abort signal, when it fired
 * @param debug adds the stack to every error
 */
export function describeFailure(
  error: unknown,
  command: string | undefined,
  flags: FlagTable,
  stoppedBy: unknown,
  debug: boolean,
): Failure {
  const failure = nameFailure(error, command, flags, stoppedBy)
  const stack = stackOf(error)
  if (!debug || failure.message.includes(stack)) return failure
  return { ...failure, message: `${failure.message}\n${stack}` }
}

/** What the engine says where an array is larger than memory, or than an array can be. */
const OUT_OF_MEMORY = /allocation failed|Invalid typed array length/

function nameFailure(
  error: unknown,
  command: string | undefined,
  flags: FlagTable,
  stoppedBy: unknown,
): Failure {
  if (error instanceof UsageError) return usageFailure(error.message, error.command)
  if (error instanceof OptionError) return usageFailure(inWordsOfFlags(inFlags(error, flags)), command)
  if (error instanceof AbortedError) {
    const [, left = ''] = /^stopped[^;]*(; .*)$/.exec(error.message) ?? []
    return { message: `gptvq: stopped${inWordsOfFlags(left)}`, exitCode: exitCodeOfSignal(stoppedBy) }
  }
  if (error instanceof GptvqError) return failed(inWordsOfFlags(error.message))
  if (isSystemError(error)) return failed(inWordsOfFlags(error.message))
  if (error instanceof RangeError && OUT_OF_MEMORY.test(error.message)) {
    return failed(
      `there is not enough memory; use fewer or shorter sequences. The reason: ${inWordsOfFlags(error.message)}`,
    )
  }
  return failed(`this is a bug in gptvq, please report it with the lines below\n${stackOf(error)}`)
}

function inWordsOfFlags(message: string): string {
  return message.replace(/ \(option \w+\)/g, '')
}

function failed(message: string): Failure {
  return { message: `gptvq: ${message}`, exitCode: exitCodes.failed }
}

function usageFailure(message: string, command: string | undefined): Failure {
  const help = command === undefined ? 'gptvq --help' : `gptvq help ${command}`
  return { message: `gptvq: ${message}\nSee: ${help}`, exitCode: exitCodes.usage }
}

/** `groupSize: expected a multiple of vectorDim` becomes `--group-size: expected a multiple of --vector-dim`. */
function inFlags(error: OptionError, flags: FlagTable): string {
  const ownOption = error.option === 'output' ? 'out' : error.option
  if (!(ownOption in flags)) return error.message
  const text = error.message.slice(`${error.option}: `.length)
  const spoken = Object.keys(flags).filter((option) => option === 'bpv' || /[A-Z]/.test(option))
  const options = new RegExp(`\\b(${spoken.join('|')})\\b`, 'g')
  const translated = spoken.length > 0 ? text.replace(options, (option) => flagName(option)) : text
  return `${flagName(ownOption)}: ${translated}`
}

function exitCodeOfSignal(reason: unknown): number {
  return typeof reason === 'string' && reason in signalExitCodes
    ? signalExitCodes[reason as StopSignal]
    : signalExitCodes.SIGINT
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && 'code' in error
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause)}`
  // a stack begins with the message as it was when the error was made
  const stack = error.stack ?? ''
  return `${stack.includes(error.message) ? stack : `${error.name}: ${error.message}\n${stack}`}${cause}`
}
