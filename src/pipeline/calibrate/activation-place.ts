import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { batchInMemory, type PlaceBatch } from './calibration-stream.js'
import { type SpillFolder, spillBatch, spillError } from './spilled-batch.js'

/** Where the activations of a run go. */
export interface ActivationPlace {
  readonly place: PlaceBatch
  /** Removes what lies on the disk. */
  close(): Promise<void>
}

/** Opens the place of a run's activations. @param folder of the run's unfinished work; default: one of the system's */
export async function openActivations(
  resident: number,
  folder: string | undefined,
): Promise<ActivationPlace> {
  let spill: SpillFolder | undefined
  return {
    async place(index, sequences, state) {
      if (index < resident) return batchInMemory(sequences, state)
      spill ??= await openSpill(folder)
      return spillBatch(spill, sequences, state)
    },
    async close() {
      if (spill) await rm(spill.path, { recursive: true, force: true })
    },
  }
}

async function openSpill(folder: string | undefined): Promise<SpillFolder> {
  try {
    if (folder === undefined) return { path: await mkdtemp(join(tmpdir(), 'gptvq-spill-')), files: 0 }
    const path = join(folder, 'spill')
    await mkdir(path)
    return { path, files: 0 }
  } catch (error) {
    throw spillError(folder ?? tmpdir(), error)
  }
}
