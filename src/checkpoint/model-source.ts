import { type OptionNames, requirePath } from '../common/check-option.js'
import { CheckpointError } from '../common/errors.js'
import type { ByteSource } from './byte-source.js'

/**
 * The files of one model, wherever they lie: on a disk, behind a URL, picked in a browser. It stands wherever a model's
 * path can.
 */
export interface ModelSource {
  /** How errors name it, e.g. a path or URL. */
  readonly place: string
  /** The name of the file that is the model, where it is a single one: a GGUF file. Undefined for a model folder. */
  readonly main?: string
  /** Names of its files, without folders, sorted. @throws CheckpointError when they cannot be listed */
  list(): Promise<readonly string[]>
  /** Bytes of a file; undefined when that is no plain file. @throws CheckpointError when it cannot be looked at */
  size(name: string): Promise<number | undefined>
  /** Opens a file for reading. @throws CheckpointError when it is missing or cannot be read */
  open(name: string): Promise<ByteSource>
  /** Of a file that is a link out of the model's folder, or to nowhere: where it leads. Left out where there are no links. */
  outwardLink?(name: string): Promise<OutwardLink | undefined>
  /** Frees what is held for open files; called when a model that was opened from it is closed. Can be called again. */
  close?(): Promise<void>
}

/** A link among the files of a model that leads out of its folder, or nowhere. */
export interface OutwardLink {
  /** What it leads to, or would if that were there. */
  readonly to: string
  /** Whether nothing is there. */
  readonly isBroken: boolean
}

/** A model: its path, its name on the hub, in a browser its URL; or its files, wherever they lie. */
export type ModelPlace = string | ModelSource

/** For a model that has to be fetched from the hub first; one on this machine needs neither. */
export interface FetchOptions {
  /** Receives which file is fetched, as a step of which nothing of the work itself is done. */
  readonly onProgress?: ((progress: { readonly step: string; readonly done: number }) => void) | undefined
  /** Stops the fetch with an AbortedError; what was fetched is kept. */
  readonly signal?: AbortSignal | undefined
}

/** The names of these. */
export const fetchOptionNames: OptionNames<FetchOptions> = { onProgress: true, signal: true }

/** Of the options of a whole work those of its fetches, which take no others. */
export function fetchOptionsOf({ onProgress, signal }: FetchOptions): FetchOptions {
  return { onProgress, signal }
}

/** Checks what is given as a model. @throws OptionError */
export function requireModel(option: string, model: ModelPlace): void {
  if (!isModelSource(model)) requirePath(option, model)
}

/** Whether a model is given by its files, not by its path. */
export function isModelSource(model: ModelPlace): model is ModelSource {
  if (typeof model !== 'object' || model === null) return false
  return [model.list, model.size, model.open].every((method) => typeof method === 'function')
}

/** How errors name a model. */
export function placeOf(model: ModelPlace): string {
  return typeof model === 'string' ? model : model.place
}

/** How errors name one of its files. */
export function fileIn({ place }: { readonly place: string }, name: string): string {
  return place === '' ? name : `${place.replace(/[\\/]+$/, '')}/${name}`
}

/** The last part of a path or URL. */
export function lastPart(path: string): string {
  return path.slice(1 + Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')))
}

/** Largest file besides the weights that is read whole. */
const MAX_SMALL_BYTES = 100_000_000

/**
 * Reads a whole file of a model that is not its weights.
 *
 * @throws CheckpointError when the file is missing (its cause is the system's error), no plain file, or over 100 MB
 */
export async function readSmallFile(source: ModelSource, name: string): Promise<Uint8Array> {
  const file = await source.open(name)
  if (file.size <= MAX_SMALL_BYTES) return file.readAt(0, file.size)
  throw new CheckpointError(
    `${file.path}: has ${file.size} bytes, expected at most ${MAX_SMALL_BYTES}. Replace it by the file of the original model`,
  )
}
