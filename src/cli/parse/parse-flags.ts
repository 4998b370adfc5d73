import { parseArgs } from 'node:util'
import { suggestion } from '../../common/nearest-name.js'
import type { Trial } from '../../pipeline/compare/compare-settings.js'
import type { LayerSetting } from '../../pipeline/quantize/layers/layer-plan.js'
import { UsageError } from '../errors.js'
import { type Flag, type FlagTable, flagName, optionNamed } from '../flags/flags.js'

/** What a flag was given. */
export type ParsedValue =
  | string
  | number
  | boolean
  | readonly string[]
  | readonly LayerSetting[]
  | readonly Trial[]

/** What a command was called with. */
export interface ParsedArguments {
  readonly positionals: readonly string[]
  /** By option name; only the flags given. */
  readonly values: Readonly<Record<string, ParsedValue>>
}

/**
 * Parses the arguments of a command. A flag given twice counts the last time, unless it makes a list.
 *
 * @param command the name that errors point to
 * @throws UsageError naming the flag, what was found and what was expected
 */
export function parseFlags(command: string, args: readonly string[], table: FlagTable): ParsedArguments {
  const options = new Map(Object.keys(table).map((option) => [flagName(option).slice(2), option]))
  const positionals: string[] = []
  const values: Record<string, ParsedValue> = {}
  for (const token of tokenize(args, table)) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const option = options.get(token.name)
    if (option === undefined) {
      const near = suggestion(
        token.rawName,
        [...options.keys()].map((name) => `--${name}`),
      )
      throw new UsageError(`unknown flag ${token.rawName}${near}`, command)
    }
    const inline = token.inlineValue === true
    try {
      values[option] = added(values[option], readFlag(table[option], token.value, inline))
    } catch (error) {
      if (!(error instanceof UsageError)) throw error
      throw new UsageError(`${flagName(option)}: ${error.message}`, command)
    }
  }
  return { positionals, values }
}

/** Whether `--help` is among the flags, not the value of one; it is answered even when others are wrong or missing. */
export function asksForHelp(args: readonly string[], table: FlagTable): boolean {
  return tokenize(args, table).some((token) => token.kind === 'option' && token.name === 'help')
}

/** Refuses a call that lacks a required flag. */
export function requireFlags(command: string, { values }: ParsedArguments, table: FlagTable): void {
  for (const [option, flag] of Object.entries(table)) {
    if (!flag.required || option in values) continue
    const value = flag.kind === 'path' ? flag.value : 'VALUE'
    throw new UsageError(`${flagName(option)} ${value} is missing: ${flag.help}`, command)
  }
}

/** A list with what the flag was given this time, or just that. */
function added(before: ParsedValue | undefined, value: ParsedValue): ParsedValue {
  return Array.isArray(before) && Array.isArray(value) ? ([...before, ...value] as ParsedValue) : value
}

function tokenize(args: readonly string[], table: FlagTable) {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string }> = {}
  for (const [option, flag] of Object.entries(table)) {
    options[flagName(option).slice(2)] =
      flag.kind === 'switch'
        ? { type: 'boolean', ...(flag.short && { short: flag.short }) }
        : { type: 'string' }
  }
  // not strict: the package's own messages name neither what was expected nor the nearest flag
  return parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true }).tokens
}

function readFlag(flag: Flag, text: string | undefined, inline: boolean): ParsedValue {
  if (flag.kind === 'switch') {
    if (inline) throw new UsageError(`takes no value, got '${text}'`)
    return true
  }
  const expected = expectation(flag)
  if (text === undefined || text === '') throw new UsageError(`expected ${expected}, got nothing`)
  if (!inline && /^-{1,2}[a-z]/i.test(text)) {
    throw new UsageError(`expected ${expected}, got the flag ${text}`)
  }
  const value = readValue(flag, text)
  if (value === undefined) throw new UsageError(`expected ${expected}, got '${text}'`)
  return value
}

function expectation(flag: Exclude<Flag, { kind: 'switch' }>): string {
  switch (flag.kind) {
    case 'choice':
      return `one of ${flag.choices.join(', ')}`
    case 'path':
      return flag.value === 'FILE' ? 'the path of a file' : 'the path of a folder'
    case 'whole':
    case 'number': {
      const number = flag.kind === 'whole' ? 'a whole number' : 'a number'
      return flag.word === undefined ? number : `${number} or ${flag.word}`
    }
    case 'text':
    case 'texts':
      return 'a text'
    case 'patterns':
      return "a pattern over layers' names, e.g. '*.down_proj'"
    case 'settings':
      return "PATTERN:option=value, e.g. '*.down_proj:bits=3'"
    case 'trials':
      return 'settings of one try, e.g. bits=2,vectorDim=4, or default'
    case 'bytes':
      return 'a number of bytes, e.g. 5e9, 500MB or 2GiB'
  }
}

function readValue(flag: Exclude<Flag, { kind: 'switch' }>, text: string): ParsedValue | undefined {
  switch (flag.kind) {
    case 'choice':
      return flag.choices.find((choice) => String(choice) === text)
    case 'path':
    case 'text':
      return text
    case 'patterns':
    case 'texts':
      return [text]
    case 'settings':
      return readSetting(flag.table, text)
    case 'trials':
      return [
        {
          name: text,
          options: text === 'default' ? {} : readOptions(flag.table, text.split(/[\s,]+/), 'a model'),
        },
      ]
    case 'whole': {
      if (flag.word === text) return text
      const value = readNumber(text)
      return Number.isInteger(value) ? value : undefined
    }
    case 'number':
      return flag.word === text ? text : readNumber(text)
    case 'bytes':
      return readBytes(text)
  }
}

function readSetting(table: FlagTable, text: string): LayerSetting[] | undefined {
  const colon = text.lastIndexOf(':')
  if (colon < 1) return undefined
  return [
    { match: text.slice(0, colon), options: readOptions(table, text.slice(colon + 1).split(','), 'a layer') },
  ]
}

/** `name=value` pairs by the flags that they are the values of; a switch needs no value. */
function readOptions(table: FlagTable, parts: readonly string[], of: string): Record<string, ParsedValue> {
  const options: Record<string, ParsedValue> = {}
  for (const part of parts) {
    const equals = part.indexOf('=')
    const name = equals < 0 ? part : part.slice(0, equals)
    const value = equals < 0 ? undefined : part.slice(equals + 1)
    const option = optionNamed(table, name)
    if (option === undefined) {
      throw new UsageError(`there is no setting '${name}' of ${of}${suggestion(name, Object.keys(table))}`)
    }
    options[option] = added(options[option], readFlag(table[option], value, value !== undefined))
  }
  return options
}

function readNumber(text: string): number | undefined {
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN
  // 1e999 is more than any number
  return Number.isFinite(value) ? value : undefined
}

const byteUnits: Readonly<Record<string, number>> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}

function readBytes(text: string): number | undefined {
  const [, digits, unit] = /^(.*?)\s*([kmgt]?i?b)?$/i.exec(text) ?? []
  const value = readNumber(digits ?? '')
  const scale = unit === undefined ? 1 : byteUnits[unit.toLowerCase()]
  return value === undefined || scale === undefined ? undefined : value * scale
}
