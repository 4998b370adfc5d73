import { isObject } from '../../checkpoint/json-file.js'
import { badField } from './api-error.js'

/** The fields of a request's body, read one by one; null counts as not there. */
export interface RequestFields {
  has(name: string): boolean
  raw(name: string): unknown
  number(name: string): number | undefined
  flag(name: string): boolean | undefined
  object(name: string): Record<string, unknown> | undefined
  /** Refuses a value that asks for what is not there. */
  refuse(name: string, unless: (value: unknown) => boolean, what: string): void
  /** Refuses fields that were neither read nor are in `ignored`, but for those that are null. */
  refuseOthers(ignored: readonly string[]): void
}

/** @throws ApiError naming the field, here or while reading */
export function requestFields(body: unknown): RequestFields {
  if (!isObject(body)) throw badField('body', 'expected a JSON object')
  const read = new Set<string>()
  const raw = (name: string): unknown => {
    read.add(name)
    return Object.hasOwn(body, name) ? (body[name] ?? undefined) : undefined
  }
  const typed = <T>(name: string, what: string, is: (value: unknown) => value is T): T | undefined => {
    const value = raw(name)
    if (value === undefined || is(value)) return value
    throw badField(name, `expected ${what}`)
  }
  return {
    raw,
    has: (name) => raw(name) !== undefined,
    number: (name) => typed(name, 'a number', (value) => typeof value === 'number'),
    flag: (name) => typed(name, 'true or false', (value) => typeof value === 'boolean'),
    object: (name) => typed(name, 'an object', isObject),
    refuse(name, unless, what) {
      const value = raw(name)
      if (value !== undefined && !unless(value)) throw badField(name, `${what} is not there`, 'unsupported')
    },
    refuseOthers(ignored) {
      for (const [name, value] of Object.entries(body)) {
        if (value === null || read.has(name) || ignored.includes(name)) continue
        throw badField(name, 'there is no such field')
      }
    },
  }
}
