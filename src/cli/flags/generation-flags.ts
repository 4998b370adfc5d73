import type { GenerateOptions, PromptOptions } from '../../generate/generate-options.js'
import type { OpenGeneratorOptions } from '../../generate/open-generator.js'
import type { StartServerOptions } from '../../generate/server/start-server.js'
import { packedActivations } from '../../kernels/packed-contract.js'
import { cachePrecisions } from '../../model/ops/ops.js'
import { type CallerOnly, engine, type Flag, type FlagsOf, type FlagTable, threads } from './flags.js'

/** How an answer is written. */
const samplingFlags = {
  maxTokens: {
    kind: 'whole',
    help: 'tokens to write at most',
    default: 'as many as the context has room for',
  },
  temperature: {
    kind: 'number',
    help: 'logits are divided by it; 0 always takes the likeliest token',
    default: "the model's generation_config.json, else 1",
  },
  topK: {
    kind: 'whole',
    help: 'draw from so many of the likeliest tokens; 0: all',
    default: 'likewise, else 0',
  },
  topP: {
    kind: 'number',
    help: 'draw from the fewest likeliest tokens whose probabilities sum to it; 0: only the likeliest',
    default: 'likewise, else 1',
  },
  minP: {
    kind: 'number',
    help: 'draw from tokens at least this share as likely as the likeliest',
    default: 'likewise, else 0',
  },
  repetitionPenalty: {
    kind: 'number',
    help: 'makes tokens less likely that were there already; 1: none',
    default: 'likewise, else 1',
  },
  stop: { kind: 'texts', help: 'text that ends an answer; can be given several times', default: 'none' },
  seed: { kind: 'whole', help: 'the same seed gives the same answer', default: 'another one each time' },
} as const satisfies Record<
  keyof Omit<GenerateOptions, keyof PromptOptions | 'separate' | 'topLogprobs' | CallerOnly>,
  Flag
>

/** How a model is loaded. */
const generatorFlags = {
  context: {
    kind: 'whole',
    help: 'tokens of a prompt and its answer together at most',
    default: "the model's context, as far as --cache-bytes allow it",
  },
  engine: { ...engine, default: 'wasm' },
  activations: {
    kind: 'choice',
    choices: packedActivations,
    help: 'how finely stored layers see their inputs; int16 and int8 read prompts and write faster',
    default: 'int16',
  },
  cache: {
    kind: 'choice',
    choices: cachePrecisions,
    help: 'how finely keys and values are cached; int8 takes about a quarter of the memory',
    default: 'float32',
  },
  cacheBytes: {
    kind: 'bytes',
    help: 'bytes of cached keys and values, of prompts that may come again too',
    default: '512MiB',
  },
  threads,
} as const satisfies Partial<Record<keyof OpenGeneratorOptions, Flag>>

export const runFlags = {
  prompt: { kind: 'text', help: 'what to answer, in place of a chat' },
  raw: { kind: 'switch', help: 'go on with the prompt as it stands, without the chat template' },
  system: { kind: 'text', help: "what the chat begins with, in place of the template's own" },
  ...samplingFlags,
  ...generatorFlags,
} as const satisfies FlagTable

export const serveFlags = {
  host: { kind: 'text', help: 'address to listen at; 0.0.0.0 for all of this machine', default: '127.0.0.1' },
  port: { kind: 'whole', help: 'port to listen at, 0 for any that is free', default: '8080' },
  apiKey: {
    kind: 'text',
    help: 'what clients have to send; better in the environment variable GPTVQ_API_KEY, which no list of processes shows',
    default: 'GPTVQ_API_KEY, else none',
  },
  ...generatorFlags,
  sequences: { kind: 'whole', help: 'answers that are computed together at most', default: '8' },
  queue: { kind: 'whole', help: 'answers that may wait for others', default: '64' },
  bodyBytes: { kind: 'bytes', help: "bytes of a request's body at most", default: '4MiB' },
  seconds: { kind: 'whole', help: 'seconds that an answer may take, waiting included', default: '600' },
} as const satisfies FlagsOf<Omit<StartServerOptions, 'onRequest' | 'layers'>>
