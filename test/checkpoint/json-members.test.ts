import fc from 'fast-check'
import { expect, it } from 'vitest'
import { joinMembers, memberOf, membersOf } from '../../src/checkpoint/json-members.js'

it('keeps every value as it is written', () => {
  const text =
    '{"cap": 30.0,\r\n "eps":1e-06 , "big": 9007199254740993, "deep": { "list": [1.0, "a,}\\"]"], "cap": 1 },\t"e\\u0061": null,"":""}'
  expect([...membersOf(text)]).toEqual([
    ['cap', '30.0'],
    ['eps', '1e-06'],
    ['big', '9007199254740993'],
    ['deep', '{ "list": [1.0, "a,}\\"]"], "cap": 1 }'],
    ['ea', 'null'],
    ['', '""'],
  ])
})

it('has the last of two members of one name, as JSON.parse', () => {
  expect([...membersOf('{"a": 1.0, "b": 2, "a": 3.0}')]).toEqual([
    ['a', '3.0'],
    ['b', '2'],
  ])
})

it('takes strings of any length', () => {
  const long = JSON.stringify('a\n'.repeat(4e6))
  expect(membersOf(`{"a": ${long}, "b": 1.0}`)).toEqual(
    new Map([
      ['a', long],
      ['b', '1.0'],
    ]),
  )
})

it('puts together again what it took apart', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.boolean(), (value, spaced) => {
      const text = JSON.stringify(value, null, spaced ? 2 : 0)
      const parsed = JSON.parse(text)
      expect(JSON.parse(joinMembers(membersOf(text)))).toEqual(parsed)
      const members = new Map(Object.entries(parsed).map(([name, own]) => [name, memberOf(own)]))
      expect(joinMembers(members)).toBe(
        members.size === 0 ? '{\n\n}\n' : `${JSON.stringify(parsed, null, 2)}\n`,
      )
    }),
  )
})
