import { join } from 'node:path'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { joinMembers, memberOf, membersOf } from '../checkpoint/json-members.js'
import type { TensorInfo } from '../checkpoint/tensor-source.js'
import { requireWhole } from '../common/check-option.js'
import { OptionError, UnsupportedError } from '../common/errors.js'
import type { BlockDescription, DecoderDescription } from '../model/decoder/description.js'
import { describeDecoder } from '../model/families/index.js'

/**
 * A model as if it had only some of its blocks, in the order given; all else is its own.
 *
 * @param config of the model
 * @param kept numbers of blocks, counted from 0
 * @throws OptionError for a block that it does not have
 * @throws UnsupportedError where its `config.json` cannot say so, e.g. when every second block is of another kind
 */
export function keepBlocks(
  checkpoint: Checkpoint,
  config: DecoderDescription,
  kept: readonly number[],
): Checkpoint {
  requireBlocks(config, kept)
  const members = fewerBlocks(checkpoint, config.blocks.length, kept)
  const configText = joinMembers(members)
  const shorter = JSON.parse(configText) as Record<string, unknown>
  const described = describeDecoder(shorter, join(checkpoint.folder, 'config.json'))
  for (const [i, index] of kept.entries()) {
    requireSame(checkpoint.folder, described.blocks[i], config.blocks[index])
  }
  const oldNames = renamed(checkpoint, config, described, kept)
  const tensors = new Map<string, TensorInfo>()
  for (const [name, old] of oldNames) tensors.set(name, { ...checkpoint.tensors.get(old)!, name })
  const oldName = (name: string) => oldNames.get(name) ?? name
  return {
    ...checkpoint,
    config: shorter,
    configText,
    tensors,
    readBytes: (name) => checkpoint.readBytes(oldName(name)),
    readFloats: (name) => checkpoint.readFloats(oldName(name)),
    readRows: (name, first, count) => checkpoint.readRows(oldName(name), first, count),
  }
}

function requireBlocks({ blocks }: DecoderDescription, kept: readonly number[]): void {
  if (!Array.isArray(kept) || kept.length === 0) {
    throw new OptionError(
      'keepBlocks',
      `expected numbers of blocks, e.g. [0, 2], got ${JSON.stringify(kept)}`,
    )
  }
  for (const index of kept) requireWhole('keepBlocks', index, 0, blocks.length - 1)
  if (new Set(kept).size === kept.length) return
  throw new OptionError('keepBlocks', `names a block twice: ${kept.join(', ')}; expected each once`)
}

/** The members of `config.json` with the number of blocks, and lists of one entry a block, made to fit. */
function fewerBlocks(
  { configText, config }: Checkpoint,
  blocks: number,
  kept: readonly number[],
): Map<string, string> {
  const members = membersOf(configText)
  for (const [name, value] of Object.entries(config)) {
    if (!Array.isArray(value) || value.length !== blocks || !name.includes('layer')) continue
    members.set(name, memberOf(kept.map((index) => value[index])))
  }
  members.set('num_hidden_layers', String(kept.length))
  return members
}

/** The old names of all tensors that stay, by the new ones. */
function renamed(
  { tensors }: Checkpoint,
  { blocks }: DecoderDescription,
  described: DecoderDescription,
  kept: readonly number[],
): Map<string, string> {
  const names = new Map<string, string>()
  for (const old of tensors.keys()) {
    const block = blocks.find(({ prefix }) => old.startsWith(prefix))
    const at = block === undefined ? -1 : kept.indexOf(block.index)
    if (block === undefined) names.set(old, old)
    else if (at >= 0) names.set(described.blocks[at].prefix + old.slice(block.prefix.length), old)
  }
  return names
}

function requireSame(folder: string, found: BlockDescription, expected: BlockDescription): void {
  const nameless = ({ index, prefix, ...rest }: BlockDescription) =>
    JSON.stringify(rest).replaceAll(prefix, '')
  if (nameless(found) === nameless(expected)) return
  throw new UnsupportedError(
    `${folder}: block ${expected.index} cannot become block ${found.index}: its config.json gives blocks another shape or ` +
      'kind of attention by their place. Keep blocks so that each stays among its kind, or give a student of your own',
  )
}
