import { CheckpointError } from '../../common/errors.js'
import type { GgufMetadata } from '../metadata.js'

/** Kinds of tokens in `tokenizer.ggml.token_type`. */
export const TokenKind = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const

/** The vocabulary of a GGUF file. */
export interface Vocabulary {
  readonly tokens: readonly string[]
  /** Of {@link TokenKind}, one for each token. */
  readonly kinds: readonly number[]
}

/** The vocabulary in the metadata. @throws CheckpointError when it is missing or its lists differ in length */
export function readVocabulary(metadata: GgufMetadata): Vocabulary {
  const tokens = metadata.texts('tokenizer.ggml.tokens')
  const kinds = metadata.optionalNumbers('tokenizer.ggml.token_type') ?? tokens.map(() => TokenKind.normal)
  if (kinds.length !== tokens.length) {
    throw new CheckpointError(
      `${metadata.where}: "tokenizer.ggml.token_type" has ${kinds.length} entries, expected ${tokens.length}, one for each token. Fetch the file again`,
    )
  }
  return { tokens, kinds }
}
