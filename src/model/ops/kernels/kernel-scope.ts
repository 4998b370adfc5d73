import { forwardKernels } from '../../../kernels/forward-kernels.js'

/** A matrix in the kernels' memory. */
export interface KernelRows {
  readonly rows: number
  readonly cols: number
  /** Row-major; perhaps longer than rows x cols. */
  readonly data: Float32Array
}

/** What was made since the innermost {@link tidyRows} began; undefined outside. */
let scope: Set<KernelRows> | undefined

/** Makes a matrix whose content is unspecified; {@link freeRows} or the end of a tidy gives its memory back. */
export function newRows(rows: number, cols: number): KernelRows {
  const made = { rows, cols, data: forwardKernels().allocate(rows * cols) }
  scope?.add(made)
  return made
}

/** Gives back the memory of a matrix. */
export function freeRows(x: KernelRows): void {
  scope?.delete(x)
  forwardKernels().release(x.data)
}

/** Runs `use` and frees all matrices made by it, except for those it returns, alone or within objects. */
export function tidyRows<S>(use: () => S): S {
  const outer = scope
  const own = new Set<KernelRows>()
  scope = own
  let result: S | undefined
  try {
    result = use()
    return result
  } finally {
    scope = outer
    const returned = new Set<unknown>()
    collect(result, returned)
    for (const made of own) {
      if (returned.has(made)) outer?.add(made)
      else forwardKernels().release(made.data)
    }
  }
}

function collect(value: unknown, found: Set<unknown>): void {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || found.has(value)) return
  found.add(value)
  for (const inner of Object.values(value)) collect(inner, found)
}
