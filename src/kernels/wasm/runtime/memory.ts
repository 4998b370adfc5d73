import { UnsupportedError } from '../../../common/errors.js'

const PAGE = 65536
/** Largest memory of the modules; what they work on is copied in by panels that are far smaller. */
const MOST_PAGES = 32768
/** Where address space is short the memory may be smaller, but not less than what one panel needs. */
const LEAST_PAGES = 2048
/** The job board and the modules' own data. */
const RESERVED = 2 * PAGE
const ALIGNMENT = 64

/** A stretch of memory: where it starts and how many bytes it has. */
interface Stretch {
  readonly at: number
  readonly bytes: number
}

/** The memory that kernels and their threads share, and what of it is free. */
export interface KernelMemory {
  readonly memory: WebAssembly.Memory
  /** In rising order, no two of them adjacent. */
  free: Stretch[]
  readonly taken: Map<number, number>
}

/**
 * Memory that starts small and grows.
 *
 * @throws UnsupportedError when the system grants no address space for it
 */
export function createMemory(): KernelMemory {
  let refusal: unknown
  for (let maximum = MOST_PAGES; maximum >= LEAST_PAGES; maximum /= 4) {
    try {
      const memory = new WebAssembly.Memory({ initial: RESERVED / PAGE, maximum, shared: true })
      return { memory, free: [], taken: new Map() }
    } catch (error) {
      refusal = error
    }
  }
  throw new UnsupportedError(
    'the kernels get no memory from the system: its address space for this process is limited (ulimit -v), or used up. ' +
      'Raise the limit, or start Node with the environment variable NODE_OPTIONS=--disable-wasm-trap-handler: it then ' +
      'reserves 2 GB where it reserves 10 GB otherwise, and runs slower',
    { cause: refusal },
  )
}

/** How large the memory is now. */
export function pagesOf({ memory }: KernelMemory): number {
  return memory.buffer.byteLength / PAGE
}

/**
 * Takes `bytes` bytes, first fit, and returns their address. The content is unspecified. Views of the memory that were
 * made before stay valid.
 *
 * @throws UnsupportedError when the memory is exhausted
 */
export function allocate(heap: KernelMemory, bytes: number): number {
  const wanted = Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT)
  let index = heap.free.findIndex((stretch) => stretch.bytes >= wanted)
  if (index < 0) {
    grow(heap, wanted)
    index = heap.free.length - 1
  }
  const { at, bytes: room } = heap.free[index]
  if (room === wanted) heap.free.splice(index, 1)
  else heap.free[index] = { at: at + wanted, bytes: room - wanted }
  heap.taken.set(at, wanted)
  return at
}

/** Gives back what {@link allocate} returned. */
export function release(heap: KernelMemory, at: number): void {
  const bytes = heap.taken.get(at)
  if (bytes === undefined) throw new RangeError(`kernel memory at ${at} is not in use`)
  heap.taken.delete(at)
  insertFree(heap, { at, bytes })
}

/** Adds memory at the end, joined with free memory that lies there already. */
function grow(heap: KernelMemory, wanted: number): void {
  const end = heap.memory.buffer.byteLength
  const last = heap.free.at(-1)
  const atEnd = last !== undefined && last.at + last.bytes === end ? last.bytes : 0
  const pages = Math.ceil((wanted - atEnd) / PAGE)
  try {
    heap.memory.grow(pages)
  } catch (cause) {
    throw new UnsupportedError(
      `the kernels are out of memory: ${wanted} bytes wanted, ${end} in use already; ` +
        'quantize fewer layers at once, or use shorter sequences',
      { cause },
    )
  }
  insertFree(heap, { at: end, bytes: pages * PAGE })
}

function insertFree(heap: KernelMemory, stretch: Stretch): void {
  let { at, bytes } = stretch
  let index = heap.free.findIndex((other) => other.at > at)
  if (index < 0) index = heap.free.length
  let removed = 0
  const after = heap.free[index]
  if (after !== undefined && at + bytes === after.at) {
    bytes += after.bytes
    removed = 1
  }
  const before = heap.free[index - 1]
  if (before !== undefined && before.at + before.bytes === at) {
    at = before.at
    bytes += before.bytes
    index--
    removed++
  }
  heap.free.splice(index, removed, { at, bytes })
}
