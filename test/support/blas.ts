import { type BlasLibrary, loadBlas } from '../../src/kernels/native/blas-library.js'

/** The BLAS of this machine; undefined where there is none: then one line says that its tests are left out. */
export async function availableBlas(): Promise<BlasLibrary | undefined> {
  try {
    return await loadBlas()
  } catch (error) {
    console.warn(`No BLAS: its tests are skipped. ${(error as Error).message}`)
    return undefined
  }
}
