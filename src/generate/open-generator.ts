import { fetchOptionsOf, type ModelPlace, requireModel } from '../checkpoint/model-source.js'
import { type OptionNames, refuseUnknown, requireOneOf, requireWhole } from '../common/check-option.js'
import { OptionError } from '../common/errors.js'
import { shownValue } from '../common/shown-value.js'
import { setThreads } from '../kernels/kernels.js'
import { type PackedActivations, packedActivations } from '../kernels/packed-contract.js'
import type { DecoderDescription } from '../model/decoder/description.js'
import { type EngineName, startEngine } from '../model/ops/engine.js'
import { setPackedActivations } from '../model/ops/kernels/kernel-weights.js'
import { type CachePrecision, cachePrecisions } from '../model/ops/ops.js'
import { cacheBytes, type Decoder, disposeDecoder } from '../model/passes/cached-decoder.js'
import { checkVocabulary, loadTokenizer, type Tokenizer } from '../model/tokenizer.js'
import type { QuantizedLayer } from '../packing/quantized-layer.js'
import { type OpenModel, openModel, withQuantizedLayers } from '../pipeline/folders/open-model.js'
import type { OnProgress } from '../pipeline/progress.js'
import { type AnswerTask, type GeneratedToken, writeAnswer } from './answer.js'
import { createScheduler, type SchedulerLoad } from './batch/scheduler.js'
import { type ChatTemplate, compileChatTemplate, withoutChatTemplate } from './chat-template.js'
import { promptEncoder } from './encode-prompt.js'
import { type GenerateOptions, type PromptOptions, requireRoom, resolveOptions } from './generate-options.js'
import { loadWeights } from './load-weights.js'
import { type ModelSettings, readModelSettings } from './model-settings.js'

/** Which model to load, and how much memory and work it may take. */
export interface OpenGeneratorOptions {
  /**
   * A model, quantized or plain: the path of its folder or GGUF file, its name on the hub, in a browser its URL, or its
   * files.
   */
  readonly model: ModelPlace
  /**
   * Quantized layers that stand in the place of its own, by the names of their weights, as `quantizeModel` hands them to
   * `onLayer`: a model that was quantized in memory writes without being stored.
   */
  readonly layers?: ReadonlyMap<string, QuantizedLayer>
  /** Threads of the kernels, for the whole process from now on; default `GPTVQ_THREADS`, else the cores there are. */
  readonly threads?: number
  /** Tokens of a prompt and its answer together at most; default the model's context, as far as `cacheBytes` allow it. */
  readonly context?: number
  /** What runs the forward pass, for the whole process from now on; default `'wasm'`. */
  readonly engine?: EngineName
  /**
   * How finely layers that stay as they are stored see their inputs, for the whole process from now on. `'float32'`: as products
   * in float32 do. `'int16'` (default) and `'int8'`: rounded to 15 or 7 bits below the largest of the inputs that share scales,
   * which is faster; `'int8'` to 14 bits for plain pairs of 2 bits whose codebooks serve 48 rows or more.
   * Of no effect on engines other than `'wasm'`.
   */
  readonly activations?: PackedActivations
  /** Sequences that are computed together at most, others wait; default 8. */
  readonly sequences?: number
  /** Bytes of cached keys and values, those kept for prompts that begin alike included; default 512 MiB. */
  readonly cacheBytes?: number
  /**
   * How finely keys and values are cached: `'float32'` (default), or `'int8'`, in about a quarter of the memory: rounded
   * to 7 bits below the largest of the values of a token and head. On the engine `'wasm'` only.
   */
  readonly cache?: CachePrecision
  /** Receives how far the weights are loaded. */
  readonly onProgress?: OnProgress
  /** Stops the loading with an AbortedError. */
  readonly signal?: AbortSignal
}

/** All names of {@link OpenGeneratorOptions}. */
export const generatorOptionNames: OptionNames<OpenGeneratorOptions> = {
  model: true,
  layers: true,
  threads: true,
  context: true,
  engine: true,
  activations: true,
  sequences: true,
  cacheBytes: true,
  cache: true,
  onProgress: true,
  signal: true,
}

const DEFAULT_SEQUENCES = 8
const MOST_SEQUENCES = 256
const DEFAULT_CACHE_BYTES = 2 ** 29
/** Tokens of prompts in one pass: enough for the products to run at full speed, few enough not to keep others waiting. */
const PROMPT_TOKENS = 256

/** A model in memory that writes text. */
export interface Generator {
  /** The folder it was loaded from, as given; of files the place that errors name. */
  readonly model: string
  /** Its architecture. */
  readonly config: DecoderDescription
  /** Tokens of a prompt and its answer together at most. */
  readonly context: number
  /** Sequences that are computed together at most. */
  readonly sequences: number
  /** Whether it takes `messages`. */
  readonly hasChatTemplate: boolean
  /** Text to token ids and back. */
  readonly tokenizer: Tokenizer
  /**
   * The tokens that a prompt or a chat is for the model.
   *
   * @throws TextError, UnsupportedError as {@link generate}
   */
  encode(options: PromptOptions): number[]
  /**
   * The same for texts that may be far too long: once the text is normalized (tenths of a second for 4 MB) other work
   * comes through on the way, and it ends with undefined as soon as there are more tokens than a prompt may have.
   *
   * @throws TextError, UnsupportedError as {@link generate}; AbortedError when `signal` fires
   */
  encodeToFit(options: PromptOptions, signal?: AbortSignal): Promise<number[] | undefined>
  /**
   * Writes on. Answers that are asked for at the same time are computed together. Leaving the loop stops the work.
   *
   * @throws OptionError for an option that cannot work, TextError for a prompt that does not fit the context or a chat
   * that the model's template refuses, UnsupportedError for messages without a chat template; while it writes
   * AbortedError when `signal` fires or the generator is closed, NumericError when an activation is not finite
   */
  generate(options: GenerateOptions): AsyncIterable<GeneratedToken>
  /** How much there is to do at the moment. */
  load(): SchedulerLoad
  /** Stops all answers and frees the memory; can be called again. */
  close(): Promise<void>
}

