import type { Checkpoint } from '../../checkpoint/checkpoint.js'
import type { QuantizationConfig } from '../../checkpoint/quantized/quantized-config.js'
import { CheckpointError } from '../../common/errors.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { allLinearLayers } from '../../model/decoder/linears.js'
import { refuseUndescribedParts } from './undescribed-parts.js'

/**
 * Refuses a model of which `config.json` tells only a part: one that has a block after the last, biases or norms beside its
 * own, or quantized layers that are none of its own. It would run, and predict badly.
 *
 * @throws CheckpointError
 */
export function requireWholeModel(
  { folder, tensors }: Checkpoint,
  description: DecoderDescription,
  quantization: QuantizationConfig | undefined,
): void {
  const { blocks, embedding, head } = description
  const modules = new Set(Object.keys(quantization?.modules ?? {}))
  const { module } = blocks[0].attention.output
  const next = module.replace(/\.0\./, `.${blocks.length}.`)
  if (next !== module && (tensors.has(`${next}.weight`) || modules.has(next))) {
    throw new CheckpointError(
      `${folder}: config.json says that there are ${blocks.length} blocks, but the weights hold another, with ${next}. ` +
        'config.json is of another model or was changed: restore it',
    )
  }
  refuseUndescribedParts(folder, tensors.keys(), description)
  const known = new Set([
    embedding.tensor,
    head.tensor,
    ...allLinearLayers(description).map(({ name }) => name),
  ])
  for (const name of modules) {
    if (known.has(`${name}.weight`)) continue
    throw new CheckpointError(
      `${folder}: config.json has a quantized layer ${name}, which the model that it describes does not have. ` +
        'config.json was changed or is of another model: restore it, or quantize the model again',
    )
  }
}
