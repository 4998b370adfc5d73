import { baseline, relaxed } from './binaries.js'
import { createMemory, type KernelMemory } from './memory.js'

/** The two builds of the kernels: see {@link startRuntime}. */
export type KernelBuild = 'baseline' | 'relaxed'

/** A running instance of the kernels on the caller's thread. */
export interface Runtime {
  readonly build: KernelBuild
  readonly heap: KernelMemory
  readonly module: WebAssembly.Module
  readonly takeTiles: (thread: number) => void
}

/** The build that this engine runs fastest: with fused multiply-adds where it knows relaxed SIMD. */
export function bestBuild(): KernelBuild {
  return WebAssembly.validate(decodeBase64(relaxed)) ? 'relaxed' : 'baseline'
}

/** @param binaries the modules in base64; default: the kernels that quantize */
export function startRuntime(
  build: KernelBuild,
  binaries: Readonly<Record<KernelBuild, string>> = { baseline, relaxed },
): Runtime {
  const module = new WebAssembly.Module(decodeBase64(binaries[build]))
  const heap = createMemory()
  const { exports } = new WebAssembly.Instance(module, { env: { memory: heap.memory } })
  return { build, heap, module, takeTiles: exports.takeTiles as (thread: number) => void }
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
}
