import type { Journal } from './journal.js'
import { readLayers, type SavedLayer, writeLayers } from './saved-layers.js'

const ENDS_FILE = 'ends.layers'

/** Embedding and head, where they were quantized. */
export async function keptEnds(journal: Journal | undefined): Promise<SavedLayer[] | undefined> {
  const file = journal?.state.ends
  return file === undefined ? undefined : readLayers(journal!.folder, file)
}

/** Keeps embedding and head. */
export async function keepEnds(journal: Journal | undefined, ends: readonly SavedLayer[]): Promise<void> {
  await journal?.save({ ends: ENDS_FILE }, { [ENDS_FILE]: writeLayers(ends) })
}
