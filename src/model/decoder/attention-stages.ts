import type { NormWeights } from '../ops/ops.js'
import { applyLinear, passActivations } from './activations.js'
import type { Block } from './block.js'
import {
  type AttentionOperands,
  attentionParts,
  type BlockRun,
  type BlockState,
  type HessianGroup,
  rowsOf,
  type Stage,
  type Stretch,
} from './block-state.js'
import { gatedBy, sharesInput } from './dense-stages.js'
import type {
  AttentionDescription,
  AttentionProjections,
  BlockDescription,
  LinearDescription,
} from './description.js'
import { entranceOf, projectionsOf } from './linears.js'
import { rotaryTables } from './rotary.js'

/** Attention: the projections of queries, keys and values, then that of the output. */
export function attentionStages(description: BlockDescription): Stage[] {
  const { attention, norms, parallel, residualScale } = description
  // with one norm for both parts, the feed-forward layers read what the projections read
  const beside = sharesInput(description) ? description.feedForward : undefined
  const others = beside ? entranceOf(beside) : []
  const projections = [...projectionsOf(attention.projections), ...others]
  return [
    {
      linears: projections,
      groups: groupsOf(attention.projections, others),
      uses: projections,
      operands: (run, input) => turnedOperands(run, attention, input),
      input: ({ ops, block }, { residual }) =>
        block.norms.attentionInput ? ops.norm(residual, block.norms.attentionInput) : residual,
      advance: (run, state, input) => ({
        ...state,
        attended: attend(run, attention, input),
        ...(parallel && { entering: state.residual }),
        ...(beside && { gated: gatedBy(run, beside, input) }),
      }),
    },
    {
      linears: [attention.output],
      uses: [attention.output],
      ...(norms.attentionOutput === undefined && { residualScale }),
      input: (_, { attended }) => attended!,
      advance: ({ ops, block }, { attended, ...state }, input) => ({
        ...state,
        residual: addPart({ ops, block }, state, attention.output, input),
      }),
    },
  ]
}

/**
 * The layers that read the normed input, by what of attention they make.
 *
 * @param others read it too, and make none of it: with the queries, every token counts the same for them
 */
function groupsOf(
  projections: AttentionProjections,
  others: readonly LinearDescription[],
): readonly HessianGroup[] {
  if (projections.kind === 'fused') {
    const all: HessianGroup = { linears: [projections.all], makes: attentionParts }
    return others.length === 0 ? [all] : [all, { linears: others, makes: [] }]
  }
  const { queries, keys, values } = projections
  return [
    { linears: [queries, ...others], makes: ['queries'] },
    { linears: [keys], makes: ['keys'] },
    { linears: [values], makes: ['values'] },
  ]
}

function addPart<T>(
  { ops, block }: Pick<BlockRun<T>, 'ops' | 'block'>,
  { residual }: BlockState<T>,
  output: LinearDescription,
  input: T,
): T {
  const part = applyLinear({ ops, block }, output, input)
  const norm = block.norms.attentionOutput
  return ops.add(residual, norm ? ops.norm(part, norm) : part, block.description.residualScale)
}

/** What attention gives, tokens x (heads * headDim), for its normed input. */
function attend<T>(run: BlockRun<T>, attention: AttentionDescription, input: T): T {
  const { ops, stretches } = run
  const all = operandsOf(run, attention, input)
  if (stretches.length === 1) return attendStretch(run, stretches[0], attention, all)
  let first = 0
  return ops.stack(
    stretches.map((stretch) => {
      const rows = Int32Array.from({ length: rowsOf(stretch) }, (_, i) => first + i)
      first += rows.length
      const own = (x: T) => ops.pick(x, rows)
      const part = { queries: own(all.queries), keys: own(all.keys), values: own(all.values) }
      return attendStretch(run, stretch, attention, part)
    }),
  )
}

/** Queries, keys and values before they are turned. */
function operandsOf<T>(
  { ops, block }: Pick<BlockRun<T>, 'ops' | 'block'>,
  attention: AttentionDescription,
  input: T,
): AttentionOperands<T> {
  const { clip } = attention
  const projected = project({ ops, block }, attention, input)
  const limited = (x: T) => (clip === undefined ? x : ops.clip(x, clip))
  const withNorm = (x: T, norm: NormWeights | undefined) => limited(norm ? ops.norm(x, norm) : x)
  const normed = {
    queries: withNorm(projected.queries, block.norms.queries),
    keys: withNorm(projected.keys, block.norms.keys),
  }
  return { ...normed, values: limited(projected.values) }
}

function attendStretch<T>(
  run: Pick<BlockRun<T>, 'ops' | 'block'>,
  { tokens, span, cache }: Stretch,
  { heads, kvHeads, headDim, scale, softCap, window, rotary }: AttentionDescription,
  { queries, keys, values }: AttentionOperands<T>,
): T {
  const { ops, block } = run
  const turned = turnAt(ops, rotary, { tokens, span })
  const shape = { heads, kvHeads, headDim, scale, softCap, window }
  const cached = (x: T, part: string) =>
    passActivations(run, { name: `${block.description.prefix}${part}`, width: headDim }, x)
  const [ownKeys, ownValues] = [cached(turned(keys, kvHeads), 'keys'), cached(values, 'values')]
  return ops.attend(turned(queries, heads), ownKeys, ownValues, tokens, shape, cache)
}

/** Turns queries or keys, rows of `count` heads, as their tokens stand. */
function turnAt<T>(
  ops: BlockRun<T>['ops'],
  rotary: AttentionDescription['rotary'],
  { tokens, span }: Pick<Stretch, 'tokens' | 'span'>,
): (x: T, count: number) => T {
  const tables = rotary && rotaryTables(rotary, span)
  return (x, count) => (tables ? ops.rotate(x, tokens, count, tables) : x)
}

/** What attention computes its scores from for the normed input of whole sequences. */
function turnedOperands<T>(
  run: BlockRun<T>,
  attention: AttentionDescription,
  input: T,
): AttentionOperands<T> {
  const { queries, keys, values } = operandsOf(run, attention, input)
  const turned = turnAt(run.ops, attention.rotary, run.stretches[0])
  return { queries: turned(queries, attention.heads), keys: turned(keys, attention.kvHeads), values }
}

function project<T>(
  { ops, block }: { ops: BlockRun<T>['ops']; block: Block },
  { heads, kvHeads, headDim, projections }: AttentionDescription,
  input: T,
): AttentionOperands<T> {
  const linear = (description: LinearDescription) => applyLinear({ ops, block }, description, input)
  if (projections.kind === 'separate') {
    const { queries, keys, values } = projections
    return { queries: linear(queries), keys: linear(keys), values: linear(values) }
  }
  const all = linear(projections.all)
  const [q, k] = [heads * headDim, kvHeads * headDim]
  const take = (first: number, count: number, width: number) => ops.columns(all, first, count, width)
  if (projections.order === 'parts') {
    const width = q + 2 * k
    return { queries: take(0, q, width), keys: take(q, k, width), values: take(q + k, k, width) }
  }
  const width = 3 * headDim
  return {
    queries: take(0, headDim, width),
    keys: take(headDim, headDim, width),
    values: take(2 * headDim, headDim, width),
  }
}
