import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { fileError, systemErrorCode } from '../../checkpoint/file-errors.js'
import {
  type FileSystem,
  nodeFileSystem,
  syncFolder,
  writeAt,
  writeNewFile,
} from '../../checkpoint/file-system.js'
import { readJsonObject } from '../../checkpoint/json-file.js'
import { isLockFile } from '../../checkpoint/output/folder-lock.js'
import {
  claimUnfinished,
  folderBytes,
  type UnfinishedFolder,
} from '../../checkpoint/output/unfinished-folder.js'
import { folderSource } from '../../checkpoint/sources/folder-source.js'
import { CheckpointError } from '../../common/errors.js'
import { formatBytes } from '../../report/drawing/units.js'
import type { LayerRatios } from '../mixed/effects.js'
import type { LayerBits } from '../mixed/options.js'
import type { MixedReport } from '../mixed/report.js'
import { NO_TIME, type PhaseSeconds } from '../quantize/phase-seconds.js'
import { type RunIdentity, requireSameRun } from './identity.js'

/** What a run has done so far. Files are named without their folder. */
export interface JournalState {
  /** Of the journal's own form. */
  readonly version: 2
  /** When the run was begun, as ISO 8601. */
  readonly begun: string
  readonly identity: RunIdentity
  /** Blocks of the model. */
  readonly blocksOfModel: number
  /** SHA-256 of the calibration tokens, once they are known. */
  readonly tokens?: string
  /** Calibration text that the model wrote. */
  readonly written?: {
    readonly file: string
    readonly count: number
    readonly length: number
    readonly notes: readonly string[]
  }
  /** A file of embedding and head, where they are quantized by what they see of the text. */
  readonly ends?: string
  /** Of a budget of bits: what is known of the layers of the first blocks. */
  readonly sensitivity?: SavedSensitivity | undefined
  /** How the budget was shared out. */
  readonly mixed?: {
    readonly layers: readonly (readonly [name: string, bits: LayerBits])[]
    readonly report: MixedReport
  }
  /** A file for each finished block, the first block first. */
  readonly blocks: readonly string[]
  /** The calibration tokens behind the last finished block. */
  readonly streams?: { readonly present: string; readonly full?: string } | undefined
  /** Time that was spent. */
  readonly seconds: PhaseSeconds & { readonly total: number }
}

/** Where the measurement of sensitivities stands. */
export interface SavedSensitivity {
  /** The block that is next. */
  readonly next: number
  readonly measured: readonly (readonly [name: string, ratios: LayerRatios])[]
}

/** Fills a file of the journal's folder. */
export type WriteFile = (handle: FileHandle) => Promise<void>

/** What a run has done so far, on the disk. */
export interface Journal {
  readonly folder: string
  /** As it was last saved. */
  readonly state: JournalState
  /** Where the output is written until it is whole. */
  readonly partial: string
  /**
   * Writes files, and says so in the journal once they are on the disk; files that it names no longer are removed.
   *
   * @throws an error of the system, e.g. of a full disk; what was saved before is kept
   */
  save(change: Partial<JournalState>, files?: Readonly<Record<string, WriteFile>>): Promise<void>
  /** Whether anything is done that another run could go on with. */
  hasWork(): boolean
  /** Leaves all as it is for another run. @returns what there is, in words */
  keep(): Promise<string>
  /** Removes all of it. */
  remove(): Promise<void>
}

const JOURNAL_FILE = 'journal.json'

/** How a run deals with what an earlier one has left. */
export interface JournalOptions {
  /** Go on with it. */
  readonly resume: boolean
  readonly blocks: number
  readonly system?: FileSystem
}

/**
 * Opens the journal of a run, that of an unfinished one where there is one.
 *
 * @throws CheckpointError when there is one that was not asked for, saying how large it is and what to do
 * @throws OptionError when the two runs differ, saying in what
 */
export async function openJournal(
  output: string,
  identity: RunIdentity,
  { resume, blocks, system = nodeFileSystem }: JournalOptions,
): Promise<Journal> {
  const folder = await claimUnfinished(system, output)
  const begun = new Date().toISOString()
  const seconds = { ...NO_TIME, total: 0 }
  const fresh: JournalState = { version: 2, begun, identity, blocksOfModel: blocks, blocks: [], seconds }
  try {
    const found = await readState(system, folder.path)
    const state = found !== undefined && isWork(found) ? found : fresh
    if (state !== fresh) {
      if (!resume) throw await unasked(system, output, folder.path, state)
      requireSameRun(folder.path, state.identity, identity)
    }
    await removeOthers(system, folder.path, state)
    return journalOf(system, folder, state)
  } catch (error) {
    await folder.release()
    throw fileError(`cannot use ${folder.path}, make it writable or choose another output`, error)
  }
}

