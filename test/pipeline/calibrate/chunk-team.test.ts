import { beforeAll, describe, expect, it } from 'vitest'
import { quantizeRtn } from '../../../src/baselines/rtn.js'
import { NumericError } from '../../../src/common/errors.js'
import { matrix } from '../../../src/common/matrix.js'
import { randomGenerator } from '../../../src/common/random.js'
import { fromJson, toJson } from '../../../src/distributed/arrays-in-json.js'
import { disposeBlock, forkBlock, openBlock, reloadLinear } from '../../../src/model/decoder/block.js'
import { blockLinears, isExpert } from '../../../src/model/decoder/linears.js'
import { blockStages } from '../../../src/model/decoder/stages.js'
import { startEngine } from '../../../src/model/ops/engine.js'
import type { QuantizedLayer } from '../../../src/packing/quantized-layer.js'
import { batchInMemory, type CalibrationStream } from '../../../src/pipeline/calibrate/calibration-stream.js'
import { type ChunkCoordinator, chunkTeam } from '../../../src/pipeline/calibrate/chunk-team.js'
import { type ChunkWork, chunkHere } from '../../../src/pipeline/calibrate/chunk-work.js'
import { type StageRunner, stepHere } from '../../../src/pipeline/calibrate/stage-runner.js'
import type { StageStatistics } from '../../../src/pipeline/calibrate/statistics/stage-sums.js'
import { withQuantizedLayers } from '../../../src/pipeline/folders/open-model.js'
import { type Fixture, fixtureOfEachFamily, openFixture } from '../../model/families/fixture.js'
import { rejectionOf } from '../../support/tolerance.js'

beforeAll(async () => {
  await startEngine('wasm')
})

const LENGTH = 20
const BATCHES = 9

/** Workers whose results come in any order, each only when it is due; all that is sent goes through JSON. */
function workersOf(count: number, capacity: number) {
  const random = randomGenerator(1)
  const seen = { names: [] as string[], most: 0 }
  let under = 0
  const through = async (value: unknown) => {
    const kept: Uint8Array[] = []
    const json = await toJson(value, async (bytes) => String(kept.push(bytes.slice()) - 1))
    return fromJson(json, async (name) => kept[Number(name)])
  }
  const coordinator: ChunkCoordinator = {
    workers: () => count,
    capacity,
    async run(_, input, { isDue = () => true, signal }) {
      seen.most = Math.max(seen.most, ++under)
      seen.names.push((input as ChunkWork).name)
      const work = (await through(input)) as ChunkWork
      await new Promise((resolve) => setTimeout(resolve, 10 * random()))
      const result = await chunkHere(work, { signal })
      while (!isDue()) await new Promise((resolve) => setTimeout(resolve, 1))
      under--
      return through(result)
    },
  }
  return { coordinator, seen }
}

/** Sequences of a fixture in front of one of its blocks, a batch each and each a little larger than the one before. */
function streamOf({ hidden, config }: Fixture, index: number, count: number): CalibrationStream {
  const size = LENGTH * config.hiddenSize
  const batches = Array.from({ length: count }, (_, i) => {
    const values = hidden[index].slice((i % 2) * size, ((i % 2) + 1) * size).map((v) => v * (1 + 0.01 * i))
    return batchInMemory(1, { residual: matrix(LENGTH, config.hiddenSize, values) })
  })
  return { length: LENGTH, batches }
}

/** A block through all its stages, its layers rounded one after the other: what was read, and what comes out. */
async function calibrated(fixture: Fixture, index: number, run: StageRunner, count = BATCHES) {
  const { source, config } = fixture
  const layers = new Map<string, QuantizedLayer>()
  const original = await openBlock(source, config.blocks[index])
  const block = forkBlock(original, withQuantizedLayers(source, layers))
  const stream = streamOf(fixture, index, count)
  const full = { block: original, stream: streamOf(fixture, index, count) }
  const statistics: (StageStatistics | undefined)[] = []
  const step = { block, layers, stream, full, tokenWeights: 'attention', signal: undefined } as const
  try {
    let passing: ReturnType<typeof blockStages>[number] | undefined
    for (const stage of blockStages(block.description)) {
      const collecting = stage.linears.length > 0 ? stage : undefined
      statistics.push(await run({ ...step, passing, collecting }))
      for (const { kind, module, rows, cols } of stage.linears) {
        if (isExpert(block.description, { kind } as never)) continue
        const weight = matrix(rows, cols, await source.floats(`${module}.weight`))
        layers.set(`${module}.weight`, quantizeRtn(weight, { bits: 3 }))
        await reloadLinear(block, kind)
      }
      passing = stage
    }
    await run({ ...step, passing, collecting: undefined })
  } finally {
    disposeBlock(block)
    disposeBlock(original)
  }
  const states = [stream, full.stream].map(({ batches }) => Promise.all(batches.map((batch) => batch.read())))
  return { statistics, states: await Promise.all(states) }
}

describe('chunks over workers', () => {
  it.each(fixtureOfEachFamily)('of %s: the sums and tokens of one machine', async (name) => {
    const fixture = await openFixture(name)
    const { coordinator, seen } = workersOf(3, Number.POSITIVE_INFINITY)
    const index = fixture.config.blocks.length - 1
    const [here, away] = [
      await calibrated(fixture, index, stepHere),
      await calibrated(fixture, index, chunkTeam(coordinator)),
    ]
    expect(away.statistics).toEqual(here.statistics)
    expect(away.states).toEqual(here.states)
    const description = fixture.config.blocks[index]
    const kinds = blockLinears(description).filter((linear) => !isExpert(description, linear))
    expect(seen.names.length).toBeGreaterThan(0)
    expect(seen.names.join()).toContain(kinds[0].kind)
    // one for each worker, and one that waits
    expect(seen.most).toBe(4)
  })

  it('of which the last is a single sequence: the sums of one machine', async () => {
    const fixture = await openFixture('llama-bias')
    const { coordinator, seen } = workersOf(1, Number.POSITIVE_INFINITY)
    const [here, away] = [
      await calibrated(fixture, 0, stepHere, 3),
      await calibrated(fixture, 0, chunkTeam(coordinator), 3),
    ]
    expect(away).toEqual(here)
    expect(seen.names.join()).toContain('sequences 3 to 3')
  })

  it('are out one at a time where there is no room for two', async () => {
    const { coordinator, seen } = workersOf(3, 1000)
    await calibrated(await openFixture('llama-bias'), 0, chunkTeam(coordinator))
    expect(seen.most).toBe(1)
  })

  it('that cannot be done are the error of one machine', async () => {
    const fixture = await openFixture('llama-bias')
    const broken = { ...fixture, hidden: fixture.hidden.map((values) => values.map(() => Number.NaN)) }
    const { coordinator } = workersOf(2, Number.POSITIVE_INFINITY)
    const errors = [stepHere, chunkTeam(coordinator)].map((run) =>
      rejectionOf(() => calibrated(broken, 0, run)),
    )
    const [here, away] = (await Promise.all(errors)) as Error[]
    expect(here).toBeInstanceOf(NumericError)
    expect(away).toEqual(here)
  })
})
