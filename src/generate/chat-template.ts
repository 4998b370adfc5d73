import { Template } from '@huggingface/jinja'
import { CheckpointError, TextError, UnsupportedError } from '../common/errors.js'
import type { ChatTemplateText } from './model-settings.js'

/** A message of a chat. */
export interface ChatMessage {
  /** Who says it: `'system'`, `'user'`, `'assistant'`, or what else the model's template knows. */
  readonly role: string
  /** What is said. */
  readonly content: string
  /** Which of several that have the role says it, for templates that write names. */
  readonly name?: string
}

/** Writes a chat out as the text that the model was trained on, up to where the model's answer begins. */
export type ChatTemplate = (messages: readonly ChatMessage[]) => string

/**
 * Compiles a chat template.
 *
 * @throws CheckpointError when it is not Jinja; the template throws TextError for messages that it refuses
 */
export function compileChatTemplate({ file, text, specialTokens }: ChatTemplateText): ChatTemplate {
  const template = guarded(
    () => new Template(text),
    (reason, cause) =>
      new CheckpointError(`${file}: is not a Jinja template (${reason}); the file is damaged`, { cause }),
  )
  return (messages) =>
    guarded(
      // what is null here is None where templates are written for
      () =>
        template.render({
          ...specialTokens,
          messages,
          add_generation_prompt: true,
          tools: null,
          documents: null,
        }),
      (reason, cause) =>
        new TextError(
          `${file}: refuses the messages with the roles ${messages.map(({ role }) => role).join(', ')}: ${reason}`,
          { cause },
        ),
    )
}

function guarded<T>(use: () => T, failure: (reason: string, cause: unknown) => Error): T {
  try {
    return use()
  } catch (cause) {
    throw failure(cause instanceof Error ? cause.message : String(cause), cause)
  }
}

/** Stands in for the template of a model that has none. */
export function withoutChatTemplate(folder: string): ChatTemplate {
  return () => {
    throw new UnsupportedError(
      `${folder}: has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json), so messages ` +
        'cannot be written out for this model. Give a prompt, or put the template of the original model there',
    )
  }
}
