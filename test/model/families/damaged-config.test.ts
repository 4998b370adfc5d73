import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { GptvqError } from '../../../src/common/errors.js'
import { describeDecoder } from '../../../src/model/families/index.js'
import { fixtureFolder, fixtureNames } from './fixture.js'

/** What a field may hold in a file that someone damaged, or made to do damage. */
const values: readonly unknown[] = [
  null,
  'banana',
  '4',
  '__proto__',
  '',
  -3,
  0,
  1,
  3,
  0.5,
  2 ** 31,
  2 ** 53 - 1,
  1e300,
  1e-300,
  Number.POSITIVE_INFINITY,
  true,
  false,
  [],
  [1, 2],
  [{}, null],
  {},
  { a: { b: 1 } },
]

type Fields = Record<string, unknown>

/** The configuration with one field after the other, those of sections too, taking each of the values, or leaving. */
function* damaged(config: Fields): Generator<[string, Fields]> {
  for (const [field, own] of Object.entries(config)) {
    const { [field]: _, ...rest } = config
    yield [`without ${field}`, rest]
    for (const value of values) yield [`${field}: ${JSON.stringify(value)}`, { ...rest, [field]: value }]
    if (Array.isArray(own) && field !== 'architectures') {
      for (const value of values) {
        yield [`${field}[0]: ${JSON.stringify(value)}`, { ...rest, [field]: [value, ...own.slice(1)] }]
      }
    } else if (typeof own === 'object' && own !== null && !Array.isArray(own)) {
      for (const [what, section] of damaged(own as Fields))
        yield [`${field}.${what}`, { ...rest, [field]: section }]
    }
  }
}

/** Whether any number in a description is NaN or infinite, or no float32. */
function holdsBadNumber(value: unknown): boolean {
  if (typeof value === 'number') return !Number.isFinite(Math.fround(value))
  return typeof value === 'object' && value !== null && Object.values(value).some(holdsBadNumber)
}

describe.each(fixtureNames)('a damaged config.json of %s', (name) => {
  it('is described with sound numbers or refused with a message on the file, whatever field is damaged', () => {
    const config = JSON.parse(readFileSync(join(fixtureFolder, name, 'config.json'), 'utf8'))
    for (const [what, fields] of damaged(config)) {
      try {
        expect(holdsBadNumber(describeDecoder(fields, 'a/config.json')), what).toBe(false)
      } catch (error) {
        expect(error, what).toBeInstanceOf(GptvqError)
        expect((error as Error).message, what).toMatch(/^a\/config\.json: /)
      }
    }
  })
})
