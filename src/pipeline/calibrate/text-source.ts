import type { ModelPlace } from '../../checkpoint/model-source.js'
import { TextError } from '../../common/errors.js'
import { shownValue } from '../../common/shown-value.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { assertTokenIds } from '../../model/decoder/embedding.js'
import { checkVocabulary, loadTokenizer } from '../../model/tokenizer.js'
import { readTextFile } from './text-file.js'

/** Text by the path of a UTF-8 file, text itself, or the token ids of a text. */
export type TextSource =
  | string
  | {
      /** The text itself. */
      readonly text: string
    }
  | {
      /** Its token ids. */
      readonly tokens: Int32Array
    }

/**
 * The token ids of a text, tokenized whole without special tokens.
 *
 * @param model where the tokenizer lies
 * @throws AbortedError when `signal` fires
 * @throws TextError when the file cannot be read or is not text, or an id lies beyond the model's vocabulary
 * @throws CheckpointError, UnsupportedError for a tokenizer that is missing or of another model
 */
export async function readTokens(
  source: TextSource,
  model: ModelPlace,
  config: DecoderDescription,
  signal?: AbortSignal,
): Promise<Int32Array> {
  requireTextSource(source)
  if (typeof source === 'object' && 'tokens' in source) {
    assertTokenIds(source.tokens, config.vocabSize)
    return source.tokens
  }
  const text = typeof source === 'string' ? await readTextFile(source, { signal }) : source.text
  const tokenizer = await loadTokenizer(model)
  checkVocabulary(tokenizer, config)
  const tokens = await tokenizer.encodeInTurns(text, signal)
  assertTokenIds(tokens, config.vocabSize)
  return tokens
}

/** Checks what is given as a text. @throws TextError */
export function requireTextSource(source: TextSource): void {
  if (typeof source === 'string' && source !== '') return
  const { text, tokens } = (source ?? {}) as { text?: unknown; tokens?: unknown }
  if (typeof text === 'string' || (text === undefined && tokens instanceof Int32Array)) return
  throw new TextError(
    `expected the path of a text file, { text } or { tokens } as Int32Array, got ${shownValue(source)}`,
  )
}
