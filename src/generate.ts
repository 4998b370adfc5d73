/**
 * Writing text with a model, quantized or plain: a generator for programs, and a server with OpenAI's HTTP interface.
 *
 * @module gptvq/generate
 */
export type { FinishReason, GeneratedToken, TokenLogprob } from './generate/answer.js'
export type { SchedulerLoad } from './generate/batch/scheduler.js'
export type { ChatMessage } from './generate/chat-template.js'
export type { GenerateOptions, PromptOptions } from './generate/generate-options.js'
export { type Generator, type OpenGeneratorOptions, openGenerator } from './generate/open-generator.js'
export type { AnsweredRequest } from './generate/server/answered-request.js'
export { type RunningServer, type StartServerOptions, startServer } from './generate/server/start-server.js'
export type { PackedActivations } from './kernels/packed-contract.js'
export type { CachePrecision } from './model/ops/ops.js'
