import { describe, expect, it } from 'vitest'
import { parseQuantizationConfig } from '../../src/checkpoint/quantized/quantized-config.js'
import { CheckpointError } from '../../src/common/errors.js'
import { thrownBy } from '../support/tolerance.js'

const record = { format: 'scalar', shape: [4, 8], dtype: 'F32', bits: 2, relative_error: 0.1, group_size: 8 }

const parse = (fields: object) =>
  parseQuantizationConfig(
    {
      quantization_config: {
        quant_method: 'gptvq',
        version: 1,
        method: 'gptvq',
        modules: { a: { ...record, ...fields } },
      },
    },
    'config.json',
  )!.modules.a

describe('the record of a quantized layer', () => {
  it('has how far the layer was moved where it was, and nothing of it where it was not', () => {
    expect(parse({ drift_move: 0.25 })).toEqual({ ...record, drift_move: 0.25 })
    expect(parse({})).toEqual(record)
  })

  it('is refused when that is no number', () => {
    const error = thrownBy(() => parse({ drift_move: 'far' }))
    expect(error).toBeInstanceOf(CheckpointError)
    expect((error as Error).message).toMatch(/config\.json: a: drift_move is .*expected a number/)
  })
})