function journalOf(system: FileSystem, folder: UnfinishedFolder, initial: JournalState): Journal {
  let state = initial
  const { path } = folder
  return {
    folder: path,
    partial: join(path, 'output'),
    get state() {
      return state
    },
    async save(change, files = {}) {
      const before = filesOf(state)
      const next = { ...state, ...change }
      try {
        for (const [name, write] of Object.entries(files)) await writeFresh(system, join(path, name), write)
        await syncFolder(system, path)
        await writeState(system, path, next)
        state = next
        const kept = new Set(filesOf(state))
        for (const name of before) if (!kept.has(name)) await system.rm(join(path, name), { force: true })
      } catch (error) {
        throw fileError(`cannot keep what is done in ${path}`, error)
      }
    },
    hasWork: () => isWork(state),
    async keep() {
      try {
        return await described(system, path, state)
      } finally {
        await folder.release()
      }
    },
    remove: folder.remove,
  }
}

/** The journal is replaced whole, so that it is either the one before or the one after. */
async function writeState(system: FileSystem, folder: string, state: JournalState): Promise<void> {
  const path = join(folder, JOURNAL_FILE)
  const next = `${path}.next`
  const text = new TextEncoder().encode(`${JSON.stringify(state, undefined, 2)}\n`)
  await writeFresh(system, next, (handle) => writeAt(handle, text, 0))
  await system.rename(next, path)
  await syncFolder(system, folder)
}

/** Writes a file in the place of one that a run left half-written. */
async function writeFresh(system: FileSystem, path: string, write: WriteFile): Promise<void> {
  await system.rm(path, { force: true })
  await writeNewFile(system, path, write)
}

async function readState(system: FileSystem, folder: string): Promise<JournalState | undefined> {
  const path = join(folder, JOURNAL_FILE)
  try {
    await system.stat(path)
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined
    throw error
  }
  const source = folderSource(folder)
  const read = readJsonObject(source, JOURNAL_FILE).finally(() => source.close?.())
  const state = (await read) as Partial<JournalState>
  const isKnown = state.version === 2 && Array.isArray(state.blocks) && typeof state.identity === 'object'
  if (isKnown) return state as JournalState
  throw new CheckpointError(
    `${path}: is no journal that this version reads (version ${state.version}). Go on with the version of gptvq that ` +
      `wrote it, or remove ${folder} to begin anew`,
  )
}

/** Files that a run was still writing when it ended. */
async function removeOthers(system: FileSystem, folder: string, state: JournalState): Promise<void> {
  const kept = new Set([...filesOf(state), JOURNAL_FILE])
  for (const name of await system.readdir(folder)) {
    if (!kept.has(name) && !isLockFile(name))
      await system.rm(join(folder, name), { recursive: true, force: true })
  }
}

function filesOf({ written, ends, blocks, streams }: JournalState): string[] {
  return [written?.file, ends, ...blocks, streams?.present, streams?.full].filter(
    (name) => name !== undefined,
  )
}

function isWork({ written, ends, sensitivity, mixed, blocks }: JournalState): boolean {
  return blocks.length > 0 || (written ?? ends ?? sensitivity ?? mixed) !== undefined
}

async function unasked(system: FileSystem, output: string, folder: string, state: JournalState) {
  return new CheckpointError(
    `${output}: there is an unfinished run of ${state.begun.slice(0, 10)}, ${await described(system, folder, state)}. ` +
      'Go on with it with --resume (option resume), or remove that folder to begin anew',
  )
}

async function described(system: FileSystem, folder: string, state: JournalState): Promise<string> {
  const { blocks, blocksOfModel, mixed, sensitivity } = state
  const measured = mixed ? ', bits shared out' : sensitivity ? ', sensitivities measured in part' : ''
  const bytes = formatBytes(await folderBytes(system, folder))
  return `${blocks.length} of ${blocksOfModel} blocks done${measured}, ${bytes} in ${folder}`
}
