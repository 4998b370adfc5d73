import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileError } from '../checkpoint/file-errors.js'
import { CONFIG_FILE } from '../checkpoint/folder-names.js'
import { outwardLink } from '../checkpoint/sources/folder-links.js'
import { type OptionNames, refuseUnknown, requirePath, requireWhole } from '../common/check-option.js'
import { CheckpointError, OptionError } from '../common/errors.js'
import { shownValue } from '../common/shown-value.js'
import { type HubName, hubSettings, parseHubName } from '../hub/hub-settings.js'
import { type UploadedFile, uploadFiles } from '../hub/upload-files.js'
import { readCard } from '../pipeline/folders/card-matter.js'
import { inspectModel } from '../pipeline/folders/inspect-model.js'
import { madeSection } from '../pipeline/folders/model-card.js'
import type { OnProgress } from '../pipeline/progress.js'
import { type CardScores, modelCard } from './model-card.js'

/** What to upload, and where to. */
export interface PushModelOptions {
  /** A model folder: quantized, plain, or exported as ONNX. */
  model: string
  /** `org/name`, or `org/name@branch` of a branch that is there. The model is made where there is none. */
  repo: string
  /** The model it was made of, `org/name`; for the model card. Default: what the folder's own README.md says. */
  baseModel?: string
  /** As the hub spells it, e.g. `'apache-2.0'`. Default: what the folder's own README.md says. */
  license?: string
  /** A JSON file that `gptvq eval --json` wrote: its figures go into the model card. */
  scores?: string
  /** A file to be the model card, in place of a generated one. */
  card?: string
  /** Whether a model that is made is private. Default false. */
  private?: boolean
  /** Of the commit. Default `'Upload with gptvq'`. */
  message?: string
  /** Receives what is being done and how much of it is done. */
  onProgress?: OnProgress
  /** Stops the work with an AbortedError; nothing is added to the hub then. */
  signal?: AbortSignal
  /** Milliseconds before a failed request is tried again, default 500; each further time twice as long. */
  patience?: number
}

const optionNames: OptionNames<PushModelOptions> = {
  model: true,
  repo: true,
  baseModel: true,
  license: true,
  scores: true,
  card: true,
  private: 'switch',
  message: true,
  onProgress: true,
  signal: true,
  patience: true,
}

/** A model that is on the hub now. */
export interface PushedModel {
  /** Its page. */
  readonly url: string
  /** The commit that added the files. */
  readonly commit: string
  /** Names of weights that were there before and are not among the files: the commit removed them. Sorted. */
  readonly removed: readonly string[]
  /** Names of the files, sorted. */
  readonly files: readonly string[]
  /** Bytes of the folder's files. */
  readonly bytes: number
}

const CARD = 'README.md'
/** Folders in folders that are looked into. */
const DEPTH = 2

/**
 * Uploads a model folder to the Hugging Face hub in one commit, with a model card: what it was made of, licence, method,
 * bits, sizes, scores, and how to load it in each runtime. Where the folder has safetensors weights, those that were there
 * under other names (one file, shards, their index) are removed. The token is `HF_TOKEN`, the hub `HF_ENDPOINT`.
 *
 * @throws OptionError; CheckpointError when the folder is no model, without a token, or when the hub refuses
 */
export async function pushModel(options: PushModelOptions): Promise<PushedModel> {
  refuseUnknown(options, optionNames)
  requirePath('model', options.model)
  const { model, message = 'Upload with gptvq', onProgress, signal, patience } = options
  const name = requireHubName('repo', options.repo)
  if (patience !== undefined) requireWhole('patience', patience, 0)
  if (typeof message !== 'string' || message === '') {
    throw new OptionError('message', `expected a text that is not empty, got ${shownValue(message)}`)
  }
  if (options.baseModel !== undefined) requireHubName('baseModel', options.baseModel)
  const found = await filesOf(model)
  if (!found.has(CONFIG_FILE)) {
    throw new CheckpointError(
      `${model}: holds no ${CONFIG_FILE}, so it is not a model folder. Give the folder that quantize or export wrote`,
    )
  }
  let bytes = 0
  for (const size of found.values()) bytes += size
  const files = new Map<string, UploadedFile>()
  for (const path of found.keys()) files.set(path, { path: join(model, path) })
  files.set(CARD, await cardOf(options, name, new Set(found.keys()), bytes))
  const upload = { name, files, isPrivate: options.private ?? false, message }
  const uploaded = await uploadFiles(upload, hubSettings(process.env), { onProgress, signal, patience })
  return { ...uploaded, files: [...files.keys()].sort(), bytes }
}

async function cardOf(
  options: PushModelOptions,
  { repo }: HubName,
  files: ReadonlySet<string>,
  bytes: number,
): Promise<UploadedFile> {
  const { model, card, baseModel, scores } = options
  if (card !== undefined) return { text: await readText(card) }
  const isOnnx = files.has('onnx/model.onnx')
  const own = files.has(CARD) ? await readText(join(model, CARD)) : ''
  const text = modelCard({
    repo,
    baseModel,
    license: options.license,
    matter: readCard(own).matter,
    inspection: isOnnx ? undefined : await inspectModel(model),
    bytes,
    isOnnx,
    scores: scores === undefined ? undefined : await readScores(scores),
    made: madeSection(own),
  })
  return { text }
}

async function readScores(path: string): Promise<CardScores> {
  let scores: unknown
  try {
    scores = JSON.parse(await readText(path))
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause
    throw new CheckpointError(`${path}: is no JSON; give what gptvq eval --json printed`, { cause })
  }
  const { perplexity } = (scores ?? {}) as Partial<CardScores>
  if (typeof perplexity === 'number' && Number.isFinite(perplexity)) return scores as CardScores
  throw new CheckpointError(`${path}: says no perplexity; give what gptvq eval --json printed`)
}

/** Sizes of the files of a folder, by their paths in it; what is hidden stays out. */
async function filesOf(folder: string, inside = '', depth = 0): Promise<Map<string, number>> {
  const files = new Map<string, number>()
  try {
    for (const name of (await readdir(join(folder, inside))).sort()) {
      if (name.startsWith('.')) continue
      const path = inside === '' ? name : `${inside}/${name}`
      await requireNoWayOut(folder, path)
      const found = await stat(join(folder, path))
      if (found.isFile()) files.set(path, found.size)
      else if (found.isDirectory() && depth < DEPTH) {
        for (const [own, size] of await filesOf(folder, path, depth + 1)) files.set(own, size)
      }
    }
  } catch (error) {
    throw fileError(`cannot read the folder ${folder}`, error)
  }
  return files
}

/** What is uploaded cannot be taken back: a link must not add what lies elsewhere on this machine. */
async function requireNoWayOut(folder: string, path: string): Promise<void> {
  const link = await outwardLink(folder, join(folder, path))
  if (link === undefined) return
  throw new CheckpointError(
    `${join(folder, path)}: is a link to ${link.to}, which is ${link.isBroken ? 'not there' : 'out of the folder'}. It is not ` +
      'uploaded: put the file itself in its place, or remove the link',
  )
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw fileError(`cannot read ${path}`, error)
  }
}

function requireHubName(option: string, value: string): HubName {
  const name = typeof value === 'string' ? parseHubName(value) : undefined
  if (name !== undefined) return name
  throw new OptionError(option, `expected the name of a model on the hub (org/name), got ${String(value)}`)
}
