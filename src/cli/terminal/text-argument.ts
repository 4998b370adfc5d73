import { TextError } from '../../common/errors.js'
import type { TextSource } from '../../pipeline/calibrate/text-source.js'
import { UsageError } from '../errors.js'
import type { Input } from '../parse/command.js'

/**
 * The text that a flag names: a file, or for `-` what comes in by standard input.
 *
 * @throws UsageError when nothing can come in; TextError when it is not UTF-8
 */
export async function readTextArgument(given: string, stdin: Input | undefined): Promise<TextSource> {
  if (given !== '-') return given
  if (stdin === undefined || stdin.isTTY) {
    throw new UsageError("a text is to come from standard input ('-'), but nothing is piped into it")
  }
  const parts: Buffer[] = []
  for await (const part of stdin) parts.push(Buffer.from(part))
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts)) }
  } catch (cause) {
    throw new TextError('standard input is not UTF-8 text', { cause })
  }
}
