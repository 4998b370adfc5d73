/** A module of Node, undefined elsewhere. Without an import, so that a bundle for browsers needs no stand-in. */
export function builtin(name: string): unknown {
  const { process } = globalThis as { process?: { getBuiltinModule?: (name: string) => unknown } }
  return process?.getBuiltinModule?.(name)
}