/**
 * Loads a model that writes text. Quantized layers stay as they are stored; plain weights become float32, 4 bytes each.
 *
 * @throws OptionError, CheckpointError, UnsupportedError, NumericError, each naming what is wrong; AbortedError
 */
export async function openGenerator(options: OpenGeneratorOptions): Promise<Generator> {
  refuseUnknown(options, generatorOptionNames)
  requireModel('model', options.model)
  const { sequences = DEFAULT_SEQUENCES, cacheBytes: budget = DEFAULT_CACHE_BYTES } = options
  requireWhole('sequences', sequences, 1, MOST_SEQUENCES)
  const { activations = 'int16', cache = 'float32', engine = 'wasm' } = options
  requireOneOf('activations', activations, packedActivations)
  requireOneOf('cache', cache, cachePrecisions)
  if (options.threads !== undefined) setThreads(options.threads)
  const model = await openModel(options.model, fetchOptionsOf(options))
  try {
    const context = contextOf(model.config, options.context, budget, cache)
    const tokenizer = await loadTokenizer(options.model)
    checkVocabulary(tokenizer, model.config)
    const settings = await readModelSettings(model.checkpoint, model.config, tokenizer)
    const chat = settings.chatTemplate && compileChatTemplate(settings.chatTemplate)
    await startCachingEngine(engine, cache)
    setPackedActivations(activations)
    const decoder = await loadWeights(withLayers(model, options.layers), options.onProgress, options.signal)
    const limits = { sequences, promptTokens: PROMPT_TOKENS, cacheBytes: budget, cache }
    return createGenerator({ model, decoder, tokenizer, settings, chat, context }, limits)
  } catch (error) {
    await model.close()
    throw error
  }
}

function withLayers(model: OpenModel, layers: OpenGeneratorOptions['layers']): OpenModel {
  if (layers === undefined) return model
  if (!(layers instanceof Map)) {
    throw new OptionError(
      'layers',
      `expected a Map of layers by the names of weights, got ${shownValue(layers)}`,
    )
  }
  for (const name of layers.keys()) {
    if (model.source.shape(name) === undefined) {
      throw new OptionError('layers', `found ${JSON.stringify(name)}, which ${model.folder} does not have`)
    }
  }
  return { ...model, source: withQuantizedLayers(model.source, layers) }
}

async function startCachingEngine(engine: EngineName, cache: CachePrecision): Promise<void> {
  const started = await startEngine(engine)
  if (cache === 'float32' || started === 'wasm') return
  throw new OptionError(
    'cache',
    `found ${cache} with the engine ${started}; expected float32 there. Take that, or the engine wasm`,
  )
}

function contextOf(
  config: DecoderDescription,
  wanted: number | undefined,
  budget: number,
  cache: CachePrecision,
): number {
  requireWhole('cacheBytes', budget, 1)
  const room = Math.floor(budget / cacheBytes(config, 1, cache))
  if (wanted !== undefined) requireWhole('context', wanted, 2, config.maxPositions)
  const context = wanted ?? Math.min(config.maxPositions, room)
  if (context <= room && context >= 2) return context
  throw new OptionError(
    'cacheBytes',
    `found ${budget}; a context of ${Math.max(2, context)} tokens takes ` +
      `${cacheBytes(config, Math.max(2, context), cache)} bytes. ` +
      `Allow more, or ask for a smaller context${cache === 'float32' ? ', or cache in int8' : ''}`,
  )
}

interface GeneratorParts {
  readonly model: OpenModel
  readonly decoder: Decoder
  readonly tokenizer: Tokenizer
  readonly settings: ModelSettings
  readonly chat: ChatTemplate | undefined
  readonly context: number
}

function createGenerator(
  { model, decoder, tokenizer, settings, chat, context }: GeneratorParts,
  limits: Parameters<typeof createScheduler>[1],
): Generator {
  const scheduler = createScheduler(decoder, limits)
  let closing: Promise<void> | undefined
  const encoder = promptEncoder({
    ...{ tokenizer, context, leadingIds: settings.leadingIds, vocabSize: model.config.vocabSize },
    chat: chat ?? withoutChatTemplate(model.folder),
  })
  return {
    model: model.folder,
    config: model.config,
    context,
    sequences: limits.sequences,
    hasChatTemplate: chat !== undefined,
    tokenizer,
    ...encoder,
    generate(options) {
      const resolved = resolveOptions(options, settings.defaults)
      const prompt = encoder.encode(options)
      const task: AnswerTask = {
        ...resolved,
        prompt,
        most: requireRoom(prompt.length, options.maxTokens, context),
        before: options.messages !== undefined || options.separate === true ? [] : prompt,
        endTokens: settings.endTokens,
      }
      return writeAnswer(scheduler, tokenizer, task, options.signal)
    },
    load: scheduler.load,
    close() {
      closing ??= scheduler.close().then(() => {
        disposeDecoder(decoder)
        return model.close()
      })
      return closing
    },
  }
}
