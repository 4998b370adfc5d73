/** Where a layer stands in its model. */
export interface LayerPlace {
  /** Number of its block, counted from 0; null outside the blocks. */
  readonly block: number | null
  /** What it is in its block, e.g. `'self_attn.q_proj'`; outside the blocks its whole name. */
  readonly kind: string
}

/** Reads the place of a layer from its name: `model.layers.3.mlp.up_proj.weight` is `mlp.up_proj` of block 3. */
export function layerPlace(name: string): LayerPlace {
  const bare = name.replace(/\.weight$/, '')
  const inBlock = /(?:^|\.)(\d+)\.(.+)$/.exec(bare)
  if (inBlock === null) return { block: null, kind: bare }
  return { block: Number(inBlock[1]), kind: inBlock[2] }
}

/** The kinds of some layers, in the order in which they first appear, each with a short name and a mark. */
export interface LayerKinds {
  readonly kinds: readonly string[]
  /** The last part of each kind less `_proj`, e.g. `'up'`; the whole kind where two would be the same. */
  readonly names: readonly string[]
  /** One or two characters that stand for each kind below a bar. */
  readonly marks: readonly string[]
}

/** @param names of layers */
export function layerKinds(names: readonly string[]): LayerKinds {
  const kinds = [...new Set(names.map((name) => layerPlace(name).kind))]
  const short = kinds.map((kind) => (kind.split('.').at(-1) ?? kind).replace(/_?proj$/, '') || kind)
  const distinct = new Set(short).size === kinds.length ? short : kinds
  const initials = distinct.map((name) => [...name][0] ?? '')
  const marks = new Set(initials).size === kinds.length ? initials : kinds.map((_, i) => String(i + 1))
  return { kinds, names: distinct, marks }
}

/** The blocks of some layers in ascending order, those outside the blocks last as null. */
export function layerBlocks(names: readonly string[]): (number | null)[] {
  const blocks = [...new Set(names.map((name) => layerPlace(name).block))]
  return blocks.sort((a, b) => (a ?? Infinity) - (b ?? Infinity))
}
