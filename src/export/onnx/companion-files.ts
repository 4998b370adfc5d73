import { join } from 'node:path'
import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import { joinMembers, memberOf, membersOf } from '../../checkpoint/json-members.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { isCard } from '../../pipeline/folders/model-card.js'

/** What the names of the data files say to transformers.js. */
export interface ExternalFiles {
  /** How many data files there are; 0: the weights lie in the model's file. */
  readonly count: number
}

/**
 * `config.json` of an exported model: that of the model without its quantization, and with what transformers.js needs to
 * find the one file there is on every device.
 */
export function exportedConfig({ configText }: Checkpoint, { count }: ExternalFiles): string {
  const members = membersOf(configText)
  members.delete('quantization_config')
  const settings = { dtype: 'fp32', ...(count > 0 && { use_external_data_format: count }) }
  members.set('transformers.js_config', memberOf(settings))
  return joinMembers(members)
}

/** Files that a runtime needs and a model may lack, by name, made of what `config.json` says. */
export function missingFiles(
  { bosTokenId, eosTokenIds }: DecoderDescription,
  present: ReadonlySet<string>,
): ReadonlyMap<string, string> {
  const files = new Map<string, string>()
  if (!present.has('generation_config.json')) {
    const generation = {
      ...(bosTokenId !== undefined && { bos_token_id: bosTokenId }),
      ...(eosTokenIds.length > 0 && {
        eos_token_id: eosTokenIds.length === 1 ? eosTokenIds[0] : eosTokenIds,
      }),
    }
    files.set('generation_config.json', `${JSON.stringify(generation, null, 2)}\n`)
  }
  if (present.has('tokenizer.json') && !present.has('tokenizer_config.json')) {
    const tokenizer = { tokenizer_class: 'PreTrainedTokenizerFast' }
    files.set('tokenizer_config.json', `${JSON.stringify(tokenizer, null, 2)}\n`)
  }
  return files
}

/** The small files of a model but for its card: paths of those to copy, and contents of those a GGUF file stands for. */
export function companionFiles(checkpoint: Checkpoint): {
  readonly copied: ReadonlyMap<string, string>
  readonly made: ReadonlyMap<string, string>
} {
  const files = checkpoint.otherFiles.filter((name) => !isCard(name))
  const copied = files.map((name) => [name, join(checkpoint.folder, name)] as const)
  return { copied: new Map(copied), made: checkpoint.madeFiles?.() ?? new Map() }
}
