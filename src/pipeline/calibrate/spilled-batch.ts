import { closeSync, openSync, read } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { fileError } from '../../checkpoint/file-errors.js'
import { nodeFileSystem, writeAt } from '../../checkpoint/file-system.js'
import { CheckpointError } from '../../common/errors.js'
import { type Matrix, matrix } from '../../common/matrix.js'
import { bytesOf } from '../../common/view-bytes.js'
import type { StateFields, TokenBatch } from './calibration-stream.js'
import type { StoredState } from './stored-state.js'

const readBytes = promisify(read)

/** The system limit of one read is 2^31 - 1 bytes. */
const MAX_READ_BYTES = 2 ** 30

/** Where activations lie that have no room in memory; goes with the run. */
export interface SpillFolder {
  readonly path: string
  /** How many files there were so far: each has a name of its own. */
  files: number
}

/** A matrix on the disk. */
interface SpilledMatrix {
  readonly file: string
  readonly rows: number
  readonly cols: number
  /** Batches that hold it: copies share what none of them has replaced. */
  holders: number
}

/** The matrices of a state by their field; the shares of experts are among them as `routes`. */
type Spilled = ReadonlyMap<string, SpilledMatrix>

/**
 * A batch whose matrices lie on the disk. Which tokens each expert gets, which is little, stays in memory.
 *
 * @throws CheckpointError when the disk refuses, now and whenever it is written
 */
export async function spillBatch(
  folder: SpillFolder,
  sequences: number,
  state: StoredState,
): Promise<TokenBatch> {
  const batch = batchOnDisk(folder, sequences, new Map(), undefined)
  await batch.write(state)
  return batch
}

function batchOnDisk(
  folder: SpillFolder,
  sequences: number,
  initial: Spilled,
  initialTokens: readonly Int32Array[] | undefined,
): TokenBatch {
  let fields = initial
  let tokens = initialTokens
  // what was read and comes back is not written again
  let seen = new WeakMap<Matrix, SpilledMatrix>()
  return {
    sequences,
    isSpilled: true,
    async read(wanted) {
      seen = new WeakMap()
      const reading = Array.from(fields)
        .filter(([field]) => !wanted || wanted.includes(field as StateFields[number]))
        .map(async ([field, spilled]) => {
          const values = await readMatrix(spilled)
          seen.set(values, spilled)
          return [field, field === 'routes' ? { tokens, weights: values } : values] as const
        })
      return Object.fromEntries(await Promise.all(reading)) as StoredState
    },
    async write(state, replaced) {
      const next = new Map<string, SpilledMatrix>()
      for (const [field, spilled] of fields) {
        if (replaced && !replaced.includes(field as StateFields[number])) next.set(field, spilled)
      }
      for (const [field, value] of Object.entries(state)) {
        if (value === undefined) continue
        const values = field === 'routes' ? (value as { weights: Matrix }).weights : (value as Matrix)
        if (field === 'routes') tokens = (value as { tokens: readonly Int32Array[] }).tokens
        next.set(field, seen.get(values) ?? (await writeMatrix(folder, values)))
      }
      const kept = new Set(next.values())
      for (const spilled of fields.values()) if (!kept.has(spilled)) await letGo(spilled)
      fields = next
    },
    copy() {
      for (const spilled of fields.values()) spilled.holders++
      return batchOnDisk(folder, sequences, fields, tokens)
    },
  }
}

async function writeMatrix(folder: SpillFolder, { rows, cols, data }: Matrix): Promise<SpilledMatrix> {
  const file = join(folder.path, String(folder.files++))
  const bytes = bytesOf(data)
  try {
    const handle = await nodeFileSystem.open(file, 'wx')
    try {
      await writeAt(handle, bytes, 0)
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw spillError(folder.path, error)
  }
  return { file, rows, cols, holders: 1 }
}

/** The error for a folder that takes no activations. */
export function spillError(path: string, error: unknown): unknown {
  return fileError(
    `cannot spill activations to ${path}, make room there or raise --memory (option memory)`,
    error,
  )
}

/** The file is opened and asked for before anything is awaited: so it is read while the caller computes. */
async function readMatrix({ file, rows, cols }: SpilledMatrix): Promise<Matrix> {
  const values = matrix(rows, cols)
  const bytes = new Uint8Array(values.data.buffer)
  let descriptor: number | undefined
  try {
    descriptor = openSync(file, 'r')
    for (let position = 0; position < bytes.length; ) {
      const wanted = Math.min(bytes.length - position, MAX_READ_BYTES)
      const { bytesRead } = await readBytes(descriptor, bytes, position, wanted, position)
      if (bytesRead === 0) {
        throw new CheckpointError(
          `${file}: ends at byte ${position}, ${bytes.length} were written. Something cut it short; start again`,
        )
      }
      position += bytesRead
    }
  } catch (error) {
    throw fileError(`cannot read ${file}`, error)
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
  return values
}

async function letGo(spilled: SpilledMatrix): Promise<void> {
  spilled.holders--
  if (spilled.holders === 0) await rm(spilled.file, { force: true })
}
