/**
 * Counts the elements of all Float32Array and Float64Array that `action` makes, by `new`, `from`, `of` and `slice`;
 * views on existing buffers count nothing.
 */
export async function countAllocatedBy(
  action: () => Promise<unknown>,
): Promise<{ float32: number; float64: number }> {
  const float32 = spyOn('Float32Array')
  const float64 = spyOn('Float64Array')
  try {
    await action()
  } finally {
    float32.restore()
    float64.restore()
  }
  return { float32: float32.elements(), float64: float64.elements() }
}

function spyOn(name: 'Float32Array' | 'Float64Array') {
  const original = globalThis[name]
  const { slice } = original.prototype
  let elements = 0
  const count = <T extends ArrayLike<number>>(made: T): T => {
    elements += made.length
    return made
  }
  Object.assign(globalThis, {
    [name]: new Proxy(original, {
      construct(target, args, newTarget) {
        const made = Reflect.construct(target, args, newTarget)
        const isView = args[0] instanceof ArrayBuffer || args[0] instanceof SharedArrayBuffer
        return isView ? made : count(made)
      },
    }),
  })
  Object.defineProperty(original.prototype, 'slice', {
    configurable: true,
    writable: true,
    value(...range: number[]): ArrayLike<number> {
      return count(Reflect.apply(slice, this, range))
    },
  })
  return {
    elements: () => elements,
    restore() {
      Object.assign(globalThis, { [name]: original })
      Reflect.deleteProperty(original.prototype, 'slice')
    },
  }
}
