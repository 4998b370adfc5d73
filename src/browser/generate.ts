/**
 * What of `gptvq/generate` a browser has: all but the server.
 *
 * @module gptvq/generate
 */
export type { FinishReason, GeneratedToken, TokenLogprob } from '../generate/answer.js'
export type { SchedulerLoad } from '../generate/batch/scheduler.js'
export type { ChatMessage } from '../generate/chat-template.js'
export type { GenerateOptions, PromptOptions } from '../generate/generate-options.js'
export { type Generator, type OpenGeneratorOptions, openGenerator } from '../generate/open-generator.js'
export type { CachePrecision } from '../model/ops/ops.js'
