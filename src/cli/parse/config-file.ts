import { AbortedError } from '../../common/errors.js'
import { suggestion } from '../../common/nearest-name.js'
import { readTextFile } from '../../pipeline/calibrate/text-file.js'
import { UsageError } from '../errors.js'
import { type FlagTable, flagName, optionNamed } from '../flags/flags.js'
import { type ParsedArguments, parseFlags } from './parse-flags.js'

/** What a file can say besides flags: the path that the command takes. */
const PATH_NAMES = ['model', 'path']

/** No flags take more. */
const MOST_BYTES = 2 ** 20

/**
 * Reads flags from a JSON object, each by its name (`"bits": 2`, `"group-size"` and `"groupSize"` alike). A list gives a
 * flag several times, `true` a flag without a value; `"model"` is the path that the command takes.
 *
 * @throws UsageError naming the file, the member, what was found and what was expected; AbortedError
 */
export async function readConfigFile(
  command: string,
  path: string,
  table: FlagTable,
  signal?: AbortSignal,
): Promise<ParsedArguments> {
  const args = Object.entries(await readObject(path, signal)).flatMap(([name, value]) =>
    argumentsOf(name, value, table, path),
  )
  try {
    return parseFlags(command, args, table)
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${path}: ${error.message}`, command)
    throw error
  }
}

/** The command line's own flags count, each before the file's. */
export function withConfig(given: ParsedArguments, config: ParsedArguments): ParsedArguments {
  return {
    positionals: given.positionals.length > 0 ? given.positionals : config.positionals,
    values: { ...config.values, ...given.values },
  }
}

async function readObject(path: string, signal: AbortSignal | undefined): Promise<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(await readTextFile(path, { signal, most: MOST_BYTES }))
  } catch (cause) {
    if (cause instanceof AbortedError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new UsageError(`--config: ${path} cannot be read as JSON (${reason})`)
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>
  }
  throw new UsageError(`--config: ${path} holds no JSON object; expected flags by name, e.g. {"bits": 2}`)
}

function argumentsOf(name: string, value: unknown, table: FlagTable, path: string): string[] {
  if (PATH_NAMES.includes(name)) return [wordOf(name, value, path)]
  const option = optionNamed(table, name)
  if (option === undefined || option === 'config') {
    throw new UsageError(`${path}: there is no flag '${name}'${suggestion(name, Object.keys(table))}`)
  }
  const flag = flagName(option)
  if (table[option].kind === 'switch') {
    if (typeof value !== 'boolean') throw new UsageError(`${path}: ${name}: expected true or false`)
    return value ? [flag] : []
  }
  const values = Array.isArray(value) ? value : [value]
  return values.map((one) => `${flag}=${wordOf(name, one, path)}`)
}

function wordOf(name: string, value: unknown, path: string): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  throw new UsageError(`${path}: ${name}: expected a string or a number, got ${JSON.stringify(value)}`)
}
