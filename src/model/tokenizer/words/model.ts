import type { Section } from '../section.js'
import { readBpe } from './bpe.js'
import { readUnigram } from './unigram.js'
import type { Model } from './vocabulary.js'
import { readWordLevel, readWordPiece } from './word-models.js'

type ModelReader = (section: Section, file: string) => Model

const readers: Record<string, ModelReader> = {
  BPE: readBpe,
  WordPiece: readWordPiece,
  WordLevel: readWordLevel,
  Unigram: readUnigram,
}

/** The field `model` of a tokenizer.json. */
export function readModel(definition: Section, file: string): Model {
  const section = definition.part('model') ?? definition.fail('model', 'an object')
  const reader = section.has('type') ? section.choice('type', readers) : oldKind(section)
  return reader(section, file)
}

/** Files of old name no type. */
function oldKind(section: Section): ModelReader {
  if (section.has('merges')) return readBpe
  if (Array.isArray(section.raw('vocab'))) return readUnigram
  return section.has('continuing_subword_prefix') ? readWordPiece : readWordLevel
}
