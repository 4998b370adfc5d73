import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { AbortedError, GptvqError } from '../../common/errors.js'
import { safeText } from '../../common/safe-text.js'
import type { ChatMessage } from '../../generate/chat-template.js'
import type { GenerateOptions } from '../../generate/generate-options.js'
import type { Generator } from '../../generate/open-generator.js'
import type { Terminal } from '../parse/command.js'
import { wrapWords } from './wrap-words.js'
import { type WritingSpeed, writeText } from './write-text.js'

/** How a chat goes on. */
type Turn = 'next' | 'leave'

// lines of less than 80 columns: a terminal breaks longer ones within words
const leaving = 'Ctrl-C stops its answer; Ctrl-C again, or /exit, leaves'
const greeting = `Write to the model; /clear forgets what was said.\n${leaving}.\n`
const plainGreeting = `The model goes on with each line by itself, without a chat template.\n${leaving}.\n`

/** How a model is talked to. */
export interface ChatSetting {
  /** Each line is gone on with by itself, without a template. */
  readonly plain: boolean
  /** What a chat begins with. */
  readonly system: string | undefined
}

/**
 * A chat in the terminal, with its history, until the user leaves.
 *
 * @param options of each answer
 */
export async function runChat(
  generator: Generator,
  options: GenerateOptions,
  { plain, system }: ChatSetting,
  { stdin, write, columns }: Terminal,
  speed: WritingSpeed,
): Promise<void> {
  const output = new Writable({
    write(chunk, _, done) {
      write(String(chunk))
      done()
    },
  })
  const lines = createInterface({ input: stdin, output, terminal: true, prompt: '> ', historySize: 100 })
  const opening: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }]
  let messages = [...opening]
  let answering: AbortController | undefined
  let interrupted = false
  const onInterrupt = () => {
    interrupted = answering === undefined
    if (answering === undefined) lines.close()
    else answering.abort()
  }
  lines.on('SIGINT', onInterrupt)
  const onStop = () => {
    interrupted = true
    answering?.abort()
    lines.close()
  }
  options.signal?.addEventListener('abort', onStop)

  const answer = async (text: string): Promise<void> => {
    answering = new AbortController()
    const asked: ChatMessage[] = [...messages, { role: 'user', content: text }]
    const given = plain ? { prompt: text } : { messages: asked }
    let said = ''
    const words = wrapWords(write, columns)
    try {
      const items = generator.generate({ ...options, ...given, signal: answering.signal })
      await writeText(items, speed, (part) => {
        // many models begin with the space that parts their first word from the template
        const shown = said === '' && !plain ? part.trimStart() : part
        said += part
        words.add(safeText(shown))
      })
    } catch (error) {
      if (!(error instanceof GptvqError)) throw error
      if (!(error instanceof AbortedError)) {
        words.end()
        write(`${error.message}. /clear forgets what was said\n`)
        return
      }
    } finally {
      answering = undefined
    }
    words.end()
    write('\n')
    // an answer that was stopped was said as far as it went
    messages = [...asked, { role: 'assistant', content: said }]
  }
  const take = async (line: string): Promise<Turn> => {
    const text = line.trim()
    if (text === '/exit' || text === '/quit') return 'leave'
    if (text === '/clear') messages = [...opening]
    else if (text !== '') await answer(text)
    return interrupted ? 'leave' : 'next'
  }

  try {
    write(plain ? plainGreeting : greeting)
    lines.prompt()
    for await (const line of lines) {
      if ((await take(line)) === 'leave') break
      lines.prompt()
    }
  } finally {
    options.signal?.removeEventListener('abort', onStop)
    lines.close()
    write('\n')
  }
}
