import type { SchedulerLoad } from '../batch/scheduler.js'

/** What a server has done since it began. */
export interface Metrics {
  /** Counts a response. */
  answered(path: string, status: number): void
  /** Counts tokens of prompts and of answers. */
  counted(promptTokens: number, completionTokens: number): void
  /** All counts in the text format of Prometheus. */
  text(load: SchedulerLoad, requests: number): string
}

/** Counts from 0. */
export function createMetrics(): Metrics {
  const responses = new Map<string, number>()
  let promptTokens = 0
  let completionTokens = 0
  return {
    answered(path, status) {
      const labels = `path="${path}",status="${status}"`
      responses.set(labels, (responses.get(labels) ?? 0) + 1)
    },
    counted(ofPrompts, ofAnswers) {
      promptTokens += ofPrompts
      completionTokens += ofAnswers
    },
    text({ active, waiting, cacheBytes }, requests) {
      const lines = [
        ...metric('gptvq_responses_total', 'counter', 'Responses sent.'),
        ...Array.from(responses, ([labels, count]) => `gptvq_responses_total{${labels}} ${count}`),
        ...metric('gptvq_prompt_tokens_total', 'counter', 'Tokens of prompts.', promptTokens),
        ...metric('gptvq_completion_tokens_total', 'counter', 'Tokens written.', completionTokens),
        ...metric('gptvq_requests', 'gauge', 'Requests being answered.', requests),
        ...metric('gptvq_sequences_active', 'gauge', 'Sequences being computed.', active),
        ...metric('gptvq_sequences_waiting', 'gauge', 'Sequences waiting for others.', waiting),
        ...metric('gptvq_cache_bytes', 'gauge', 'Bytes of cached keys and values.', cacheBytes),
        ...metric('process_resident_memory_bytes', 'gauge', 'Resident memory.', process.memoryUsage.rss()),
      ]
      return `${lines.join('\n')}\n`
    },
  }
}

function metric(name: string, type: string, help: string, value?: number): string[] {
  const head = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`]
  return value === undefined ? head : [...head, `${name} ${value}`]
}
