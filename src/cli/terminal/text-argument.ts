import { isPipe, readTextFile, readTextOf } from '../../pipeline/calibrate/text-file.js'
import type { TextSource } from '../../pipeline/calibrate/text-source.js'
import { UsageError } from '../errors.js'
import type { CommandContext } from '../parse/command.js'

/**
 * The text that a flag names: a file, or for `-` what comes in by standard input. What comes out of a pipe is read here,
 * since that can be done once and commands may read a text again.
 *
 * @throws UsageError when nothing can come in; TextError when it is not UTF-8; AbortedError
 */
export async function readTextArgument(
  given: string,
  { stdin, signal }: Pick<CommandContext, 'stdin' | 'signal'>,
): Promise<TextSource> {
  if (given !== '-') return (await isPipe(given)) ? { text: await readTextFile(given, { signal }) } : given
  if (stdin === undefined || stdin.isTTY) {
    throw new UsageError("a text is to come from standard input ('-'), but nothing is piped into it")
  }
  if (!stdin.readable) {
    throw new UsageError("standard input holds one text ('-'); give the other one as a file")
  }
  return { text: await readTextOf(stdin, 'standard input', { signal }) }
}

/** The same as an option, for a flag that may be left out. */
export async function calibrationArgument(
  given: string | undefined,
  context: Pick<CommandContext, 'stdin' | 'signal'>,
): Promise<{ calibration?: TextSource }> {
  return given === undefined ? {} : { calibration: await readTextArgument(given, context) }
}
