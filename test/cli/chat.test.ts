import { PassThrough } from 'node:stream'
import type { GenerateOptions, Generator } from 'gptvq/generate'
import { expect, it } from 'vitest'
import { runChat } from '../../src/cli/terminal/chat.js'
import { noSpeed } from '../../src/cli/terminal/write-text.js'

/** What a chat writes to the terminal, and what it asks a model that always gives these texts. */
async function chatWith(texts: readonly string[], plain: boolean, width?: number) {
  const asked: GenerateOptions[] = []
  const generator = {
    async *generate(options: GenerateOptions) {
      asked.push(options)
      for (const text of texts) yield { text, token: 1, logprob: 0, finishReason: undefined }
    },
  } as unknown as Generator
  const stdin = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => stdin })
  let written = ''
  const write = (text: string) => {
    written += text
  }
  const chat = runChat(
    generator,
    {},
    { plain, system: undefined },
    { stdin, write, columns: () => width } as never,
    noSpeed(),
  )
  stdin.write('hello\r')
  stdin.write('again\r')
  stdin.end('/exit\r')
  await chat
  return { written, asked }
}

it('shows a chat answer without the space it begins with, and keeps that in the history', async () => {
  const { written, asked } = await chatWith([' Well', ', no'], false)
  expect(written).toContain('\nWell, no\n')
  expect(asked[1].messages).toEqual([
    { role: 'user', content: 'hello' },
    { role: 'assistant', content: ' Well, no' },
    { role: 'user', content: 'again' },
  ])
})

it('shows text that goes on without a template as it is', async () => {
  const { written } = await chatWith([' Well', ', no'], true)
  expect(written).toContain('\n Well, no\n')
})

it('breaks the lines of an answer between words, and keeps the text as it was said', async () => {
  const { written, asked } = await chatWith([' Well, no', 'body kn', 'ows'], false, 16)
  expect(written).toContain('\nWell, nobody\nknows\n')
  expect(asked[1].messages?.[1]).toEqual({ role: 'assistant', content: ' Well, nobody knows' })
})
