import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nameMatcher } from '../../src/common/nearest-name.js'

/** A part of a pattern, and the texts that it stands for. */
interface Piece {
  readonly pattern: string
  readonly matched: string
}

const letters = '.-_[](){}+^$|\\aB0 \n'
const text = (options: fc.StringConstraints) => fc.string({ ...options, unit: fc.constantFrom(...letters) })
/** Braces that are closed are choices; others stand for themselves. */
const plain = text({ maxLength: 6 }).filter((own) => !/\{[^{}]*\}/.test(own))
const choice = text({ maxLength: 3 }).map((own) => own.replace(/[{},]/g, '-'))

const piece: fc.Arbitrary<Piece> = fc.oneof(
  plain.map((own) => ({ pattern: own.replace(/[{}]/g, '-'), matched: own.replace(/[{}]/g, '-') })),
  text({ maxLength: 8 }).map((matched) => ({ pattern: '*', matched })),
  text({ minLength: 1, maxLength: 1 }).map((matched) => ({ pattern: '?', matched })),
  fc
    .array(choice, { minLength: 1, maxLength: 3 })
    .chain((choices) =>
      fc.nat(choices.length - 1).map((i) => ({ pattern: `{${choices.join(',')}}`, matched: choices[i] })),
    ),
)

/** The same language by backtracking, for patterns without choices. */
function matchesByHand(pattern: string, name: string): boolean {
  if (pattern === '') return name === ''
  const [first] = pattern
  const rest = pattern.slice(1)
  if (first === '*') {
    for (let i = 0; i <= name.length; i++) if (matchesByHand(rest, name.slice(i))) return true
    return false
  }
  return name !== '' && (first === '?' || first === name[0]) && matchesByHand(rest, name.slice(1))
}

describe('nameMatcher', () => {
  it('matches what a pattern was made for, whatever characters are in it', () => {
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 5 }), (pieces) => {
        const pattern = pieces.map((own) => own.pattern).join('')
        const name = pieces.map(({ matched }) => matched).join('')
        expect(nameMatcher(pattern)(name)).toBe(true)
      }),
    )
  })

  it('matches nothing else: stars and question marks against backtracking by hand', () => {
    const short = fc.string({ maxLength: 7, unit: fc.constantFrom('a', '.', '*', '?') })
    fc.assert(
      fc.property(short, short, (pattern, name) => {
        expect(nameMatcher(pattern)(name)).toBe(matchesByHand(pattern, name))
      }),
      { numRuns: 2000 },
    )
  })

  it.each([
    ['*.down_proj', 'model.layers.0.mlp.down_proj', true],
    ['*.down_proj', 'model.layers.0.mlp.down_proj.weight', false],
    ['model.layers.0.*', 'model.layers.0.mlp.up_proj', true],
    ['model.layers.0.*', 'model.layers.00.mlp.up_proj', false],
    ['model.layers.0.*', 'model_layers.0.mlp.up_proj', false],
    ['*.{q,k}_proj', 'a.k_proj', true],
    ['*.{q,k}_proj', 'a.v_proj', false],
    ['*.{q,k}_proj', 'a.qk_proj', false],
    ['model.layers.?.*', 'model.layers.7.a', true],
    ['model.layers.?.*', 'model.layers.17.a', false],
    ['model.layers.{0,1?}.*', 'model.layers.0.a', true],
    ['model.layers.{0,1?}.*', 'model.layers.17.a', true],
    ['model.layers.{0,1?}.*', 'model.layers.1.a', false],
    ['{*.q_proj,*.k_proj}', 'model.layers.0.k_proj', true],
    ['{*.q_proj,*.k_proj}', 'model.layers.0.v_proj', false],
    ['a{\\,b}', 'a\\', true],
    ['Model*', 'model', false],
    ['{a', '{a', true],
    ['a{}b', 'ab', true],
  ])('%s and %s: %s', (pattern, name, expected) => {
    expect(nameMatcher(pattern)(name)).toBe(expected)
  })
})
