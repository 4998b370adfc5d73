import { UnsupportedError } from '../../common/errors.js'
import { fasterCore, processorFlags } from './openblas-core.js'

/** `cblas_sgemm` for row-major arrays; operands are addresses. */
export type Sgemm = (
  order: number,
  transA: number,
  transB: number,
  m: number,
  n: number,
  k: number,
  alpha: number,
  a: bigint,
  lda: number,
  b: bigint,
  ldb: number,
  beta: number,
  c: bigint,
  ldc: number,
) => void

export const SGEMM =
  'void cblas_sgemm(int, int, int, int, int, int, float, const void *, int, const void *, int, float, void *, int)'

/** A BLAS of the system, on one thread of its own for each call. */
export interface BlasLibrary {
  /** How the library calls itself, e.g. `OpenBLAS 0.3.21 ... Haswell`. */
  readonly description: string
  /** What `koffi` loads it by. */
  readonly file: string
  readonly sgemm: Sgemm
  /** Where an array's values are; holds as long as the array is in use. */
  addressOf(array: Float32Array): bigint
}

interface LoadedLibrary {
  func(declaration: string): (...args: unknown[]) => unknown
  unload(): void
}

/** What this file uses of the package koffi. */
interface Koffi {
  load(file: string): LoadedLibrary
  address(array: Float32Array): bigint
}

/** The names that libraries have where no one says which, by platform. */
const usualFiles: Readonly<Record<string, readonly string[]>> = {
  darwin: [
    '/System/Library/Frameworks/Accelerate.framework/Accelerate',
    '/opt/homebrew/opt/openblas/lib/libopenblas.dylib',
    'libopenblas.dylib',
  ],
  win32: ['libopenblas.dll', 'openblas.dll'],
}
const usualElsewhere = ['libopenblas.so.0', 'libopenblas.so']

/** What an OpenBLAS that was told nothing spins for after each product would be taken from our own threads. */
const SHORTEST_SPIN = '4'

/**
 * Loads the BLAS of the system: the library that the environment variable `GPTVQ_BLAS` names, else Accelerate on macOS,
 * else OpenBLAS.
 *
 * @throws UnsupportedError saying what to install
 */
export async function loadBlas(): Promise<BlasLibrary> {
  const koffi = await loadKoffi()
  const asked = process.env.GPTVQ_BLAS
  const files = asked ? [asked] : (usualFiles[process.platform] ?? usualElsewhere)
  process.env.OPENBLAS_THREAD_TIMEOUT ??= SHORTEST_SPIN
  const reasons: string[] = []
  for (const file of files) {
    try {
      return openBlas(koffi, file)
    } catch (error) {
      reasons.push(firstLine(error))
    }
  }
  throw new UnsupportedError(
    `products 'blas': no BLAS was found (tried ${files.join(', ')}). Install OpenBLAS (Debian and Ubuntu: ` +
      'apt-get install libopenblas0; macOS has one), name a library with a cblas_sgemm in the environment variable ' +
      `GPTVQ_BLAS, or leave products at 'wasm'. The reason given: ${reasons.join('; ')}`,
  )
}

async function loadKoffi(): Promise<Koffi> {
  try {
    // a variable, so that neither the compiler nor a bundler looks for a package that need not be there
    const name: string = 'koffi'
    const { default: koffi } = (await import(name)) as { default: Koffi }
    return koffi
  } catch (cause) {
    throw new UnsupportedError(
      "products 'blas' need the package koffi, which calls native libraries: npm install koffi. " +
        `The reason given: ${firstLine(cause)}`,
      { cause },
    )
  }
}

function openBlas(koffi: Koffi, file: string): BlasLibrary {
  const library = loadForProcessor(koffi, file)
  const sgemm = library.func(SGEMM) as Sgemm
  return {
    description: describe(library, file),
    file,
    sgemm,
    addressOf: (array) => koffi.address(array),
  }
}

/** Loads the library once more where it has chosen loops that are older than the processor, and no one has said which. */
function loadForProcessor(koffi: Koffi, file: string): LoadedLibrary {
  const library = koffi.load(file)
  const chosen = coreOf(library)
  if (chosen === undefined || process.env.OPENBLAS_CORETYPE !== undefined) return library
  const faster = fasterCore(chosen, processorFlags())
  if (faster === undefined) return library
  library.unload()
  process.env.OPENBLAS_CORETYPE = faster
  try {
    return koffi.load(file)
  } finally {
    delete process.env.OPENBLAS_CORETYPE
  }
}

/** What an OpenBLAS chose its loops for; undefined of other libraries. */
function coreOf(library: LoadedLibrary): string | undefined {
  try {
    return String(library.func('const char *openblas_get_corename()')())
  } catch {
    return undefined
  }
}

/** Also tells an OpenBLAS to use the thread that calls it and no other: ours do the cutting, always alike. */
function describe(library: LoadedLibrary, file: string): string {
  const core = coreOf(library)
  if (core === undefined) return file.split('/').at(-1)!
  library.func('void openblas_set_num_threads(int)')(1)
  const config = String(library.func('const char *openblas_get_config()')())
  const version = /OpenBLAS \S+/.exec(config)?.[0] ?? 'OpenBLAS'
  return `${version} ${core}`
}

const firstLine = (cause: unknown) => String(cause instanceof Error ? cause.message : cause).split('\n')[0]
