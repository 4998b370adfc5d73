/** What the page and its worker say to each other: plain data only. */

/** The model in full precision, or its compressed form. */
export type Slot = 'plain' | 'quantized'

/** From the page. */
export type ToWorker =
  /** Picked files of a model folder, null for the model that comes with the page. */
  | { readonly kind: 'open'; readonly files: readonly File[] | null }
  | {
      readonly kind: 'quantize'
      readonly bits: number
      readonly codebooks: 'trellis' | 'plain'
      /** Of the pictures, in pixels. */
      readonly width: number
    }
  | { readonly kind: 'write'; readonly prompt: string; readonly temperature: number }
  | { readonly kind: 'stop' }

/** From the worker. */
export type ToPage =
  | { readonly kind: 'ready'; readonly threads: number }
  | {
      readonly kind: 'opened'
      readonly slot: Slot
      readonly name: string
      readonly architecture: string
      readonly weights: number
      readonly bytes: number
      readonly bitsPerValue: number
      /** Whether both slots hold models of one shape and vocabulary. */
      readonly comparable: boolean
    }
  | { readonly kind: 'progress'; readonly step: string; readonly done: number }
  | {
      readonly kind: 'layer'
      readonly name: string
      readonly number: number
      readonly of: number
      readonly bitsPerValue: number
      readonly relativeError: number | null
      /** SVG. */
      readonly picture: string
      readonly bars: string
    }
  | {
      readonly kind: 'quantized'
      readonly bytes: number
      readonly bytesBefore: number
      readonly bitsPerValue: number
      readonly seconds: number
    }
  | {
      readonly kind: 'scored'
      readonly perplexity: number
      readonly perplexityBefore: number
      readonly divergence: number
      readonly agreement: number
    }
  | {
      readonly kind: 'text'
      readonly slot: Slot
      readonly text: string
      readonly tokens: number
      readonly seconds: number
    }
  /** The work that was asked for is over. */
  | { readonly kind: 'done'; readonly work: ToWorker['kind'] }
  | { readonly kind: 'failed'; readonly work: ToWorker['kind']; readonly message: string }
