import { join } from 'node:path'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { isObject } from '../checkpoint/json-file.js'
import { readModelText } from '../checkpoint/model-text.js'
import { CheckpointError } from '../common/errors.js'
import type { GgufArchitecture } from '../gguf/architectures.js'
import { metadataOfModel } from '../gguf/metadata-of-model.js'
import { type ModelFiles, specialTokens } from '../gguf/tokenizer/special-tokens.js'
import { type TokenizerDefinition, vocabularyOfTokenizer } from '../gguf/tokenizer/vocabulary-of-tokenizer.js'
import type { GgufValue } from '../gguf/write-header.js'
import { modelName } from '../hub/snapshot-name.js'
import type { DecoderDescription } from '../model/decoder/description.js'
import { loadTokenizer } from '../model/tokenizer.js'
import { fileTypes, type GgufExportType } from './gguf-types.js'

/** Everything of a GGUF file but its tensors, and what will be different in llama.cpp. */
export interface ExportMetadata {
  readonly values: ReadonlyMap<string, GgufValue>
  readonly notes: readonly string[]
}

/**
 * The metadata of a model: what it is, its sizes, its tokenizer.
 *
 * @throws CheckpointError, UnsupportedError when the tokenizer is missing, damaged or of a kind that llama.cpp lacks
 */
export async function exportMetadata(
  checkpoint: Checkpoint,
  decoder: DecoderDescription,
  architecture: GgufArchitecture,
  { type, preTokenizer }: { readonly type: GgufExportType; readonly preTokenizer: string | undefined },
): Promise<ExportMetadata> {
  const { folder, config } = checkpoint
  const files = await readFiles(folder)
  const where = join(folder, 'tokenizer.json')
  const { values, notes, vocabulary } = vocabularyOfTokenizer(
    files.tokenizer as unknown as TokenizerDefinition,
    { where, vocabSize: decoder.vocabSize, preTokenizer },
  )
  const general: [string, GgufValue][] = [
    ['general.architecture', { kind: 'text', value: architecture.name }],
    ['general.type', { kind: 'text', value: 'model' }],
    ['general.name', { kind: 'text', value: modelName(folder).replace(/\.gguf$/i, '') }],
    ['general.file_type', { kind: 'u32', value: fileTypes[type] }],
    ['general.quantization_version', { kind: 'u32', value: 2 }],
  ]
  const width = config.intermediate_size ?? 2048
  const model = metadataOfModel(decoder, architecture, Number(width))
  const special = specialTokens(files, config, decoder, vocabulary)
  return {
    values: new Map([...general, ...model, ...values, ...special.values]),
    notes: [...notes, ...special.notes],
  }
}

async function readFiles(model: string): Promise<ModelFiles> {
  // says what is wrong with the file, where something is
  await loadTokenizer(model)
  return {
    tokenizer: (await readObject(model, 'tokenizer.json')) ?? {},
    settings: await readObject(model, 'tokenizer_config.json'),
    generation: await readObject(model, 'generation_config.json'),
    template: await readModelText(model, 'chat_template.jinja'),
  }
}

async function readObject(model: string, name: string): Promise<Record<string, unknown> | undefined> {
  const text = await readModelText(model, name)
  if (text === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    if (isObject(value)) return value
  } catch (cause) {
    throw new CheckpointError(`${join(model, name)}: is no JSON; the file is damaged, fetch it again`, {
      cause,
    })
  }
  throw new CheckpointError(
    `${join(model, name)}: holds no object; the file is of another model, fetch it again`,
  )
}
