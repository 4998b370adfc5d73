import { OptionError } from '../../common/errors.js'
import type { BitsPerValue } from '../../packing/bits-per-value.js'
import { requireFigure, requireSome } from '../check.js'
import type { CodebookGroup } from '../codebooks/codebook-group.js'
import type { IndexUsage } from '../codebooks/index-usage.js'
import type { ConvergenceOptions, Curve } from '../convergence-plot.js'
import type { RateDistortionOptions, RatePoint } from '../rate-distortion.js'
import type { ExpertTokens } from './expert-tokens.js'

/** What a report says of one quantized layer. */
export interface ReportLayer {
  /** The weight's name less `.weight`. */
  readonly name: string
  /** Outputs. */
  readonly rows: number
  /** Inputs. */
  readonly cols: number
  /** How it is stored, e.g. `'vq 2-D, 2 bits'`. */
  readonly format: string
  /** Bytes stored now. */
  readonly bytes: number
  /** Bytes of the weight before. */
  readonly bytesBefore: number
  /** `L / tr(W H W^T)` on the calibration activations, null where it was not measured. */
  readonly relativeError: number | null
  /** How far its weights were moved to make up for drift, as a share of their norm. */
  readonly driftMove?: number
  /** What the bits are spent on. */
  readonly bitsPerValue?: BitsPerValue
  /** How evenly its centroids are used (vector-quantized layers). */
  readonly usage?: IndexUsage
  /** Time that quantizing it took. */
  readonly seconds?: number
}

/** One codebook that a report shows. */
export interface ReportCodebook extends CodebookGroup {
  /** Name of its layer, one of `layers`. */
  readonly layer: string
  /** Number of the group in its layer. */
  readonly group: number
}

/** Everything {@link reportHtml} tells of a quantized checkpoint. What is left out is not mentioned. */
export interface ReportData {
  /** The quantized folder, or the name to show for it. */
  readonly model: string
  /** E.g. `'LlamaForCausalLM'`. */
  readonly architecture?: string
  /** `'gptvq'`, `'gptq'` or `'rtn'`. */
  readonly method: string
  /** The options the folder was made with, defaults included. */
  readonly settings: Readonly<Record<string, unknown>>
  /** The quantized layers in the order of the model. */
  readonly layers: readonly ReportLayer[]
  /** Tensors that were not quantized. */
  readonly kept: {
    /** How many there are. */
    readonly tensors: number
    /** Bytes of them all. */
    readonly bytes: number
  }
  /** Codebooks to show; a few. */
  readonly codebooks?: readonly ReportCodebook[]
  /** The model that was quantized, where known; it stands in the command to reproduce. */
  readonly source?: string
  /** What it was made of, and by what, as its `config.json` has it. */
  readonly made?: Readonly<Record<string, unknown>>
  /** The text that the Hessians were summed over. */
  readonly calibration?: {
    /** The text file, where known. */
    readonly file?: string
    /** Sequences used. */
    readonly sequences: number
    /** Tokens in each. */
    readonly length: number
    /** What else is to be said of it, e.g. that the text was short. */
    readonly notes: readonly string[]
  }
  /** How the tokens of that text fell on experts. */
  readonly experts?: ExpertTokens
  /** Time that quantizing took, in seconds. */
  readonly seconds?: {
    /** Gathering text and running it through the model. */
    readonly calibration: number
    /** Quantizing the layers. */
    readonly quantization: number
    /** All of it. */
    readonly total: number
  }
  /** Measurements of the whole model, e.g. `{ name: 'perplexity', value: 69.6 }`. */
  readonly scores?: readonly {
    /** What was measured, with its unit. */
    readonly name: string
    /** How much it is. */
    readonly value: number
  }[]
  /** Losses to draw, each entry a picture. */
  readonly convergence?: readonly (Omit<ConvergenceOptions, 'width'> & {
    /** The lines of one picture. */
    readonly curves: readonly Curve[]
  })[]
  /** This checkpoint among others. */
  readonly comparison?: Omit<RateDistortionOptions, 'width'> & {
    /** One per checkpoint, this one included. */
    readonly points: readonly RatePoint[]
  }
  /** Replaces the command that is put together from method and settings. */
  readonly command?: string
  /** The version of this package. */
  readonly version?: string
}

/** Checks what the report computes with. @throws OptionError naming the layer and what is wrong with it */
export function checkReportData({ layers, kept, scores = [] }: ReportData): void {
  requireSome('layers', layers, 'quantized layer')
  const names = new Set<string>()
  for (const { name, rows, cols, bytes, bytesBefore, relativeError, driftMove = 0 } of layers) {
    if (names.has(name)) throw new OptionError('layers', `${name} comes twice; expected each layer once`)
    names.add(name)
    requireFigure('layers', rows, `rows of ${name}`, 1)
    requireFigure('layers', cols, `cols of ${name}`, 1)
    requireFigure('layers', bytes, `bytes of ${name}`, 0)
    requireFigure('layers', bytesBefore, `bytesBefore of ${name}`, 0)
    if (relativeError !== null) requireFigure('layers', relativeError, `relativeError of ${name}`, 0)
    requireFigure('layers', driftMove, `driftMove of ${name}`, 0)
  }
  requireFigure('kept', kept.tensors, 'tensors', 0)
  requireFigure('kept', kept.bytes, 'bytes', 0)
  for (const { name, value } of scores) requireFigure('scores', value, name)
}
