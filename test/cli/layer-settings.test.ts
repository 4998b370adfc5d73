import { expect, it } from 'vitest'
import { quantizeFlags } from '../../src/cli/flags/flags.js'
import { parseFlags } from '../../src/cli/parse/parse-flags.js'

const parsed = (...settings: string[]) =>
  parseFlags(
    'quantize',
    settings.flatMap((text) => ['--set', text]),
    quantizeFlags,
  ).values.set

it('reads settings of layers, several of one flag and of several flags', () => {
  expect(parsed('*.v_proj:bits=3,scale-block-size=none', 'a:b:vector-dim=1')).toEqual([
    { match: '*.v_proj', options: { bits: 3, scaleBlockSize: 'none' } },
    { match: 'a:b', options: { vectorDim: 1 } },
  ])
})

it.each([
  ['*:bits=2=3', "--set: expected a number, got '2=3'"],
  ['*:bits', '--set: expected a number, got nothing'],
  ['*:bits=', '--set: expected a number, got nothing'],
  ['*:=3', "--set: there is no setting '' of a layer"],
  ['*:', "--set: there is no setting '' of a layer"],
  [':bits=3', '--set: expected PATTERN:option=value'],
  ['*.v_proj', '--set: expected PATTERN:option=value'],
  ['*:seed=1', "--set: there is no setting 'seed' of a layer"],
  ['*:bitz=1', "there is no setting 'bitz' of a layer. Did you mean bits?"],
])('refuses %s', (text, message) => {
  expect(() => parsed(text)).toThrow(message)
})
