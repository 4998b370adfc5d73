import { requireObject, requirePath } from '../../common/check-option.js'
import { UnsupportedError } from '../../common/errors.js'
import type { DecoderDescription } from '../decoder/description.js'
import { gemma } from './gemma.js'
import { gemma2 } from './gemma2.js'
import { gemma3 } from './gemma3.js'
import { gptNeox } from './gpt-neox.js'
import { granite } from './granite.js'
import { llama } from './llama.js'
import { mistral } from './mistral.js'
import { mixtral } from './mixtral.js'
import { olmo2 } from './olmo2.js'
import { olmo3 } from './olmo3.js'
import { olmoe } from './olmoe.js'
import type { Family } from './parts/decoder-parts.js'
import { configReader, show } from './parts/read-config.js'
import { refuseUnread } from './parts/result-fields.js'
import { phi3 } from './phi3.js'
import { qwen2 } from './qwen2.js'
import { qwen2Moe } from './qwen2-moe.js'
import { qwen3 } from './qwen3.js'
import { qwen3Moe } from './qwen3-moe.js'
import { smollm3 } from './smollm3.js'
import { stablelm } from './stablelm.js'

const families: readonly Family[] = [
  llama,
  mistral,
  qwen2,
  qwen3,
  phi3,
  gemma,
  gemma2,
  gemma3,
  olmo2,
  olmo3,
  smollm3,
  granite,
  stablelm,
  gptNeox,
  mixtral,
  qwen2Moe,
  qwen3Moe,
  olmoe,
]

/** Values of `model_type` that the forward pass knows. */
export const supportedFamilies: readonly string[] = families.map(({ name }) => name)

/** The class of transformers that runs a family, the entry of `architectures`; undefined for one that is not supported. */
export function architectureOfFamily(modelType: string): string | undefined {
  return families.find(({ name }) => name === modelType)?.architecture
}

/**
 * Describes the decoder of a Hugging Face `config.json`. Fields that Hugging Face lets out get its defaults; those that
 * are known to change what a model computes are understood or refused.
 *
 * @param config the parsed JSON
 * @param where how errors name the file
 * @param notes gets what a user may want to know of a file that can be read
 * @throws UnsupportedError for an architecture, or a field's value, that the forward pass does not have, naming it
 * @throws CheckpointError for a missing or impossible field, naming it
 */
export function describeDecoder(
  config: Record<string, unknown>,
  where: string,
  notes: string[] = [],
): DecoderDescription {
  requireObject('config', config)
  requirePath('where', where)
  const family = findFamily(config, where)
  const read = configReader(config, family.name, where, notes)
  const description = family.describe(read)
  refuseUnread(config, read, description)
  return description
}

function findFamily(config: Record<string, unknown>, where: string): Family {
  const family = families.find(({ name }) => name === config.model_type)
  if (family === undefined) {
    const found = config.model_type === undefined ? 'no model_type' : `model_type ${show(config.model_type)}`
    const multimodal = 'text_config' in config || 'vision_config' in config
    throw new UnsupportedError(
      `${where}: ${found} is not an architecture this library can run; ` +
        `supported${multimodal ? ', models of text only' : ''}: ${supportedFamilies.join(', ')}${hintOnText(config)}`,
    )
  }
  const architectures: unknown[] = Array.isArray(config.architectures) ? config.architectures : []
  const wanted = family.architecture.toLowerCase()
  if (architectures.length > 0 && !architectures.some((name) => String(name).toLowerCase() === wanted)) {
    throw new UnsupportedError(
      `${where}: architectures ${show(architectures)} is not one this library can run; ` +
        `supported for model_type ${family.name}: ${family.architecture}`,
    )
  }
  return family
}

/** What to do with a model of text and images whose text part is of a family that is known. */
function hintOnText({ text_config: text }: Record<string, unknown>): string {
  const { model_type: kind } = Object(text) as { readonly model_type?: unknown }
  if (!families.some(({ name }) => name === kind)) return ''
  return `. Its text part is a ${kind}: save that alone, as docs/models.md says under "What is refused"`
}
