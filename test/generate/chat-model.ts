import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TinyModelOverrides, writeTinyModel } from '../support/tiny-model.js'

/** Writes each message as `<s>role: content` and a line end, then `<s>assistant: `; refuses two of one role in a row. */
export const chatTemplate =
  "{% for message in messages %}{% if not loop.first and messages[loop.index0 - 1]['role'] == message['role'] %}" +
  "{{ raise_exception('roles must take turns') }}{% endif %}" +
  "{{ bos_token + message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}" +
  '{% if add_generation_prompt %}{{ bos_token }}assistant: {% endif %}'

export interface ChatModelOverrides extends TinyModelOverrides {
  readonly tokenizerConfig?: object
  readonly generationConfig?: object
}

/** The tiny model as one for chats, with a context of 512. */
export async function writeChatModel(folder: string, overrides: ChatModelOverrides = {}): Promise<string> {
  const { tokenizerConfig, generationConfig, ...tiny } = overrides
  await writeTinyModel(folder, { ...tiny, config: { max_position_embeddings: 512, ...tiny.config } })
  const fields = { bos_token: '<s>', eos_token: { content: '</s>' }, chat_template: chatTemplate }
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify({ ...fields, ...tokenizerConfig }))
  if (generationConfig !== undefined) {
    await writeFile(join(folder, 'generation_config.json'), JSON.stringify(generationConfig))
  }
  return folder
}
