import { ShapeError } from '../../common/errors.js'
import type { LinearWeights, NormWeights } from '../ops/ops.js'
import { releaseWeights, runningOps } from '../ops/running.js'
import type { BlockDescription, LinearDescription, NormDescription } from './description.js'
import { blockLinears, isExpert } from './linears.js'
import { assertTensorShape, type OnActivations, readTensor, type WeightSource } from './weights.js'

/** A block whose weights are loaded when they are needed: all but the experts at once, these one after the other. */
export interface Block {
  readonly description: BlockDescription
  readonly source: WeightSource
  readonly norms: BlockNorms
  /** The linear layers in memory, by kind. */
  readonly linears: Map<string, LinearWeights>
  /** Whether experts stay in memory too. */
  readonly keepsExperts?: boolean
  /** Whether quantized layers stay as they are stored. */
  readonly keepsPacked?: boolean
  /** Is shown what flows through the block, and may change it. */
  readonly onActivations?: OnActivations | undefined
}

/** How {@link openBlock} reads layers; by default experts are read at each use, and all layers expanded. */
export type BlockOptions = Pick<Block, 'keepsExperts' | 'keepsPacked' | 'onActivations'>

/** The norms of a block, as far as it has them. */
export interface BlockNorms {
  readonly attentionInput?: NormWeights
  readonly attentionOutput?: NormWeights
  readonly feedForwardInput?: NormWeights
  readonly feedForwardOutput?: NormWeights
  readonly queries?: NormWeights
  readonly keys?: NormWeights
}

/**
 * Checks, without reading them, that all tensors of a block are there and have the shapes that its description asks for.
 *
 * @throws CheckpointError naming the first that is missing or of another shape
 */
export function assertBlockTensors(source: WeightSource, block: BlockDescription): void {
  for (const { module, rows, cols, bias, kind } of blockLinears(block)) {
    assertTensorShape(source, `${module}.weight`, [rows, cols], shapeOf(kind))
    if (bias) assertTensorShape(source, `${module}.bias`, [rows], `the rows of ${kind}`)
  }
  for (const norm of Object.values(normsOf(block))) assertNormTensors(source, norm)
}

/** The same for a norm. */
export function assertNormTensors(source: WeightSource, { weights, biases, size }: NormDescription): void {
  for (const name of [...weights, ...biases]) assertTensorShape(source, name, [size], 'values of the norm')
}

/**
 * Opens a block: reads its norms and all linear layers but those of experts, which {@link withLinears} reads.
 *
 * @throws CheckpointError when a tensor is missing or of another shape, NumericError when a value is NaN or infinite
 */
export async function openBlock(
  source: WeightSource,
  description: BlockDescription,
  options: BlockOptions = {},
): Promise<Block> {
  const norms = Object.fromEntries(
    await Promise.all(
      Object.entries(normsOf(description)).map(async ([place, norm]) => [
        place,
        await readNorm(source, norm),
      ]),
    ),
  ) as BlockNorms
  const { onActivations } = source
  const block: Block = { description, source, norms, linears: new Map(), onActivations, ...options }
  await load(
    block,
    blockLinears(description).filter((linear) => options.keepsExperts || !isExpert(description, linear)),
  )
  return block
}

/** A block of the same weights that reads those it has not yet loaded, and replaced ones, from another source. */
export function forkBlock(block: Block, source: WeightSource): Block {
  return { ...block, source, linears: new Map(block.linears) }
}

/** Runs `use` with these layers in memory; experts leave it afterwards. */
export async function withLinears<R>(
  block: Block,
  linears: readonly LinearDescription[],
  use: () => R | Promise<R>,
): Promise<R> {
  await load(block, linears)
  try {
    return await use()
  } finally {
    if (!block.keepsExperts) {
      for (const linear of linears) if (isExpert(block.description, linear)) forget(block, linear.kind)
    }
  }
}

/** The next use of a layer reads its weight from the block's source again. */
export function reloadLinear({ description, linears, source }: Block, kind: string): Promise<void> {
  const linear = blockLinears(description).find((own) => own.kind === kind)!
  linears.delete(kind)
  return isExpert(description, linear) ? Promise.resolve() : load({ description, source, linears }, [linear])
}

/** Has the running engine prepare the layers in memory for many uses. */
export function holdBlock({ linears }: Block): void {
  for (const [kind, weights] of linears) linears.set(kind, runningOps().hold(weights))
}

/** Frees what engines hold for a block. */
export function disposeBlock(block: Block): void {
  for (const kind of [...block.linears.keys()]) forget(block, kind)
  for (const norm of Object.values(block.norms)) releaseWeights(norm)
}

/** The weights of a layer in memory. */
export function weightsOf({ linears, description }: Block, { kind }: LinearDescription): LinearWeights {
  const weights = linears.get(kind)
  if (weights === undefined) throw new ShapeError(`${description.prefix}${kind} is not in memory`)
  return weights
}

/** The values of a layer's weight, rows x cols, where they are in memory as such. */
export function loadedWeight({ linears }: Block, kind: string): Float32Array | undefined {
  const weight = linears.get(kind)?.weight
  return weight instanceof Float32Array ? weight : undefined
}

/** Reads a norm's values. */
export async function readNorm(source: WeightSource, norm: NormDescription): Promise<NormWeights> {
  const { kind, size, epsilon, weights, biases, offset } = norm
  const scale = weights.length > 0 ? await readRuns(source, weights, size) : new Float32Array(size).fill(1)
  if (offset !== 0) for (let i = 0; i < scale.length; i++) scale[i] += offset
  const shift = biases.length > 0 ? await readRuns(source, biases, size) : undefined
  return { kind, size, epsilon, scale, shift }
}

async function readRuns(source: WeightSource, names: readonly string[], size: number): Promise<Float32Array> {
  const runs = new Float32Array(names.length * size)
  for (const [i, name] of names.entries()) {
    runs.set(await readTensor(source, name, [size], 'values of the norm'), i * size)
  }
  return runs
}

async function load(block: Omit<Block, 'norms'>, linears: readonly LinearDescription[]): Promise<void> {
  for (const { kind, module, rows, cols, bias } of linears) {
    if (block.linears.has(kind)) continue
    assertTensorShape(block.source, `${module}.weight`, [rows, cols], shapeOf(kind))
    const packed = block.keepsPacked ? await block.source.packed?.(`${module}.weight`) : undefined
    const weight = packed ?? (await readTensor(block.source, `${module}.weight`, [rows, cols], shapeOf(kind)))
    const biases = bias
      ? await readTensor(block.source, `${module}.bias`, [rows], `the rows of ${kind}`)
      : undefined
    block.linears.set(kind, { kind, rows, cols, weight, bias: biases })
  }
}

function forget({ linears }: Block, kind: string): void {
  const weights = linears.get(kind)
  if (weights !== undefined) releaseWeights(weights)
  linears.delete(kind)
}

/** The norms of a block by their places. */
export function normsOf({ norms, attention }: BlockDescription): Record<string, NormDescription> {
  const { queryNorm: queries, keyNorm: keys } = attention
  return { ...norms, ...(queries && { queries }), ...(keys && { keys }) }
}

function shapeOf(kind: string): string {
  return `rows and columns of ${kind}`
}
