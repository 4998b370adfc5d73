import type { AnsweredRequest } from '../../generate/server/answered-request.js'
import { serveFlags } from '../flags/generation-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatSeconds } from '../terminal/format.js'

/** `gptvq serve MODEL` */
export const serveCommand = defineCommand({
  name: 'serve',
  argument: 'MODEL',
  summary: "serve a model by OpenAI's HTTP interface",
  about:
    'Loads a model folder, quantized or plain, and answers /v1/models, /v1/completions and /v1/chat/completions, whole or ' +
    'as streams, beside /health and /metrics. Only this machine reaches it unless --host says otherwise; give it an API ' +
    'key then. Ctrl-C or SIGTERM lets answers under way finish.',
  examples: [
    'serve ./my-model-2bit --port 8080',
    'serve ./my-model-2bit --host 0.0.0.0 --api-key secret --sequences 16',
  ],
  flags: serveFlags,
  async run(folder, flags, { onProgress, signal, print, note, env }) {
    const { startServer } = await import('../../generate/server/start-server.js')
    const apiKey = flags.apiKey ?? (env.GPTVQ_API_KEY || undefined)
    const onRequest = (request: AnsweredRequest) => note(logLine(request))
    const server = await startServer({ ...flags, model: folder, apiKey, onProgress, signal, onRequest })
    const { url, model } = server
    print(`${model} is served at ${url}/v1; Ctrl-C ends it\n`)
    await new Promise<void>((stop) => {
      if (signal?.aborted) stop()
      signal?.addEventListener('abort', () => stop())
    })
    await server.close()
    return { json: { url, model }, text: '' }
  },
})

function logLine({
  method,
  path,
  status,
  seconds,
  promptTokens,
  completionTokens,
  error,
}: AnsweredRequest): string {
  const tokens = promptTokens > 0 ? `, ${promptTokens} + ${completionTokens} tokens` : ''
  const why = error === undefined ? '' : `\n${error instanceof Error ? error.stack : error}`
  return `${method} ${path} ${status}, ${formatSeconds(seconds)}${tokens}${why}`
}
