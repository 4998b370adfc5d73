import type { WeightSource } from '../../model/decoder/weights.js'

/** What a tensor is multiplied by. */
interface Scaling {
  /** A factor for each row, or for each value of a tensor with one dimension. */
  rows?: Float64Array
  /** A factor for each column. */
  columns?: Float64Array
  /** What is added to the values before, and taken away behind: norms that store their distance from 1. */
  offset?: number
}

/** Collects factors for the tensors of a model; several for the rows or columns of one tensor are multiplied. */
export interface Scalings {
  addRows(tensor: string, factors: Float64Array, offset?: number): void
  addColumns(tensor: string, factors: Float64Array): void
  /** The tensors that have any. */
  readonly names: ReadonlySet<string>
  /** The weights with the factors in them. */
  source(plain: WeightSource): WeightSource
}

/** No factors yet. */
export function openScalings(): Scalings {
  const scalings = new Map<string, Scaling>()
  const names = new Set<string>()
  const of = (tensor: string): Scaling => {
    names.add(tensor)
    if (!scalings.has(tensor)) scalings.set(tensor, {})
    return scalings.get(tensor)!
  }
  const product = (a: Float64Array | undefined, b: Float64Array) =>
    a === undefined ? b.slice() : a.map((factor, i) => factor * b[i])
  return {
    names,
    addRows(tensor, factors, offset = 0) {
      const scaling = of(tensor)
      scaling.rows = product(scaling.rows, factors)
      scaling.offset = offset
    },
    addColumns(tensor, factors) {
      const scaling = of(tensor)
      scaling.columns = product(scaling.columns, factors)
    },
    source: ({ shape, floats, rows, onActivations }) => ({
      shape,
      onActivations,
      floats: async (name) => scaled(await floats(name), scalings.get(name), shape(name)!, 0),
      rows: async (name, first, count) =>
        scaled(await rows(name, first, count), scalings.get(name), shape(name)!, first),
    }),
  }
}

function scaled(
  values: Float32Array,
  scaling: Scaling | undefined,
  shape: readonly number[],
  first: number,
): Float32Array {
  if (scaling === undefined) return values
  const { rows, columns, offset = 0 } = scaling
  const cols = shape.length === 1 ? 1 : shape[shape.length - 1]
  const result = new Float32Array(values.length)
  for (let i = 0; i < values.length; i++) {
    const row = first + Math.floor(i / cols)
    const factor = (rows ? rows[row] : 1) * (columns ? columns[i % cols] : 1)
    result[i] = offset === 0 ? values[i] * factor : (values[i] + offset) * factor - offset
  }
  return result
}
