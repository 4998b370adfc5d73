import type { Coordinator } from '../../distributed/coordinator.js'
import { loadedWeight } from '../../model/decoder/block.js'
import type { Stage } from '../../model/decoder/block-state.js'
import { blockStages } from '../../model/decoder/stages.js'
import type { TokenBatch } from './calibration-stream.js'
import { type ChunkResult, type ChunkWork, stateBehind } from './chunk-work.js'
import { type Chunk, chunksOf } from './chunks.js'
import { type StageRunner, type StageStep, stepHere } from './stage-runner.js'
import { namingLayers, stageTotals } from './statistics/input-statistics.js'
import type { StageStatistics } from './statistics/stage-sums.js'
import { neededFor } from './statistics/token-weights.js'
import type { StoredState } from './stored-state.js'

/** What is used of a coordinator. */
export type ChunkCoordinator = Pick<Coordinator, 'run' | 'workers' | 'capacity'>

/**
 * Has the workers of a coordinator take chunks of the tokens through a block, and adds up what they send, chunk by chunk
 * in their order. A single chunk stays here, and so do routers and experts, which read a part of the tokens each.
 */
export function chunkTeam(coordinator: ChunkCoordinator): StageRunner {
  return async (step) => {
    const { stream, passing, collecting } = step
    const chunks = chunksOf(stream.batches.length)
    const stages = [passing, collecting].filter((stage) => stage !== undefined)
    const isShared = stages.every(({ linears, expert }) => linears.length > 0 && expert === undefined)
    if (chunks.length === 1 || stages.length === 0 || !isShared) return stepHere(step)
    return stepAway(step, chunks, coordinator)
  }
}

async function stepAway(
  step: StageStep,
  chunks: readonly Chunk[],
  coordinator: ChunkCoordinator,
): Promise<StageStatistics | undefined> {
  const { block, stream, collecting, tokenWeights, onBatch, signal } = step
  const failed = new AbortController()
  const own = { ...step, signal: signal ? AbortSignal.any([signal, failed.signal]) : failed.signal }
  const weights = weightsOf(step)
  const total = collecting && stageTotals(collecting, tokenWeights)
  const under: Promise<ChunkResult>[] = []
  const states: StoredStates[] = []
  let atOnce = 1
  let turn = 0
  try {
    for (const [index, chunk] of chunks.entries()) {
      while (states.length < Math.min(chunks.length, index + atOnce)) {
        const next = chunks[states.length]
        const read = await readStates(step, next)
        const work = workOf(own, weights, next, read)
        const place = states.length
        // results wait where they are until their turn: memory holds one
        const watch = { signal: own.signal, isDue: () => turn === place }
        const result = coordinator.run('chunk', work, watch) as Promise<ChunkResult>
        // what fails while another is waited for is looked at in its turn
        result.catch(() => {})
        under.push(result)
        states.push(read)
        atOnce = mostAtOnce(coordinator, weights, read)
      }
      const { moved, sums } = await under[index]
      turn++
      for (const [i, behind] of (moved ?? []).entries()) {
        const { present, full } = states[index][i]
        await stream.batches[chunk.first + i].write(stateBehind(present, behind.present))
        if (full) await step.full!.stream.batches[chunk.first + i].write(stateBehind(full, behind.full!))
      }
      states[index] = []
      if (sums) total?.add(sums)
      onBatch?.(index + 1, chunks.length)
    }
  } catch (error) {
    failed.abort()
    throw error
  }
  if (total === undefined) return undefined
  return namingLayers(block, collecting!, async () => total.statistics())
}

/** The tokens of a chunk, batch by batch. */
type StoredStates = readonly { readonly present: StoredState; readonly full?: StoredState }[]

async function readStates({ stream, full }: StageStep, { first, last }: Chunk): Promise<StoredStates> {
  const states: { present: StoredState; full?: StoredState }[] = []
  for (let i = first; i < last; i++) {
    const present = await stream.batches[i].read()
    states.push({ present, ...(full && { full: await full.stream.batches[i].read() }) })
  }
  return states
}

/** Chunks that are out at a time: one for each worker and one that waits, as far as there is room for their tokens. */
function mostAtOnce(
  { workers, capacity }: ChunkCoordinator,
  { tensors }: Weights,
  states: StoredStates,
): number {
  const ofWeights = Object.values(tensors).reduce((sum, { byteLength }) => sum + byteLength, 0)
  const room = Math.floor((capacity - ofWeights) / bytesOf(states))
  return Math.max(1, Math.min(workers() + 1, room))
}

function bytesOf(states: StoredStates): number {
  const ofState = ({ routes, ...fields }: StoredState = {}) =>
    [routes?.weights, ...Object.values(fields)].reduce(
      (sum, values) => sum + (values?.data.byteLength ?? 0),
      0,
    )
  return states.reduce((sum, { present, full }) => sum + ofState(present) + ofState(full), 0)
}

type Weights = Pick<ChunkWork, 'tensors' | 'layers'>

/** The weights that a step takes: those that its tokens pass, and those that the inputs of its layers are made by. */
function weightsOf({ block, layers, full, passing, collecting, tokenWeights }: StageStep): Weights {
  const before = collecting ? neededFor(collecting, tokenWeights) : []
  const tensors: Record<string, Float32Array> = {}
  const own: Weights['layers'] = {}
  for (const { kind, module } of new Set([...(passing?.uses ?? []), ...before])) {
    const name = `${module}.weight`
    const layer = layers.get(name)
    if (layer) Object.assign(own, { [name]: layer })
    const plain = layer ? full?.block : block
    const weight = plain && loadedWeight(plain, kind)
    if (weight) tensors[name] = weight
    const bias = block.linears.get(kind)?.bias
    if (bias) tensors[`${module}.bias`] = bias
  }
  return { tensors, layers: own }
}

function workOf(
  { block, stream, passing, collecting, tokenWeights }: StageStep,
  weights: Weights,
  { first, last, half }: Chunk,
  states: StoredStates,
): ChunkWork {
  const { description, norms } = block
  const stages = blockStages(description)
  const at = (stage: Stage | undefined) => (stage === undefined ? undefined : stages.indexOf(stage))
  const before = sequencesOf(stream.batches.slice(0, first))
  const batches = stream.batches.slice(first, last)
  const end = before + sequencesOf(batches)
  return {
    name: `${description.prefix}${nameOf(passing, collecting)}, sequences ${before + 1} to ${end}`,
    description,
    norms,
    ...weights,
    length: stream.length,
    batches: batches.map(({ sequences }, i) => ({ sequences, ...states[i] })),
    firstSequence: before,
    half,
    passing: at(passing),
    collecting: at(collecting),
    tokenWeights,
  }
}

function sequencesOf(batches: readonly TokenBatch[]): number {
  return batches.reduce((sum, { sequences }) => sum + sequences, 0)
}

/** The layers whose inputs are summed, or those that the tokens only pass; for people. */
function nameOf(passing: Stage | undefined, collecting: Stage | undefined): string {
  const kinds = (collecting ?? passing!).linears.map(({ kind }) => kind).join(', ')
  return collecting ? `${kinds}: inputs` : `${kinds}: outputs`
}
