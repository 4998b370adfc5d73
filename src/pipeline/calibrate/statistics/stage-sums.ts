import { ShapeError } from '../../../common/errors.js'
import type { Pause } from '../../../common/event-loop.js'
import { type Matrix, matrix } from '../../../common/matrix.js'
import type { DriftHalves, LayerDrift } from '../../../gptvq/drift-correction.js'
import { type DriftAccumulator, driftAccumulator } from '../../../hessian/drift.js'
import { HessianAccumulator } from '../../../hessian/hessian.js'
import type { Run } from '../chunks.js'

/** What the calibration tokens say about the inputs of a group of linear layers. */
export interface InputStatistics {
  /** in x in, `(2 / tokens) X^T X`. */
  readonly hessian: Matrix
  /** Tokens that the layers saw. */
  readonly tokens: number
  /** Share of the Hessian that comes from tokens of other experts; undefined for layers that see all tokens. */
  readonly pooled?: number
  /** How the layers' surroundings differ from those in the full model, where that was asked for. */
  readonly drift?: DriftHalves
}

/** What the layers of a stage read, by their kinds; those that share a Hessian share what is said of it. */
export type StageStatistics = ReadonlyMap<string, InputStatistics>

/** The same for each of some layers. */
export function sharedBy(
  layers: readonly { readonly kind: string }[],
  statistics: InputStatistics,
): StageStatistics {
  return new Map(layers.map(({ kind }) => [kind, statistics]))
}

/** What the tokens of a chunk say about the inputs of a stage's layers; plain data. */
export interface StageSums {
  readonly inFeatures: number
  readonly tokens: number
  /** The upper triangle of `X^T X`, as `HessianAccumulator` gives it. */
  readonly gram: Float32Array
  /** Of each half of the tokens that the chunk has a part of; none where no drift is asked for. */
  readonly drifts: readonly DriftSums[]
}

/** How far activations of a half of the tokens are from those in the full model. */
interface DriftSums {
  readonly half: 0 | 1
  readonly tokens: number
  /** in x in, `(X_full - X)^T X`. */
  readonly input: Matrix
  /** hidden x in, `(R_full - R)^T X`, where the layers' outputs meet the residual stream `R`. */
  readonly residual?: Matrix
}

/** What the layers of a stage see of some tokens. */
export interface SeenTokens {
  /** tokens x in. */
  readonly input: Matrix
  /** tokens x hidden; undefined where outputs do not meet it. */
  readonly residual: Matrix | undefined
}

interface Drift {
  readonly input: DriftAccumulator
  readonly residual: DriftAccumulator | undefined
}

/** Sums what a chunk shows. */
export interface StageSummer {
  /** Adds a batch. @param full the same tokens in the full model, where drift is asked for */
  see(present: SeenTokens, full: SeenTokens | undefined, runs: readonly Run[], pause: Pause): Promise<void>
  /** All that was seen. */
  sums(): StageSums
}

export function stageSummer(): StageSummer {
  let hessian: HessianAccumulator | undefined
  const drifts: [Drift?, Drift?] = []
  return {
    async see(present, full, runs, pause) {
      const { input } = present
      hessian ??= new HessianAccumulator(input.cols)
      hessian.add(input)
      for (const { from, to, half } of full ? runs : []) {
        await pause()
        const cut = ({ cols, data }: Matrix) => matrix(to - from, cols, data.subarray(from * cols, to * cols))
        const drift = drifts[half] ?? openDrift(input.cols, present.residual?.cols)
        drifts[half] = drift
        const inputs = cut(input)
        drift.input.add(cut(full!.input), inputs, inputs)
        if (drift.residual) drift.residual.add(cut(full!.residual!), cut(present.residual!), inputs)
      }
    },
    sums() {
      if (hessian === undefined) throw new ShapeError('a chunk without tokens has no sums')
      const { inFeatures, tokens } = hessian
      const own = drifts.flatMap((drift, half) => {
        if (drift === undefined) return []
        const { input, residual } = drift
        const sums = { half: half as 0 | 1, tokens: input.tokens, input: input.sum }
        return [{ ...sums, ...(residual && { residual: residual.sum }) }]
      })
      return { inFeatures, tokens, gram: hessian.upperSum(), drifts: own }
    },
  }
}

/** Adds the sums of chunks, which are to come in their order. */
export interface StageTotal {
  add(sums: StageSums): void
  /** @param residualScale what the layers' outputs are multiplied by before they meet the residual stream */
  statistics(residualScale: number): InputStatistics
}

export function stageTotal(): StageTotal {
  let hessian: HessianAccumulator | undefined
  const drifts: [Drift?, Drift?] = []
  return {
    add({ inFeatures, tokens, gram, drifts: others }) {
      hessian ??= new HessianAccumulator(inFeatures)
      hessian.addUpperSum(gram, tokens)
      for (const { half, tokens, input, residual } of others) {
        const drift = drifts[half] ?? openDrift(inFeatures, residual?.rows)
        drifts[half] = drift
        drift.input.addSum(input, tokens)
        if (residual) drift.residual?.addSum(residual, tokens)
      }
    },
    statistics(residualScale) {
      if (hessian === undefined) throw new ShapeError('no chunk was added, so there are no statistics')
      const seen = { hessian: hessian.hessian(), tokens: hessian.tokens }
      const [first, second] = drifts
      if (first === undefined || second === undefined) return seen
      return { ...seen, drift: [driftOf(first, residualScale), driftOf(second, residualScale)] }
    },
  }
}

function openDrift(inFeatures: number, hidden: number | undefined): Drift {
  return {
    input: driftAccumulator(inFeatures, inFeatures),
    residual: hidden === undefined ? undefined : driftAccumulator(hidden, inFeatures),
  }
}

function driftOf({ input, residual }: Drift, residualScale: number): LayerDrift {
  return {
    tokens: input.tokens,
    input: input.drift(),
    ...(residual && { residual: divided(residual.drift(), residualScale) }),
  }
}

function divided({ rows, cols, data }: Matrix, divisor: number): Matrix {
  return matrix(rows, cols, divisor === 1 ? data : data.map((value) => value / divisor))
}
