import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { decodeType, ggufType, ggufTypes } from '../../src/gguf/blocks/tensor-types.js'

const golden: { blocks: { type: string; bytes: string; float32: string }[] } = JSON.parse(
  readFileSync(new URL('blocks-golden.json', import.meta.url), 'utf8'),
)

describe('blocks of random bytes', () => {
  for (const { type: name, bytes, float32 } of golden.blocks) {
    it(`${name} decodes to the bits that the gguf package of Python reads`, () => {
      const wanted = Buffer.from(float32, 'base64')
      const values = decodeType(
        ggufType(name),
        Buffer.from(bytes, 'base64'),
        new Float32Array(wanted.length / 4),
      )
      expect(Buffer.from(values.buffer).equals(wanted)).toBe(true)
    })
  }

  it('cover every type but those that are copied as they are', () => {
    const covered = new Set(golden.blocks.map(({ type }) => type))
    expect(ggufTypes.map(({ name }) => name).filter((name) => !covered.has(name))).toEqual(['F32', 'F64'])
  })
})

it('bytes that are no whole number of blocks are refused', () => {
  expect(() => decodeType(ggufType('Q8_0'), new Uint8Array(33), new Float32Array(32))).toThrow(
    '32 values of Q8_0 need 34 bytes, got 33',
  )
})
