import type { GenerateOptions } from '../../generate/generate-options.js'
import type { Generator } from '../../generate/open-generator.js'
import { readTextOf } from '../../pipeline/calibrate/text-file.js'
import { UsageError } from '../errors.js'
import { runFlags } from '../flags/generation-flags.js'
import { type CommandContext, type CommandResult, defineCommand } from '../parse/command.js'
import { type ChatSetting, runChat } from '../terminal/chat.js'
import { wrapWords } from '../terminal/wrap-words.js'
import { describeSpeed, noSpeed, writeText } from '../terminal/write-text.js'

/** `gptvq run MODEL` */
export const runCommand = defineCommand({
  name: 'run',
  argument: 'MODEL',
  summary: 'write with a model: a chat in the terminal, or the answer to one prompt',
  about:
    'Loads a model folder, quantized or plain, and chats in the terminal. With --prompt, or with a prompt from a pipe, it ' +
    'writes one answer to standard output and ends. A prompt is what a user says where the model has a chat template; ' +
    'otherwise, and with --raw, it is text to go on with.',
  examples: [
    'run ./my-model-2bit',
    'run ./my-model-2bit --prompt Hello --max-tokens 100 --temperature 0',
    'run ./my-model-2bit --raw --prompt Once --top-p 0.9 --seed 1',
  ],
  flags: runFlags,
  async run(
    model,
    { context, engine, activations, cache, cacheBytes, threads, system, raw, prompt, ...sampling },
    command,
  ) {
    const given = prompt ?? (command.terminal ? undefined : await readPipe(command))
    const { openGenerator } = await import('../../generate/open-generator.js')
    const { onProgress, signal } = command
    const generator = await openGenerator({
      model,
      context,
      engine,
      activations,
      cache,
      cacheBytes,
      threads,
      onProgress,
      signal,
      sequences: 1,
    })
    const options: GenerateOptions = { ...sampling, signal }
    try {
      const setting = { plain: raw === true || !generator.hasChatTemplate, system }
      if (setting.plain && system !== undefined) {
        throw new UsageError(
          raw ? '--system goes with a chat, not with --raw' : '--system needs a model with a chat template',
          'run',
        )
      }
      if (given === undefined) return await chat(generator, options, setting, command)
      return await answerOne(generator, options, given, setting, command)
    } finally {
      await generator.close()
    }
  },
})

async function chat(
  generator: Generator,
  options: GenerateOptions,
  setting: ChatSetting,
  { terminal, note }: CommandContext,
): Promise<CommandResult> {
  const speed = noSpeed()
  await runChat(generator, options, setting, terminal!, speed)
  if (speed.tokens > 0) note(describeSpeed(speed))
  return { json: speed, text: '' }
}

async function answerOne(
  generator: Generator,
  options: GenerateOptions,
  prompt: string,
  { plain, system }: ChatSetting,
  { print, note, columns }: CommandContext,
): Promise<CommandResult> {
  const messages = [
    ...(system === undefined ? [] : [{ role: 'system', content: system }]),
    { role: 'user', content: prompt },
  ]
  const given = plain ? { prompt } : { messages }
  const speed = noSpeed()
  let text = ''
  const words = wrapWords(print, columns)
  await writeText(generator.generate({ ...options, ...given }), speed, (part) => {
    text += part
    // into a pipe goes the text as it is
    if (columns()) words.add(part)
    else print(part)
  })
  words.end()
  print('\n')
  note(describeSpeed(speed))
  const { promptSeconds, ...rest } = speed
  return { json: { text, promptTokens: generator.encode(given).length, promptSeconds, ...rest }, text: '' }
}

async function readPipe({ stdin, signal }: CommandContext): Promise<string> {
  const isPiped = stdin !== undefined && !stdin.isTTY
  const text = isPiped ? await readTextOf(stdin, 'standard input', { signal }) : ''
  const prompt = text.replace(/\r?\n$/, '')
  if (prompt !== '') return prompt
  throw new UsageError(
    '--prompt TEXT is missing: a chat needs a terminal, and nothing came from a pipe',
    'run',
  )
}
