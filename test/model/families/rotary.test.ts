import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { RotaryDescription } from '../../../src/model/decoder/description.js'
import { rotaryFrequencies, rotaryTables } from '../../../src/model/decoder/rotary.js'
import { describeDecoder } from '../../../src/model/families/index.js'

interface Golden {
  readonly name: string
  readonly config: Record<string, unknown>
  readonly length: number
  readonly layer?: string
  readonly inverseFrequencies?: readonly number[]
  readonly attentionFactor?: number
  /** Why transformers cannot run the model. */
  readonly refused?: string
}

/** By `scripts/oracle/rope.py`: the rotary frequencies of models that transformers made of these files. */
const golden: Golden[] = JSON.parse(readFileSync(new URL('./rope-golden.json', import.meta.url), 'utf8'))

/** What transformers reads and we refuse: it ignores what the file says, or its releases disagree. */
const refusedHere = [
  /^(gemma3_text|olmo3): (rope_parameters|flat rope_parameters)/,
  /^(gemma3_text|olmo3): rope_scaling linear by type/,
  /^gemma3_text: yarn, original length at top/,
  // a base at the top level, of which release 4 makes that of all layers and 5 that of some
  /^olmo3: (rope_scaling|local theta|yarn)/,
  /^olmo3: nested(, full only|, sliding null| (linear|yarn|llama3|dynamic), theta at top)/,
  /^llama: default, partial_rotary_factor/,
  /^llama: llama3 .'low_freq_factor'/,
  /^gpt_neox: (rope_theta|partial_rotary_factor)/,
  /^mistral: nested/,
]

/** What transformers cannot run for reasons of its own: a mishandled null, a check that comes too early. */
const refusedThere = [/^mixtral: yarn, no head_dim/, /^llama: theta null/, /^phi3: su with short and long/]

const matches = (patterns: readonly RegExp[], name: string) => patterns.some((pattern) => pattern.test(name))

function describedRotary({ config, layer, name }: Golden): RotaryDescription | undefined {
  const { blocks } = describeDecoder(config, name)
  const windowed = layer === 'sliding_attention'
  const block =
    layer === undefined ? blocks[0] : blocks.find(({ attention }) => windowed === !!attention.window)
  return block?.attention.rotary
}

describe('rotary settings and frequencies, against transformers', () => {
  const read = golden.filter(({ name, refused }) => refused === undefined && !matches(refusedHere, name))

  it('the golden file has all kinds', () => {
    expect(read.length).toBeGreaterThan(400)
  })

  it.each(read.map((entry) => [`${entry.name} ${entry.layer ?? ''}`, entry] as const))('%s', (_, entry) => {
    const { frequencies, attentionFactor } = rotaryFrequencies(describedRotary(entry)!, entry.length)
    expect(attentionFactor).toBeCloseTo(entry.attentionFactor!, 10)
    expect(frequencies.length).toBe(entry.inverseFrequencies!.length)
    for (const [pair, frequency] of frequencies.entries()) {
      // the golden values are of float32
      expect(frequency / entry.inverseFrequencies![pair]).toBeCloseTo(1, 5)
    }
  })

  it.each(
    golden.filter(({ name }) => matches(refusedHere, name)).map((entry) => [entry.name, entry] as const),
  )('refused: %s', (_, entry) => {
    expect(() => describedRotary(entry)).toThrow(/rope|rotary|original_max|freq_factor/)
  })

  it.each(
    golden.filter(({ name }) => matches(refusedThere, name)).map((entry) => [entry.name, entry] as const),
  )('read, though refused by transformers: %s', (_, entry) => {
    expect(entry.refused).toBeDefined()
    expect(describedRotary(entry)?.dims).toBe(16)
  })

  it.each(
    golden
      .filter(({ name, refused }) => refused !== undefined && !matches(refusedThere, name))
      .map((entry) => [entry.name, entry] as const),
  )('refused, as by transformers: %s', (_, entry) => {
    expect(() => describedRotary(entry)).toThrow()
  })
})

it.each([...refusedHere, ...refusedThere])('%s is in the golden file', (pattern) => {
  expect(golden.some(({ name }) => pattern.test(name))).toBe(true)
})

describe('rotaryTables', () => {
  const plain: RotaryDescription = { dims: 4, theta: 100, scaling: { kind: 'default' } }

  it('holds cosines and sines of position times frequency, twice', () => {
    const { dims, cos, sin } = rotaryTables(plain, 3)
    expect(dims).toBe(4)
    for (const [position, pair] of [
      [0, 0],
      [2, 0],
      [2, 1],
    ]) {
      const angle = position * 100 ** (-pair / 2)
      for (const at of [4 * position + pair, 4 * position + pair + 2]) {
        expect(cos[at]).toBeCloseTo(Math.cos(angle), 6)
        expect(sin[at]).toBeCloseTo(Math.sin(angle), 6)
      }
    }
  })

  it('multiplies them by the attention factor', () => {
    const scaling = {
      kind: 'yarn',
      factor: 1,
      betaFast: 32,
      betaSlow: 1,
      truncate: true,
      originalMaxPositions: 16,
      attentionFactor: 1.5,
    } as const
    const hotter = rotaryTables({ ...plain, scaling }, 2)
    const usual = rotaryTables({ ...plain }, 2)
    expect([...hotter.cos]).toEqual([...usual.cos].map((one) => expect.closeTo(1.5 * one, 6)))
    expect([...hotter.sin]).toEqual([...usual.sin].map((one) => expect.closeTo(1.5 * one, 6)))
  })

  it('remembers tables, and makes longer ones when more positions are asked for', () => {
    const rotary = { ...plain }
    const first = rotaryTables(rotary, 40)
    expect(first.cos.length).toBeGreaterThanOrEqual(4 * 40)
    expect(rotaryTables(rotary, 5)).toBe(first)
    const longer = rotaryTables(rotary, 300)
    expect(longer.cos.length).toBeGreaterThanOrEqual(4 * 300)
    expect(longer.cos.subarray(0, 4 * 40)).toEqual(first.cos.subarray(0, 4 * 40))
    expect(rotaryTables(rotary, 40)).toBe(longer)
  })

  it('keeps apart what sequences of different lengths need', () => {
    const longrope: RotaryDescription = {
      dims: 4,
      theta: 100,
      scaling: {
        kind: 'longrope',
        shortFactors: [1, 1],
        longFactors: [2, 4],
        originalMaxPositions: 8,
        attentionFactor: 1,
      },
    }
    const short = rotaryTables(longrope, 8)
    const long = rotaryTables(longrope, 9)
    expect(short.cos[4]).toBeCloseTo(Math.cos(1), 6)
    expect(long.cos[4]).toBeCloseTo(Math.cos(1 / 2), 6)
    expect(rotaryTables(longrope, 3)).toBe(short)
    expect(rotaryTables(longrope, 9)).toBe(long)

    const dynamic: RotaryDescription = {
      dims: 4,
      theta: 100,
      scaling: { kind: 'dynamic', factor: 2, originalMaxPositions: 8 },
    }
    const within = rotaryTables(dynamic, 8)
    expect(rotaryTables(dynamic, 4)).toBe(within)
    const beyond = rotaryTables(dynamic, 16)
    expect(beyond.cos[5]).toBeCloseTo(Math.cos((100 * 3 ** 2) ** -0.5), 6)
    expect(rotaryTables(dynamic, 16)).toBe(beyond)
    expect(rotaryTables(dynamic, 8).cos[5]).toBeCloseTo(Math.cos(100 ** -0.5), 6)
  })
})
