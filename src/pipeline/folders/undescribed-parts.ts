import { CheckpointError } from '../../common/errors.js'
import { normsOf } from '../../model/decoder/block.js'
import type { DecoderDescription } from '../../model/decoder/description.js'
import { blockLinears } from '../../model/decoder/linears.js'

/** The weight or the bias of a norm, or of those of single heads. */
const OF_A_NORM = /norm(\.norms\.\d+)?\.(weight|bias)$/

/**
 * Refuses weights with biases or norms that the description of their model does not have. Without them it would run, and
 * predict badly. Other tensors that nothing reads (frequencies of rotary positions, masks) are let through.
 *
 * @param folder how errors name the checkpoint
 * @param names of all tensors
 * @throws CheckpointError naming the tensor
 */
export function refuseUndescribedParts(
  folder: string,
  names: Iterable<string>,
  { family, blocks, head, finalNorm }: DecoderDescription,
): void {
  const [{ prefix }] = blocks
  const ofBlocks = prefix.slice(0, -'0.'.length)
  const known = new Set<string>()
  const modules = new Set([head.tensor, ...finalNorm.weights].map(moduleOf))
  const norms = [finalNorm, ...blocks.flatMap((block) => Object.values(normsOf(block)))]
  for (const { weights, biases } of norms) for (const name of [...weights, ...biases]) known.add(name)
  for (const { module, bias } of blocks.flatMap(blockLinears)) {
    modules.add(module)
    if (bias) known.add(`${module}.bias`)
  }
  for (const name of names) {
    if (known.has(name)) continue
    const isBias = name.endsWith('.bias') && modules.has(moduleOf(name))
    if (!isBias && !(name.startsWith(ofBlocks) && OF_A_NORM.test(name))) continue
    throw new CheckpointError(
      `${folder}: the weights hold ${name}, but a ${family} with this config.json has no such ${isBias ? 'bias' : 'norm'} ` +
        'and would be run without it. config.json is of another model, or lacks a field such as attention_bias: restore ' +
        'it; or, if the model was trained without this tensor, remove it from the weights',
    )
  }
}

function moduleOf(tensor: string): string {
  return tensor.replace(/\.(weight|bias)$/, '')
}
