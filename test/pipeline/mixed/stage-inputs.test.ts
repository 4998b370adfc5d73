import { beforeAll, describe, expect, it } from 'vitest'
import { disposeBlock, openBlock } from '../../../src/model/decoder/block.js'
import { isExpert } from '../../../src/model/decoder/linears.js'
import { blockStages } from '../../../src/model/decoder/stages.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import { calibrationStream, passStage } from '../../../src/pipeline/calibrate/calibration-stream.js'
import { collectStatistics } from '../../../src/pipeline/calibrate/statistics/input-statistics.js'
import { hessianGroups } from '../../../src/pipeline/calibrate/statistics/token-weights.js'
import { stageInputs } from '../../../src/pipeline/mixed/stage-inputs.js'
import { fixtureOfEachFamily, openFixture } from '../../model/families/fixture.js'
import { expectClose } from '../../support/tolerance.js'

const LENGTH = 20

beforeAll(async () => {
  await startEngine('wasm')
})

describe('what trials are made for', () => {
  it.each(fixtureOfEachFamily)('in %s is what its layers are calibrated on', async (name) => {
    const { config, source, hidden } = await openFixture(name)
    const index = config.blocks.length - 1
    const description = config.blocks[index]
    const block = await openBlock(source, description)
    const seen = { length: LENGTH, weighting: 'attention' } as const
    const { inputs } = await stageInputs(block, config, hidden[index], seen, async () => {})
    const stream = calibrationStream(config, hidden[index].slice(), LENGTH)
    const compared: string[] = []
    for (const stage of blockStages(description)) {
      if (stage.linears.length > 0 && !isExpert(description, stage.linears[0])) {
        const statistics = await collectStatistics(stage, { block, stream }, { tokenWeights: 'attention' })
        for (const { linears } of hessianGroups(stage, 'attention')) {
          const [{ kind }] = linears
          expectClose(inputs.get(kind)!.hessian().data, statistics.get(kind)!.hessian.data, 1e-4)
          compared.push(kind)
        }
      }
      await passStage(block, stage, stream)
    }
    disposeBlock(block)
    expect(compared.length).toBeGreaterThan(1)
  })
})
