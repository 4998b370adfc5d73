import type { Matrix } from '../../common/matrix.js'
import { type Block, type BlockNorms, disposeBlock, forkBlock } from '../../model/decoder/block.js'
import type { BlockDescription } from '../../model/decoder/description.js'
import { blockLinears } from '../../model/decoder/linears.js'
import { blockStages } from '../../model/decoder/stages.js'
import type { WeightSource } from '../../model/decoder/weights.js'
import { startEngine } from '../../model/ops/engine.js'
import type { QuantizedLayer } from '../../packing/quantized-layer.js'
import { withQuantizedLayers } from '../folders/open-model.js'
import { batchInMemory, type CalibrationStream, passStageInBoth } from './calibration-stream.js'
import { sumChunks } from './statistics/input-statistics.js'
import type { StageSums } from './statistics/stage-sums.js'
import type { TokenWeighting } from './statistics/token-weights.js'
import type { StoredState } from './stored-state.js'

/** A step of a chunk of the calibration tokens through a block, see `StageStep`; plain data. */
export interface ChunkWork {
  /** For people. */
  readonly name: string
  readonly description: BlockDescription
  readonly norms: BlockNorms
  /** Weights and biases of the layers that the step needs, by name; those that are quantized are among `layers`. */
  readonly tensors: Readonly<Record<string, Float32Array>>
  readonly layers: Readonly<Record<string, QuantizedLayer>>
  /** Tokens of a sequence. */
  readonly length: number
  readonly batches: readonly ChunkBatch[]
  /** The chunk's first sequence, counted over all tokens. */
  readonly firstSequence: number
  /** As a `Chunk` has it. */
  readonly half?: 0 | 1 | undefined
  /** Of the block's stages; undefined: none. */
  readonly passing?: number | undefined
  readonly collecting?: number | undefined
  readonly tokenWeights: TokenWeighting
}

/** Whole sequences in the quantized model and, where drift is asked for, in the full one. */
interface ChunkBatch {
  readonly sequences: number
  readonly present: StoredState
  readonly full?: StoredState | undefined
}

/** What became of a chunk. */
export interface ChunkResult {
  /** Of each batch; undefined where no stage was passed. */
  readonly moved?: readonly { readonly present: MovedState; readonly full?: MovedState }[]
  /** Of each group of the layers. */
  readonly sums?: readonly StageSums[]
}

/** A state behind a stage: what did not change is not sent back. */
export interface MovedState {
  readonly unchanged: readonly string[]
  readonly changed: StoredState
}

export interface ChunkWatch {
  readonly onProgress?: (done: number) => void
  readonly signal?: AbortSignal | undefined
}

/** Share of the work after which the stage is passed; for progress only. */
const PASSED_SHARE = 0.5

/** Does the work in this process, on the engine `wasm`. */
export async function chunkHere(
  work: ChunkWork,
  { onProgress = () => {}, signal }: ChunkWatch,
): Promise<ChunkResult> {
  await startEngine('wasm')
  const { description, batches, firstSequence, half } = work
  const stages = blockStages(description)
  const original = blockOf(work)
  const block = forkBlock(
    original,
    withQuantizedLayers(original.source, new Map(Object.entries(work.layers))),
  )
  const stream = streamOf(
    work,
    batches.map(({ present }) => present),
  )
  const full = batches[0].full && {
    block: original,
    stream: streamOf(
      work,
      batches.map(({ full }) => full!),
    ),
  }
  try {
    const present = { block, stream }
    if (work.passing !== undefined) await passStageInBoth(stages[work.passing], present, full, signal)
    const start = work.passing === undefined ? 0 : PASSED_SHARE
    onProgress(start)
    let sums: readonly StageSums[] | undefined
    if (work.collecting !== undefined) {
      const chunks = [{ first: 0, last: batches.length, half }]
      const onBatch = (done: number, total: number) => onProgress(start + ((1 - start) * done) / total)
      const { tokenWeights } = work
      const options = { full, tokenWeights, chunks, firstSequence, signal, onBatch }
      await sumChunks(stages[work.collecting], present, options, (own) => {
        sums = own
      })
    }
    const moved = work.passing === undefined ? undefined : await movedBatches(work, stream, full?.stream)
    return { ...(moved && { moved }), ...(sums && { sums }) }
  } finally {
    disposeBlock(block)
    disposeBlock(original)
  }
}

function blockOf({ description, norms, tensors }: ChunkWork): Block {
  const shapes = new Map<string, readonly number[]>()
  for (const { module, rows, cols } of blockLinears(description)) {
    shapes.set(`${module}.weight`, [rows, cols])
    shapes.set(`${module}.bias`, [rows])
  }
  const source: WeightSource = {
    shape: (name) => shapes.get(name),
    floats: async (name) => tensors[name],
    async rows(name, first, count) {
      const cols = shapes.get(name)![1]
      return tensors[name].subarray(first * cols, (first + count) * cols)
    },
  }
  return { description, source, norms, linears: new Map() }
}

function streamOf({ length, batches }: ChunkWork, states: readonly StoredState[]): CalibrationStream {
  return { length, batches: batches.map(({ sequences }, i) => batchInMemory(sequences, states[i])) }
}

function movedBatches(work: ChunkWork, stream: CalibrationStream, full: CalibrationStream | undefined) {
  return Promise.all(
    work.batches.map(async (before, i) => ({
      present: movedState(before.present, await stream.batches[i].read()),
      ...(full && { full: movedState(before.full!, await full.batches[i].read()) }),
    })),
  )
}

/** Inputs of down projections stay behind: they are large, and computing them once more is less than sending them. */
function movedState(before: StoredState, { gated: _, ...after }: StoredState): MovedState {
  const fields = Object.entries(after).filter(([, value]) => value !== undefined)
  const isSame = ([field, value]: [string, unknown]) => {
    const old = before[field as keyof StoredState]
    if (field !== 'routes') return old === value
    return before.routes?.weights === (value as { weights: Matrix }).weights
  }
  return {
    unchanged: fields.filter(isSame).map(([field]) => field),
    changed: Object.fromEntries(fields.filter((entry) => !isSame(entry))),
  }
}

/** The state behind the stage. @param before the one in front of it */
export function stateBehind(before: StoredState, { unchanged, changed }: MovedState): StoredState {
  const kept = Object.entries(before).filter(([field]) => unchanged.includes(field))
  return { ...Object.fromEntries(kept), ...changed }
}
